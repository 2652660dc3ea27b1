/* transforms.json in its three dialects: nerfstudio's, instant-ngp's, and the original NeRF's from Blender. Poses are
 * camera to world with OpenGL axes (x right, y up, z back); the world stays as the file has it, whatever was applied to
 * it before (nerfstudio's applied_transform, instant-ngp's scale and offset). */
#include "camera/format_internal.h"
#include "io/json.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* --- reading --- */

/* {"transform_matrix": [[4] x 3 or 4]} */
static int read_matrix(double out[16], const swm_path_source *source, int64_t frame, const cJSON *matrix,
                       swm_error *error)
{
    const int rows = cJSON_GetArraySize(matrix);
    bool valid = cJSON_IsArray(matrix) && (rows == 3 || rows == 4);
    int i = 0;
    memset(out, 0, 16 * sizeof *out);
    out[15] = 1;
    const cJSON *row, *value;
    cJSON_ArrayForEach(row, matrix)
    {
        if (!valid || !cJSON_IsArray(row) || cJSON_GetArraySize(row) != 4) {
            valid = false;
            break;
        }
        int k = 0;
        cJSON_ArrayForEach(value, row)
        {
            valid = valid && cJSON_IsNumber(value);
            out[4 * i + k++] = value->valuedouble;
        }
        i++;
    }
    if (valid) return 0;
    return swm_format_fail(source, error, "frames[%lld].transform_matrix is no 4x4 matrix of numbers in four lists",
                           (long long)frame);
}

/* Intrinsics of a frame, which may repeat any key of the outermost object. */
typedef struct camera {
    double fl_x, fl_y, cx, cy, w, h, angle_x; /* 0: not given */
    bool centred, distorted;
} camera;

static int read_camera(camera *c, swm_json in, const camera *otherwise, swm_error *error)
{
    static const char *const distortion[] = {"k1", "k2", "k3", "k4", "k5", "k6", "p1", "p2"};
    const double o_cx = otherwise->centred ? NAN : otherwise->cx, o_cy = otherwise->centred ? NAN : otherwise->cy;
    *c = *otherwise;
    if (swm_json_number_or(in, "fl_x", 1e-9, 1e9, otherwise->fl_x, &c->fl_x, error) < 0 ||
        swm_json_number_or(in, "fl_y", 1e-9, 1e9, otherwise->fl_y, &c->fl_y, error) < 0 ||
        swm_json_number_or(in, "cx", -1e9, 1e9, o_cx, &c->cx, error) < 0 ||
        swm_json_number_or(in, "cy", -1e9, 1e9, o_cy, &c->cy, error) < 0 ||
        swm_json_number_or(in, "w", 1, 1e6, otherwise->w, &c->w, error) < 0 ||
        swm_json_number_or(in, "h", 1, 1e6, otherwise->h, &c->h, error) < 0 ||
        swm_json_number_or(in, "camera_angle_x", 1e-6, 3.14159, otherwise->angle_x, &c->angle_x, error) < 0)
        return -1;
    c->centred = isnan(c->cx) || isnan(c->cy);
    for (size_t i = 0; i < sizeof distortion / sizeof distortion[0]; i++) {
        const cJSON *value = swm_json_find(in, distortion[i]);
        c->distorted = c->distorted || (cJSON_IsNumber(value) && value->valuedouble != 0);
    }
    return 0;
}

/* fx fy cx cy in pixels; false where something is missing. */
static bool pinhole(double out[4], const camera *c)
{
    double fx = c->fl_x;
    if (fx == 0 && c->angle_x > 0 && c->w > 0) fx = c->w / 2 / tan(c->angle_x / 2);
    if (fx == 0 || (c->centred && (c->w == 0 || c->h == 0))) return false;
    out[0] = fx;
    out[1] = c->fl_y > 0 ? c->fl_y : fx;
    out[2] = c->centred ? c->w / 2 : c->cx;
    out[3] = c->centred ? c->h / 2 : c->cy;
    return true;
}

typedef struct transforms {
    const swm_path_source *source;
    const swm_path_reading *reading;
    swm_json root;
    camera shared;
    bool complete, distorted, found_size;
    double width, height;
} transforms;

static int check_lens(const transforms *t, swm_error *error)
{
    const char *lens;
    if (t->reading->poses_only) return 0;
    if (swm_json_string_or(t->root, "camera_model", "PINHOLE", &lens, error) < 0) return -1;
    static const char *const pinholes[] = {"PINHOLE", "SIMPLE_PINHOLE", "OPENCV",     "SIMPLE_RADIAL",
                                           "RADIAL",  "FULL_OPENCV",    "PERSPECTIVE"};
    for (size_t i = 0; i < sizeof pinholes / sizeof pinholes[0]; i++)
        if (strcmp(lens, pinholes[i]) == 0) return 0;
    return swm_format_fail(
        t->source, error,
        "camera_model is \"%.64s\", which no pinhole camera stands for; undistort the pictures, or take "
        "the poses alone with --poses-only",
        lens);
}

static int read_frame(swm_camera_path *path, int64_t i, const cJSON *frame, transforms *t, swm_error *error)
{
    swm_json in = {t->source->name, "frames", frame};
    if (!cJSON_IsObject(frame)) return swm_format_fail(t->source, error, "frames[%lld] is no object", (long long)i);
    if (read_matrix(path->c2w + 16 * i, t->source, i, swm_json_find(in, "transform_matrix"), error) < 0) return -1;
    const char *name;
    if (swm_json_string_or(in, "file_path", NULL, &name, error) < 0) return -1;
    if (name != NULL && (path->names[i] = swm_copy_string(error, name)) == NULL) return -1;
    if (t->reading->poses_only) return 0;
    /* Sizes that the file leaves out may come from the caller. */
    camera c;
    if (read_camera(&c, in, &t->shared, error) < 0) return -1;
    if (c.w == 0 && t->reading->width > 0) c.w = t->reading->width;
    if (c.h == 0 && t->reading->height > 0) c.h = t->reading->height;
    if (i > 0 && t->found_size && (c.w != t->width || c.h != t->height))
        return swm_format_fail(t->source, error,
                               "frames[%lld] is %gx%g and another %gx%g; a path has one size of pictures (--poses-only "
                               "leaves the intrinsics out)",
                               (long long)i, c.w, c.h, t->width, t->height);
    t->found_size = true;
    t->width = c.w;
    t->height = c.h;
    t->distorted = t->distorted || c.distorted;
    t->complete = pinhole(path->intrinsics + 4 * i, &c) && t->complete;
    return 0;
}

static void tell(const transforms *t, const swm_camera_path *path)
{
    const swm_path_reading *r = t->reading;
    if (t->distorted && !r->poses_only)
        swm_format_notice(r->notice, r->user, "%.300s: the lens distortion was left aside; a path has pinhole cameras",
                          t->source->name);
    if (path->intrinsics == NULL && !r->poses_only && t->shared.angle_x > 0)
        swm_format_notice(r->notice, r->user,
                          "%.300s: camera_angle_x gives no intrinsics without the size of the pictures; "
                          "--size WIDTHxHEIGHT settles that",
                          t->source->name);
    if (swm_json_find(t->root, "applied_transform") != NULL)
        swm_format_notice(r->notice, r->user, "%.300s: the world is kept as it stands, after applied_transform",
                          t->source->name);
}

static int read_frames(swm_camera_path *path, transforms *t, swm_error *error)
{
    const cJSON *frames = swm_json_find(t->root, "frames"), *frame;
    if (!cJSON_IsArray(frames) || cJSON_GetArraySize(frames) < 1)
        return swm_json_refuse(t->root, "frames", "a list of one frame or more", error);
    const camera nothing = {.centred = true};
    if (!t->reading->poses_only && read_camera(&t->shared, t->root, &nothing, error) < 0) return -1;
    if (check_lens(t, error) < 0) return -1;
    if (swm_camera_path_create(path, cJSON_GetArraySize(frames), false, true, true, error) < 0) return -1;
    t->complete = true;
    int64_t i = 0;
    cJSON_ArrayForEach(frame, frames)
    {
        if (read_frame(path, i++, frame, t, error) < 0) return -1;
    }
    const bool whole = t->width == floor(t->width) && t->height == floor(t->height);
    if (!whole)
        return swm_format_fail(t->source, error, "w and h are %g and %g; expected whole numbers", t->width, t->height);
    if (t->width > 0 && t->height > 0) {
        path->width = (int)t->width;
        path->height = (int)t->height;
    }
    bool all_named = true;
    for (i = 0; i < path->count; i++) all_named = all_named && path->names[i] != NULL;
    for (i = 0; !all_named && i < path->count; i++) free(path->names[i]);
    if (!all_named) {
        free(path->names);
        path->names = NULL;
    }
    if (!t->complete || t->reading->poses_only) {
        free(path->intrinsics);
        path->intrinsics = NULL;
    }
    tell(t, path);
    return 0;
}

int swm_transforms_read(swm_camera_path *path, const swm_path_source *sources, int count,
                        const swm_path_reading *reading, swm_error *error)
{
    (void)count;
    transforms t = {.source = &sources[0], .reading = reading};
    if (sources[0].size > FORMAT_JSON_LIMIT)
        return swm_format_fail(&sources[0], error, "has %zu bytes; at most %d of JSON are read", sources[0].size,
                               FORMAT_JSON_LIMIT);
    cJSON *tree = swm_json_parse(sources[0].name, sources[0].data, sources[0].size, error);
    if (tree == NULL) return -1;
    int status = swm_json_root(&t.root, sources[0].name, tree, error);
    if (status == 0) status = read_frames(path, &t, error);
    cJSON_Delete(tree);
    return status;
}

/* --- writing --- */

static void put_pair(FILE *out, const char *indent, const char *key, double value)
{
    fprintf(out, "%s\"%s\": ", indent, key);
    swm_format_write_number(out, value);
    fputs(",\n", out);
}

static void put_intrinsics(FILE *out, const char *indent, const double k[4])
{
    static const char *const keys[4] = {"fl_x", "fl_y", "cx", "cy"};
    for (int i = 0; i < 4; i++) put_pair(out, indent, keys[i], k[i]);
}

/* `own` intrinsics stand in the frame. */
static int put_frame(FILE *out, const swm_camera_path *path, int64_t i, swm_path_format dialect, bool own,
                     swm_error *error)
{
    char *name = swm_format_name(path, i, "images/", error);
    if (name == NULL) return -1;
    /* Readers of the original format add the ending themselves. */
    char *dot = strrchr(name, '.');
    if (dialect == SWM_PATH_BLENDER && dot != NULL && strcmp(dot, ".png") == 0) *dot = '\0';
    fprintf(out, "%s    {\n      \"file_path\": ", i > 0 ? ",\n" : "");
    swm_format_write_string(out, name);
    fputs(",\n", out);
    free(name);
    if (own) put_intrinsics(out, "      ", path->intrinsics + 4 * i);
    fputs("      \"transform_matrix\": [", out);
    for (int row = 0; row < 4; row++) {
        fputs(row > 0 ? ", [" : "[", out);
        swm_format_write_numbers(out, path->c2w + 16 * i + 4 * row, 4, ", ");
        fputc(']', out);
    }
    fputs("]\n    }", out);
    return 0;
}

static int put_transforms(FILE *out, const swm_camera_path *path, swm_path_format dialect, swm_error *error)
{
    const double *k = path->intrinsics;
    const bool shared = swm_format_shared_intrinsics(path), own = dialect != SWM_PATH_BLENDER && !shared;
    fputs("{\n", out);
    if (dialect == SWM_PATH_NERFSTUDIO) fputs("  \"camera_model\": \"OPENCV\",\n", out);
    if (dialect != SWM_PATH_NERFSTUDIO) put_pair(out, "  ", "camera_angle_x", 2 * atan(path->width / 2.0 / k[0]));
    if (dialect == SWM_PATH_INSTANT_NGP) put_pair(out, "  ", "camera_angle_y", 2 * atan(path->height / 2.0 / k[1]));
    if (dialect != SWM_PATH_BLENDER && shared) put_intrinsics(out, "  ", k);
    put_pair(out, "  ", "w", path->width);
    put_pair(out, "  ", "h", path->height);
    if (dialect != SWM_PATH_BLENDER) {
        static const char *const distortion[] = {"k1", "k2", "p1", "p2"};
        for (int i = 0; i < 4; i++) put_pair(out, "  ", distortion[i], 0);
    }
    if (dialect == SWM_PATH_INSTANT_NGP) put_pair(out, "  ", "aabb_scale", 16);
    fputs("  \"frames\": [\n", out);
    for (int64_t i = 0; i < path->count; i++)
        if (put_frame(out, path, i, dialect, own, error) < 0) return -1;
    fputs("\n  ]\n}\n", out);
    return 0;
}

static int check_writable(const swm_camera_path *path, const char *place, swm_path_format dialect, swm_error *error)
{
    const char *title = swm_path_format_title(dialect);
    if (path->intrinsics == NULL)
        return swm_fail(error,
                        "%.300s: %s needs intrinsics, and the path has none; say --fov and --size, or --intrinsics",
                        place, title);
    if (path->width < 1)
        return swm_fail(error, "%.300s: %s needs the size of the pictures; say --size WIDTHxHEIGHT", place, title);
    if (dialect != SWM_PATH_BLENDER) return 0;
    const double *k = path->intrinsics;
    const double slack = 1e-6 * (path->width + path->height);
    if (!swm_format_shared_intrinsics(path) || fabs(k[0] - k[1]) > 1e-6 * k[0] ||
        fabs(k[2] - path->width / 2.0) > slack || fabs(k[3] - path->height / 2.0) > slack)
        return swm_fail(error,
                        "%.300s: %s has one camera_angle_x and no principal point, and the intrinsics (%g %g %g %g in "
                        "%dx%d, or changing) are not centred and square; write --to instant-ngp or --to nerfstudio",
                        place, title, k[0], k[1], k[2], k[3], path->width, path->height);
    return 0;
}

static int write_transforms(const swm_camera_path *path, const char *place, swm_path_format dialect, swm_error *error)
{
    format_text text;
    if (check_writable(path, place, dialect, error) < 0 || swm_format_text_open(&text, error) < 0) return -1;
    if (put_transforms(text.stream, path, dialect, error) < 0) {
        fclose(text.stream);
        free(text.data);
        return -1;
    }
    return swm_format_text_save(&text, NULL, place, error);
}

int swm_nerfstudio_write(const swm_camera_path *path, const char *place, const swm_path_writing *writing,
                         swm_error *error)
{
    (void)writing;
    return write_transforms(path, place, SWM_PATH_NERFSTUDIO, error);
}

int swm_instant_ngp_write(const swm_camera_path *path, const char *place, const swm_path_writing *writing,
                          swm_error *error)
{
    (void)writing;
    return write_transforms(path, place, SWM_PATH_INSTANT_NGP, error);
}

int swm_blender_write(const swm_camera_path *path, const char *place, const swm_path_writing *writing, swm_error *error)
{
    (void)writing;
    return write_transforms(path, place, SWM_PATH_BLENDER, error);
}
