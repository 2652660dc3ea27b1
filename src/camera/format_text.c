/* Camera paths as lines of numbers: TUM, KITTI, RealEstate10K and CameraCtrl. Axes are OpenCV's in all of them. */
#include "camera/format_internal.h"
#include "camera/resample.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* --- reading --- */

enum { TUM_NUMBERS = 8, KITTI_NUMBERS = 12, REALESTATE_NUMBERS = 19 };

/* Read the next data line of exactly `count` numbers: 1, 0 at the end, -1 on failure. */
static int next_row(format_lines *lines, const swm_path_source *source, double *values, int count, const char *expected,
                    swm_error *error)
{
    const char *rest;
    const int status = swm_format_next_data(lines, error);
    if (status != 1) return status;
    const int found = swm_format_numbers(lines->text, values, count, &rest);
    if (found == count && *rest == '\0') return 1;
    if (*rest != '\0')
        return swm_format_fail(source, error, "line %lld has \"%.40s\" behind %d numbers; expected %s", lines->number,
                               rest, found, expected);
    return swm_format_fail(source, error, "line %lld has %d numbers; expected %s", lines->number, found, expected);
}

/* Room for all lines; `count` is settled when they have been read. */
static int prepare(swm_camera_path *path, const swm_path_source *source, bool times, bool intrinsics, int64_t *most,
                   swm_error *error)
{
    swm_error cause = {0};
    *most = swm_format_count_lines(source);
    if (swm_camera_path_create(path, *most, times, intrinsics, false, &cause) == 0) return 0;
    return swm_format_fail(source, error, "%s", cause.text);
}

static int finish(swm_camera_path *path, const swm_path_source *source, int64_t count, swm_error *error)
{
    if (count < 1) return swm_format_fail(source, error, "holds no poses");
    path->count = count;
    return 0;
}

static int too_short(const swm_path_source *source, const format_lines *lines, swm_error *error)
{
    return swm_format_fail(source, error, "line %lld is too short for a pose", lines->number);
}

int swm_tum_read(swm_camera_path *path, const swm_path_source *sources, int count, const swm_path_reading *reading,
                 swm_error *error)
{
    (void)count;
    (void)reading;
    const swm_path_source *source = &sources[0];
    format_lines lines = swm_format_lines(source);
    int64_t most, n = 0;
    double v[TUM_NUMBERS];
    int status;
    if (prepare(path, source, true, false, &most, error) < 0) return -1;
    while ((status = next_row(&lines, source, v, TUM_NUMBERS, "time tx ty tz qx qy qz qw", error)) == 1) {
        const double q[4] = {v[7], v[4], v[5], v[6]};
        const double norm = sqrt(q[0] * q[0] + q[1] * q[1] + q[2] * q[2] + q[3] * q[3]);
        if (n == most) return too_short(source, &lines, error);
        if (!(fabs(norm - 1) < 1e-2))
            return swm_format_fail(source, error,
                                   "line %lld has a quaternion of length %g; expected 1, in the order qx qy qz qw",
                                   lines.number, norm);
        double *p = path->c2w + 16 * n;
        swm_quaternion_to_pose(p, q);
        for (int axis = 0; axis < 3; axis++) p[4 * axis + 3] = v[1 + axis];
        p[15] = 1;
        path->times[n++] = v[0];
    }
    return status < 0 ? -1 : finish(path, source, n, error);
}

int swm_kitti_read(swm_camera_path *path, const swm_path_source *sources, int count, const swm_path_reading *reading,
                   swm_error *error)
{
    (void)count;
    (void)reading;
    const swm_path_source *source = &sources[0];
    format_lines lines = swm_format_lines(source);
    int64_t most, n = 0;
    double v[KITTI_NUMBERS];
    int status;
    if (prepare(path, source, false, false, &most, error) < 0) return -1;
    while ((status = next_row(&lines, source, v, KITTI_NUMBERS, "the 12 of a 3x4 matrix", error)) == 1) {
        if (n == most) return too_short(source, &lines, error);
        memcpy(path->c2w + 16 * n, v, sizeof v);
        path->c2w[16 * n++ + 15] = 1;
    }
    return status < 0 ? -1 : finish(path, source, n, error);
}

/* Microseconds in RealEstate10K. Other programs leave zeros or count frames there, which are no times. */
static void settle_times(swm_camera_path *path, const swm_path_source *source, const swm_path_reading *r)
{
    bool rising = true, counting = path->count > 1;
    for (int64_t i = 0; i < path->count; i++) {
        rising = rising && (i == 0 || path->times[i] > path->times[i - 1]);
        counting = counting && path->times[i] == path->times[0] + (double)i;
    }
    if (rising && !counting) {
        for (int64_t i = 0; i < path->count; i++) path->times[i] *= 1e-6;
        return;
    }
    free(path->times);
    path->times = NULL;
    if (path->count > 1)
        swm_format_notice(r->notice, r->user, "%.300s: the first column is no time in microseconds and was left aside",
                          source->name);
}

/* Line 1 is the address of the video, which some leave out. */
static int skip_address(format_lines *lines, swm_error *error)
{
    const format_lines start = *lines;
    double value;
    const char *rest;
    const int status = swm_format_next_data(lines, error);
    if (status == 1 && swm_format_numbers(lines->text, &value, 1, &rest) == 1) *lines = start;
    return status < 0 ? -1 : 0;
}

int swm_realestate_read(swm_camera_path *path, const swm_path_source *sources, int count,
                        const swm_path_reading *reading, swm_error *error)
{
    (void)count;
    static const char expected[] = "19: time, fx fy cx cy, two zeros, and the 12 of a 3x4 matrix";
    const swm_path_source *source = &sources[0];
    format_lines lines = swm_format_lines(source);
    int64_t most, n = 0;
    double v[REALESTATE_NUMBERS];
    bool distorted = false;
    int status;
    if (prepare(path, source, true, true, &most, error) < 0 || skip_address(&lines, error) < 0) return -1;
    while ((status = next_row(&lines, source, v, REALESTATE_NUMBERS, expected, error)) == 1) {
        if (n == most) return too_short(source, &lines, error);
        if (v[1] > 20 && !reading->poses_only)
            return swm_format_fail(
                source, error,
                "line %lld has the focal length %g; expected a fraction of the picture's width, about 0.5 to 2 "
                "(--poses-only leaves the intrinsics out)",
                lines.number, v[1]);
        distorted = distorted || v[5] != 0 || v[6] != 0;
        path->times[n] = v[0];
        memcpy(path->intrinsics + 4 * n, v + 1, 4 * sizeof *v);
        memcpy(path->c2w + 16 * n, v + 7, 12 * sizeof *v);
        path->c2w[16 * n++ + 15] = 1;
    }
    if (status < 0 || finish(path, source, n, error) < 0) return -1;
    path->fractions = true;
    settle_times(path, source, reading);
    if (distorted && !reading->poses_only)
        swm_format_notice(reading->notice, reading->user,
                          "%.300s: the lens distortion was left aside; a path has pinhole cameras", source->name);
    return 0;
}

/* --- writing --- */

static void tell_rate(const swm_camera_path *path, const char *place, const swm_path_writing *w)
{
    if (path->times != NULL || path->fps > 0) return;
    swm_format_notice(w->notice, w->user, "%.300s: the path has no times; 16 frames a second were written (--in-fps)",
                      place);
}

int swm_tum_write(const swm_camera_path *path, const char *place, const swm_path_writing *writing, swm_error *error)
{
    format_text text;
    if (swm_format_text_open(&text, error) < 0) return -1;
    fputs("# time tx ty tz qx qy qz qw\n", text.stream);
    for (int64_t i = 0; i < path->count; i++) {
        const double *p = path->c2w + 16 * i;
        double q[4];
        swm_quaternion_from_pose(q, p);
        const double row[TUM_NUMBERS] = {swm_format_time(path, i), p[3], p[7], p[11], q[1], q[2], q[3], q[0]};
        swm_format_write_numbers(text.stream, row, TUM_NUMBERS, " ");
        fputc('\n', text.stream);
    }
    tell_rate(path, place, writing);
    return swm_format_text_save(&text, NULL, place, error);
}

int swm_kitti_write(const swm_camera_path *path, const char *place, const swm_path_writing *writing, swm_error *error)
{
    (void)writing;
    format_text text;
    if (swm_format_text_open(&text, error) < 0) return -1;
    for (int64_t i = 0; i < path->count; i++) {
        swm_format_write_numbers(text.stream, path->c2w + 16 * i, KITTI_NUMBERS, " ");
        fputc('\n', text.stream);
    }
    return swm_format_text_save(&text, NULL, place, error);
}

int swm_realestate_write(const swm_camera_path *path, const char *place, const swm_path_writing *writing,
                         swm_error *error)
{
    if (path->intrinsics == NULL)
        return swm_fail(error,
                        "%.300s: RealEstate10K needs intrinsics, and the path has none; say --fov and --size, or "
                        "--intrinsics",
                        place);
    if (!path->fractions && path->width < 1)
        return swm_fail(
            error, "%.300s: RealEstate10K has intrinsics as fractions of the picture; say --size WIDTHxHEIGHT", place);
    format_text text;
    if (swm_format_text_open(&text, error) < 0) return -1;
    fputs("sana-wm.c\n", text.stream); /* where the address of the video stands */
    for (int64_t i = 0; i < path->count; i++) {
        double row[REALESTATE_NUMBERS] = {nearbyint(swm_format_time(path, i) * 1e6)};
        for (int k = 0; k < 4; k++) {
            const double side = path->fractions ? 1 : k % 2 == 0 ? path->width : path->height;
            row[1 + k] = path->intrinsics[4 * i + k] / side;
        }
        memcpy(row + 7, path->c2w + 16 * i, 12 * sizeof *row);
        fprintf(text.stream, "%.0f ", row[0]);
        swm_format_write_numbers(text.stream, row + 1, REALESTATE_NUMBERS - 1, " ");
        fputc('\n', text.stream);
    }
    tell_rate(path, place, writing);
    return swm_format_text_save(&text, NULL, place, error);
}
