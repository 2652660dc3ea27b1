/* What the readers and writers of camera path formats share. Readers fill a path with the matrices of the file as they
 * stand; formats.c turns them to the one convention in memory, and back before a writer sees them. */
#ifndef SWM_FORMAT_INTERNAL_H
#define SWM_FORMAT_INTERNAL_H

#include "camera/formats.h"
#include "io/npy.h"

#include <stdio.h>

enum {
    FORMAT_JSON_LIMIT = 64 << 20, /* bytes; a parsed tree takes 40 times as much */
    FORMAT_LINE_LIMIT = 4096      /* bytes of a line that is read */
};

/* --- conventions --- */

typedef struct axes {
    double from_opencv[3][3]; /* columns: OpenCV's axes in the axes of the file */
    char letters[4];
} axes;

typedef struct flips {
    double camera[3], world[3];
} flips;

/* The convention that a file is in, all choices made. */
typedef struct convention {
    axes axes;
    bool w2c;
    flips flips;
} convention;

/* `axes` by name or letters; `flip` as in swm_path_reading. */
int swm_convention_settle(convention *c, const char *axes, bool w2c, const char *flip, swm_error *error);
/* "camera to world, camera axes x right, y down, z forward" */
void swm_convention_describe(char text[160], const convention *c);
/* One matrix of a file to memory, in place, refusing what is no pose. */
int swm_convention_take(double pose[16], int64_t frame, const convention *c, swm_error *error);
/* And back. */
void swm_convention_give(double pose[16], const convention *c);

/* --- lines and numbers --- */

/* One line of text formats, cut into numbers. */
typedef struct format_lines {
    const char *file;
    const uint8_t *at, *end;
    long long number; /* of the line last read, from 1 */
    char text[FORMAT_LINE_LIMIT + 1];
} format_lines;

format_lines swm_format_lines(const swm_path_source *source);
/* The next line, blank ones included, without its line end, into `text`: 1, 0 at the end, -1 when it is too long or
 * holds a NUL. */
int swm_format_next_line(format_lines *lines, swm_error *error);
/* The same without blank lines and lines that begin with '#'. */
int swm_format_next_data(format_lines *lines, swm_error *error);
void swm_format_skip_line(format_lines *lines);
/* At most so many data lines; bounded by the size of the file. */
int64_t swm_format_count_lines(const swm_path_source *source);
/* Numbers at the start of `text`: how many there are, at most `capacity`. *rest is what follows them. */
int swm_format_numbers(const char *text, double *values, int capacity, const char **rest);

/* "%.300s: ..." with the name of the source in front. */
int swm_format_fail(const swm_path_source *source, swm_error *error, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
void swm_format_notice(void (*notice)(void *, const char *), void *user, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/* The shortest decimal that reads back the same; "-0" becomes "0". */
void swm_format_write_number(FILE *out, double value);
/* Numbers with a separator between them. */
void swm_format_write_numbers(FILE *out, const double *values, int count, const char *separator);

/* A string of JSON, quotes included. */
void swm_format_write_string(FILE *out, const char *text);

/* Intrinsics of a path from an array in any of the shapes of swm_intrinsics_from_array, with its rules. */
int swm_format_take_intrinsics(swm_camera_path *path, const char *file, const swm_array *array, swm_error *error);
/* All poses have the same intrinsics. */
bool swm_format_shared_intrinsics(const swm_camera_path *path);
/* Seconds of a pose: its own time, or counted at the path's fps, at 16 when that is not known. */
double swm_format_time(const swm_camera_path *path, int64_t index);
/* Name of a picture in fresh memory: the path's own or a number; with `directory` in front where it has none, or taken
 * away for NULL. */
char *swm_format_name(const swm_camera_path *path, int64_t index, const char *directory, swm_error *error);

/* Text in the making: open_memstream, then a file that appears whole. */
typedef struct format_text {
    FILE *stream;
    char *data;
    size_t size;
} format_text;
int swm_format_text_open(format_text *text, swm_error *error);
int swm_format_text_save(format_text *text, const char *directory, const char *name, swm_error *error);

typedef int format_reader(swm_camera_path *path, const swm_path_source *sources, int count,
                          const swm_path_reading *reading, swm_error *error);
typedef int format_writer(const swm_camera_path *path, const char *place, const swm_path_writing *writing,
                          swm_error *error);
format_reader swm_npy_path_read, swm_npz_path_read, swm_pair_path_read, swm_colmap_text_read, swm_colmap_binary_read,
    swm_transforms_read, swm_tum_read, swm_kitti_read, swm_realestate_read, swm_path_json_read;
format_writer swm_npy_path_write, swm_npz_path_write, swm_pair_path_write, swm_colmap_text_write,
    swm_colmap_binary_write, swm_nerfstudio_write, swm_instant_ngp_write, swm_blender_write, swm_tum_write,
    swm_kitti_write, swm_realestate_write, swm_path_json_write;

/* Which of the JSON formats a text is; GUESS with a message when it is none. */
swm_path_format swm_format_guess_json(const swm_path_source *source, swm_error *error);

#endif
