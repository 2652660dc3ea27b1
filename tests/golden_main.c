/* The golden comparer as a program: one line a tensor, exit status 1 when one is out of bounds or a file cannot be run. */
#include "golden.h"

#include <string.h>

static int usage(void)
{
    fprintf(stderr, "usage: golden [--device cpu|cuda] [--dtype f32|bf16] [--only TENSOR] DIRECTORY|FILE...\n");
    return 2;
}

static void check(const char *path, const golden_options *options, golden_totals *totals)
{
    size_t length = strlen(path);
    if (length > 12 && strcmp(path + length - 12, ".safetensors") == 0)
        golden_check_file(path, options, totals);
    else
        golden_check_directory(path, options, totals);
}

int main(int argc, char **argv)
{
    golden_options options = {.device = "cpu", .compute = SWM_F32, .lines = stdout};
    const char *paths[64];
    int count = 0;
    for (int i = 1; i < argc; i++) {
        if (strcmp(argv[i], "--device") == 0 && i + 1 < argc)
            options.device = argv[++i];
        else if (strcmp(argv[i], "--dtype") == 0 && i + 1 < argc && strcmp(argv[i + 1], "f32") == 0)
            options.compute = SWM_F32, i++;
        else if (strcmp(argv[i], "--dtype") == 0 && i + 1 < argc && strcmp(argv[i + 1], "bf16") == 0)
            options.compute = SWM_BF16, i++;
        else if (strcmp(argv[i], "--only") == 0 && i + 1 < argc)
            options.only = argv[++i];
        else if (argv[i][0] == '-' || count == sizeof paths / sizeof *paths)
            return usage();
        else
            paths[count++] = argv[i];
    }
    if (count == 0) return usage();
    golden_totals totals = {0};
    setvbuf(stdout, NULL, _IOLBF, 0); /* a slow run shows where it is */
    printf("%-36s %-32s %9s %9s  %-12s %s\n", "file", "tensor", "relative", "largest", "bound", "verdict");
    for (int i = 0; i < count; i++) check(paths[i], &options, &totals);
    printf("%d within bounds, %d out of bounds, %d files not run\n", totals.within, totals.outside, totals.failed);
    if (options.only != NULL && totals.within + totals.outside == 0) {
        fprintf(stderr, "no file has a result %s\n", options.only);
        return 1;
    }
    if (!golden_passed(&totals)) fprintf(stderr, "%s\n", totals.complaint.text);
    return golden_passed(&totals) ? 0 : 1;
}
