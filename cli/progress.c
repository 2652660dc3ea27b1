/* Implements progress.h. */
#include "progress.h"

#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "console.h"

enum { LINE_LIMIT = 256, BAR = 24 };

static int terminal_columns(void)
{
    struct winsize size;
    return ioctl(STDERR_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col > 0 ? size.ws_col : 80;
}

void cli_progress_start(cli_progress *progress, bool quiet, bool with_preview)
{
    *progress = (cli_progress){.quiet = quiet, .terminal = isatty(STDERR_FILENO) == 1};
    if (progress->terminal && !quiet && with_preview) cli_preview_start(&progress->preview, terminal_columns());
}

/* "denoise  [#####...] 12/60  20%  1:03, 4:10 left", shortened from the right to what the terminal has room for. */
static void draw_line(const swm_progress *now)
{
    char line[LINE_LIMIT], bar[BAR + 1], left[64] = "";
    const bool counted = now->steps > 0;
    const int step = !counted ? 0 : now->step < now->steps ? now->step : now->steps;
    const int filled = counted ? (int)((int64_t)step * BAR / now->steps) : 0;
    for (int i = 0; i < BAR; i++) bar[i] = i < filled ? '#' : '.';
    bar[BAR] = '\0';
    if (now->remaining >= 0) snprintf(left, sizeof left, ", %s left", cli_duration(now->remaining).text);
    const cli_text elapsed = cli_duration(now->seconds);
    char counts[48] = "";
    if (counted)
        snprintf(counts, sizeof counts, "%d/%d %3d%%  ", step, now->steps, (int)((int64_t)step * 100 / now->steps));
    const int columns = terminal_columns();
    snprintf(line, sizeof line, "%-8.16s [%s] %s%s%s", now->stage, bar, counts, elapsed.text, left);
    if ((int)strlen(line) >= columns)
        snprintf(line, sizeof line, "%-8.16s %s%s%s", now->stage, counts, elapsed.text, left);
    fprintf(stderr, "\r\033[K%.*s", columns > 1 ? columns - 1 : 0, line);
    fflush(stderr);
}

static void print_stage(const swm_progress *now)
{
    if (now->steps > 0)
        fprintf(stderr, "%s: %d steps (%s so far)\n", now->stage, now->steps, cli_duration(now->seconds).text);
    else
        fprintf(stderr, "%s (%s so far)\n", now->stage, cli_duration(now->seconds).text);
}

void cli_progress_show(cli_progress *progress, const swm_progress *now)
{
    const bool new_stage = progress->stage == NULL || strcmp(progress->stage, now->stage) != 0;
    progress->stage = now->stage;
    if (progress->quiet) return;
    if (!progress->terminal) {
        if (new_stage) print_stage(now);
        return;
    }
    if (now->preview != NULL) {
        cli_progress_clear(progress);
        cli_preview_show(&progress->preview, now->preview, now->preview_width, now->preview_height);
    }
    draw_line(now);
    progress->line_drawn = true;
}

void cli_progress_clear(cli_progress *progress)
{
    if (!progress->line_drawn) return;
    fputs("\r\033[K", stderr);
    fflush(stderr);
    progress->line_drawn = false;
}
