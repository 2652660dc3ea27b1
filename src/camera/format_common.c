/* Lines, numbers, names and notices for the readers and writers of camera path formats. See format_internal.h. */
#include "camera/format_internal.h"
#include "core/file.h"

#include <errno.h>
#include <math.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

static const double DEFAULT_FPS = 16;

/* --- messages --- */

int swm_format_fail(const swm_path_source *source, swm_error *error, const char *format, ...)
{
    char text[700];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    return swm_fail(error, "%.300s: %s", source->name, text);
}

void swm_format_notice(void (*notice)(void *, const char *), void *user, const char *format, ...)
{
    if (notice == NULL) return;
    swm_error line = {0}; /* for its cleaning of control characters */
    char text[900];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    swm_fail(&line, "%s", text);
    notice(user, line.text);
}

/* --- lines --- */

format_lines swm_format_lines(const swm_path_source *source)
{
    const uint8_t *data = source->data;
    format_lines lines = {.file = source->name, .at = data, .end = data + source->size};
    if (source->size >= 3 && memcmp(data, "\xef\xbb\xbf", 3) == 0) lines.at += 3; /* a byte order mark */
    return lines;
}

static const uint8_t *line_end(const format_lines *lines)
{
    const uint8_t *newline = memchr(lines->at, '\n', (size_t)(lines->end - lines->at));
    return newline != NULL ? newline : lines->end;
}

void swm_format_skip_line(format_lines *lines)
{
    if (lines->at >= lines->end) return;
    const uint8_t *end = line_end(lines);
    lines->at = end < lines->end ? end + 1 : end;
    lines->number++;
}

int swm_format_next_line(format_lines *lines, swm_error *error)
{
    if (lines->at >= lines->end) return 0;
    const uint8_t *end = line_end(lines);
    size_t size = (size_t)(end - lines->at);
    lines->number++;
    if (size > FORMAT_LINE_LIMIT)
        return swm_fail(error, "%.300s: line %lld is longer than %d characters; this is no text of camera poses",
                        lines->file, lines->number, FORMAT_LINE_LIMIT);
    if (memchr(lines->at, '\0', size) != NULL)
        return swm_fail(error, "%.300s: line %lld holds a NUL; this is no text", lines->file, lines->number);
    while (size > 0 && strchr(" \t\r", lines->at[size - 1]) != NULL) size--;
    memcpy(lines->text, lines->at, size);
    lines->text[size] = '\0';
    lines->at = end < lines->end ? end + 1 : end;
    return 1;
}

int swm_format_next_data(format_lines *lines, swm_error *error)
{
    for (;;) {
        const int status = swm_format_next_line(lines, error);
        if (status <= 0) return status;
        const char first = lines->text[strspn(lines->text, " \t")];
        if (first != '\0' && first != '#') return 1;
    }
}

int64_t swm_format_count_lines(const swm_path_source *source)
{
    enum { SHORTEST = 15 }; /* eight numbers of a digit, and their spaces */
    format_lines lines = swm_format_lines(source);
    int64_t count = 0;
    while (lines.at < lines.end) {
        const uint8_t *begin = lines.at;
        count += line_end(&lines) - begin >= SHORTEST && *begin != '#';
        swm_format_skip_line(&lines);
    }
    return count;
}

int swm_format_numbers(const char *text, double *values, int capacity, const char **rest)
{
    int count = 0;
    text += strspn(text, " \t");
    while (*text != '\0' && count < capacity) {
        const size_t size = strcspn(text, " \t");
        /* strtod alone would take "nan", "inf" and hexadecimal too. */
        if (strspn(text, "0123456789+-.eE") < size) break;
        char *end;
        const double value = strtod(text, &end);
        if (end != text + size || !isfinite(value)) break;
        values[count++] = value;
        text = end + strspn(end, " \t");
    }
    *rest = text;
    return count;
}

/* --- writing --- */

void swm_format_write_number(FILE *out, double value)
{
    char text[32];
    for (int digits = 15; digits <= 17; digits++) {
        snprintf(text, sizeof text, "%.*g", digits, value);
        if (strtod(text, NULL) == value) break;
    }
    fputs(value == 0 ? "0" : text, out);
}

void swm_format_write_numbers(FILE *out, const double *values, int count, const char *separator)
{
    for (int i = 0; i < count; i++) {
        if (i > 0) fputs(separator, out);
        swm_format_write_number(out, values[i]);
    }
}

void swm_format_write_string(FILE *out, const char *text)
{
    fputc('"', out);
    for (; *text != '\0'; text++) {
        if (*text == '"' || *text == '\\') fputc('\\', out);
        if ((unsigned char)*text < 0x20)
            fprintf(out, "\\u%04x", (unsigned)(unsigned char)*text);
        else
            fputc(*text, out);
    }
    fputc('"', out);
}

int swm_format_text_open(format_text *text, swm_error *error)
{
    *text = (format_text){0};
    text->stream = open_memstream(&text->data, &text->size);
    return text->stream != NULL ? 0 : swm_fail(error, "out of memory for a text: %s", strerror(errno));
}

int swm_format_text_save(format_text *text, const char *directory, const char *name, swm_error *error)
{
    const bool complete = ferror(text->stream) == 0;
    int status =
        fclose(text->stream) == 0 && complete ? 0 : swm_fail(error, "out of memory for the text of %.300s", name);
    char *path = status < 0          ? NULL
                 : directory != NULL ? swm_path_join(error, directory, name)
                                     : swm_copy_string(error, name);
    status = path != NULL ? swm_file_write(path, text->data, text->size, error) : -1;
    free(path);
    free(text->data);
    *text = (format_text){0};
    return status;
}

/* --- paths --- */

/* Entry of frame j out of `frames` when n entries, 1 < n < frames, are spread evenly from the first to the last. */
static void stretch(double out[4], const double *values, int64_t n, int64_t j, int64_t frames)
{
    const double position = (double)j * (double)(n - 1) / (double)(frames - 1);
    const int64_t at = swm_min((int64_t)position, n - 2);
    for (int i = 0; i < 4; i++) {
        const double a = values[4 * at + i], b = values[4 * at + 4 + i];
        out[i] = a + (b - a) * (position - (double)at);
    }
}

int swm_format_take_intrinsics(swm_camera_path *path, const char *file, const swm_array *array, swm_error *error)
{
    static const int in_matrix[4] = {0, 4, 2, 5};
    const int rank = array->rank;
    const int64_t *shape = array->shape;
    const bool vector = rank == 1 && shape[0] == 4, matrix = rank == 2 && shape[0] == 3 && shape[1] == 3;
    const bool vectors = rank == 2 && shape[1] == 4 && shape[0] >= 1;
    const bool matrices = rank == 3 && shape[1] == 3 && shape[2] == 3 && shape[0] >= 1;
    if (!vector && !matrix && !vectors && !matrices)
        return swm_fail(error,
                        "%.300s: intrinsics have %d dimensions%s; expected (4) fx fy cx cy, (3,3), (frames,4) or "
                        "(frames,3,3)",
                        file, rank, rank > 0 ? " of another size" : "");
    const int64_t n = vector || matrix ? 1 : shape[0];
    double *values = swm_allocate(error, (size_t)n, 4 * sizeof(double));
    path->intrinsics = swm_allocate(error, (size_t)path->count, 4 * sizeof(double));
    if (values == NULL || path->intrinsics == NULL) {
        free(values);
        return -1;
    }
    for (int64_t i = 0; i < n; i++)
        for (int k = 0; k < 4; k++)
            values[4 * i + k] = matrix || matrices ? array->values[9 * i + in_matrix[k]] : array->values[4 * i + k];
    for (int64_t j = 0; j < path->count; j++) {
        double *out = path->intrinsics + 4 * j;
        if (n > 1 && n < path->count)
            stretch(out, values, n, j, path->count);
        else
            memcpy(out, values + (n == 1 ? 0 : 4 * j), 4 * sizeof *out);
    }
    free(values);
    return 0;
}

bool swm_format_shared_intrinsics(const swm_camera_path *path)
{
    for (int64_t i = 1; path->intrinsics != NULL && i < path->count; i++)
        if (memcmp(path->intrinsics, path->intrinsics + 4 * i, 4 * sizeof(double)) != 0) return false;
    return true;
}

double swm_format_time(const swm_camera_path *path, int64_t index)
{
    if (path->times != NULL) return path->times[index];
    return (double)index / (path->fps > 0 ? path->fps : DEFAULT_FPS);
}

char *swm_format_name(const swm_camera_path *path, int64_t index, const char *directory, swm_error *error)
{
    const char *name = path->names != NULL ? path->names[index] : NULL;
    char number[32];
    snprintf(number, sizeof number, "%06lld.png", (long long)index);
    if (name == NULL) name = number;
    if (strncmp(name, "./", 2) == 0) name += 2;
    if (directory == NULL) return swm_copy_string(error, strncmp(name, "images/", 7) == 0 ? name + 7 : name);
    return swm_format(error, "%s%s", strchr(name, '/') == NULL ? directory : "", name);
}
