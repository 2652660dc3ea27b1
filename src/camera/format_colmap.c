/* COLMAP models, text and binary: cameras and images. Poses are world to camera with OpenCV axes; the points are
 * neither read nor written. Lens distortion is left aside with a notice, fisheye and panoramic lenses are refused. */
#include "camera/format_internal.h"
#include "camera/resample.h"
#include "core/file.h"

#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

/* COLMAP's camera models by their numbers. One focal length or two, then the principal point, then distortion. */
typedef struct lens {
    const char *name;
    int parameters;
    bool one_focal, pinhole; /* pinhole: what is left without the distortion */
} lens;

static const lens LENSES[] = {
    {"SIMPLE_PINHOLE", 3, true, true},
    {"PINHOLE", 4, false, true},
    {"SIMPLE_RADIAL", 4, true, true},
    {"RADIAL", 5, true, true},
    {"OPENCV", 8, false, true},
    {"OPENCV_FISHEYE", 8, false, false},
    {"FULL_OPENCV", 12, false, true},
    {"FOV", 5, false, false},
    {"SIMPLE_RADIAL_FISHEYE", 4, true, false},
    {"RADIAL_FISHEYE", 5, true, false},
    {"THIN_PRISM_FISHEYE", 12, false, false},
    {"RAD_TAN_THIN_PRISM_FISHEYE", 16, false, false},
};
enum { LENS_COUNT = sizeof LENSES / sizeof LENSES[0], LENS_PARAMETERS = 16, PINHOLE = 1 };

typedef struct camera {
    uint64_t id, width, height;
    int lens;
    double parameters[LENS_PARAMETERS];
} camera;

typedef struct model {
    const swm_path_source *cameras_file, *images_file;
    const swm_path_reading *reading;
    camera *cameras;
    int64_t camera_count;
    int64_t *camera_of; /* (path->count) index into cameras */
} model;

static int by_id(const void *a, const void *b)
{
    const camera *x = a, *y = b;
    return x->id < y->id ? -1 : x->id > y->id;
}

static int sort_cameras(model *m, swm_error *error)
{
    qsort(m->cameras, (size_t)m->camera_count, sizeof *m->cameras, by_id);
    for (int64_t i = 1; i < m->camera_count; i++)
        if (m->cameras[i].id == m->cameras[i - 1].id)
            return swm_format_fail(m->cameras_file, error, "camera %" PRIu64 " is there twice", m->cameras[i].id);
    return 0;
}

/* Fill pose and intrinsics of image i; `q` is w x y z, `t` the translation, both world to camera. */
static int take_image(swm_camera_path *path, int64_t i, model *m, const double q[4], const double t[3],
                      uint64_t camera_id, swm_error *error)
{
    const double norm = sqrt(q[0] * q[0] + q[1] * q[1] + q[2] * q[2] + q[3] * q[3]);
    if (!(fabs(norm - 1) < 1e-2))
        return swm_format_fail(m->images_file, error, "image %lld has a quaternion of length %g; expected 1",
                               (long long)i + 1, norm);
    double *p = path->c2w + 16 * i;
    swm_quaternion_to_pose(p, q);
    for (int axis = 0; axis < 3; axis++) p[4 * axis + 3] = t[axis];
    p[15] = 1;
    const camera *found = m->camera_count > 0 ? bsearch(&(camera){.id = camera_id}, m->cameras, (size_t)m->camera_count,
                                                        sizeof *m->cameras, by_id)
                                              : NULL;
    if (found == NULL && !m->reading->poses_only)
        return swm_format_fail(m->images_file, error, "image %lld is of camera %" PRIu64 ", which %.200s has not",
                               (long long)i + 1, camera_id, m->cameras_file->name);
    m->camera_of[i] = found != NULL ? found - m->cameras : -1;
    return 0;
}

/* Pinhole intrinsics of every image; the path has one picture size. */
static int settle_cameras(swm_camera_path *path, const model *m, swm_error *error)
{
    bool distorted = false;
    if (m->reading->poses_only) return 0;
    const camera *first = &m->cameras[m->camera_of[0]];
    for (int64_t i = 0; i < path->count; i++) {
        const camera *c = &m->cameras[m->camera_of[i]];
        const lens *l = &LENSES[c->lens];
        const double *k = c->parameters;
        if (!l->pinhole)
            return swm_format_fail(m->cameras_file, error,
                                   "camera %" PRIu64
                                   " is %s, which no pinhole camera stands for; undistort the pictures "
                                   "with COLMAP, or take the poses alone with --poses-only",
                                   c->id, l->name);
        if (c->width != first->width || c->height != first->height)
            return swm_format_fail(m->cameras_file, error,
                                   "cameras %" PRIu64 " and %" PRIu64 " have pictures of different sizes; a path has "
                                   "one size (--poses-only leaves the intrinsics out)",
                                   first->id, c->id);
        const int focals = l->one_focal ? 1 : 2;
        const double values[4] = {k[0], k[focals - 1], k[focals], k[focals + 1]};
        memcpy(path->intrinsics + 4 * i, values, sizeof values);
        for (int j = focals + 2; j < l->parameters; j++) distorted = distorted || k[j] != 0;
    }
    path->width = (int)first->width;
    path->height = (int)first->height;
    if (distorted)
        swm_format_notice(m->reading->notice, m->reading->user,
                          "%.300s: the lens distortion was left aside; a path has pinhole cameras",
                          m->cameras_file->name);
    return 0;
}

static int check_camera(const model *m, const camera *c, swm_error *error)
{
    if (c->width < 1 || c->height < 1 || c->width > 1000000 || c->height > 1000000)
        return swm_format_fail(m->cameras_file, error,
                               "camera %" PRIu64 " has pictures of %" PRIu64 "x%" PRIu64 " pixels", c->id, c->width,
                               c->height);
    for (int i = 0; i < LENSES[c->lens].parameters; i++)
        if (!isfinite(c->parameters[i]))
            return swm_format_fail(m->cameras_file, error, "parameter %d of camera %" PRIu64 " is %g", i + 1, c->id,
                                   c->parameters[i]);
    return 0;
}

/* Room for at most `count` images. */
static int prepare_images(swm_camera_path *path, model *m, int64_t count, swm_error *error)
{
    if (count < 1) return swm_format_fail(m->images_file, error, "holds no images");
    swm_error cause = {0};
    if (swm_camera_path_create(path, count, false, !m->reading->poses_only, true, &cause) < 0)
        return swm_format_fail(m->images_file, error, "%s", cause.text);
    m->camera_of = swm_allocate(error, (size_t)count, sizeof *m->camera_of);
    return m->camera_of != NULL ? 0 : -1;
}

/* --- text --- */

/* A whole number from 0 to 2^53 at *text, which moves behind it. */
static bool take_integer(const char **text, uint64_t *value)
{
    const char *at = *text + strspn(*text, " \t");
    const size_t digits = strspn(at, "0123456789");
    if (digits < 1 || digits > 15 || (at[digits] != '\0' && at[digits] != ' ' && at[digits] != '\t')) return false;
    *value = strtoull(at, NULL, 10);
    *text = at + digits;
    return true;
}

static int parse_camera(const model *m, camera *c, const format_lines *lines, swm_error *error)
{
    const char *at = lines->text, *rest;
    *c = (camera){.lens = -1};
    if (!take_integer(&at, &c->id))
        return swm_format_fail(m->cameras_file, error, "line %lld does not begin with the number of a camera",
                               lines->number);
    at += strspn(at, " \t");
    const size_t size = strcspn(at, " \t");
    for (int i = 0; i < LENS_COUNT; i++)
        if (strlen(LENSES[i].name) == size && strncmp(at, LENSES[i].name, size) == 0) c->lens = i;
    if (c->lens < 0)
        return swm_format_fail(m->cameras_file, error, "line %lld: no camera model is called \"%.*s\"", lines->number,
                               (int)swm_min((int64_t)size, 40), at);
    at += size;
    if (!take_integer(&at, &c->width) || !take_integer(&at, &c->height))
        return swm_format_fail(m->cameras_file, error, "line %lld: width and height are missing", lines->number);
    const int count = swm_format_numbers(at, c->parameters, LENS_PARAMETERS, &rest);
    if (count != LENSES[c->lens].parameters || *rest != '\0')
        return swm_format_fail(m->cameras_file, error, "line %lld: %s has %d parameters, found %d%s", lines->number,
                               LENSES[c->lens].name, LENSES[c->lens].parameters, count,
                               *rest != '\0' ? " and then no number" : "");
    return check_camera(m, c, error);
}

static int read_text_cameras(model *m, swm_error *error)
{
    const int64_t most = swm_format_count_lines(m->cameras_file);
    format_lines lines = swm_format_lines(m->cameras_file);
    m->cameras = swm_allocate(error, (size_t)most + 1, sizeof *m->cameras);
    if (m->cameras == NULL) return -1;
    int status;
    while ((status = swm_format_next_data(&lines, error)) == 1) {
        if (m->camera_count == most)
            return swm_format_fail(m->cameras_file, error, "line %lld is too short for a camera", lines.number);
        if (parse_camera(m, &m->cameras[m->camera_count], &lines, error) < 0) return -1;
        m->camera_count++;
    }
    return status < 0 ? -1 : sort_cameras(m, error);
}

static int parse_image(swm_camera_path *path, int64_t i, model *m, const format_lines *lines, swm_error *error)
{
    double values[7];
    uint64_t id, camera_id;
    const char *at = lines->text, *rest = at;
    if (!take_integer(&at, &id) || swm_format_numbers(at, values, 7, &rest) != 7 || !take_integer(&rest, &camera_id))
        return swm_format_fail(
            m->images_file, error,
            "line %lld is no image: expected IMAGE_ID QW QX QY QZ TX TY TZ CAMERA_ID NAME and below it "
            "a line of points, which may be empty",
            lines->number);
    rest += strspn(rest, " \t");
    if (*rest == '\0')
        return swm_format_fail(m->images_file, error, "line %lld has no name of a picture", lines->number);
    path->names[i] = swm_copy_string(error, rest);
    if (path->names[i] == NULL) return -1;
    return take_image(path, i, m, values, values + 4, camera_id, error);
}

static int read_text_images(swm_camera_path *path, model *m, swm_error *error)
{
    const int64_t most = swm_format_count_lines(m->images_file);
    format_lines lines = swm_format_lines(m->images_file);
    if (prepare_images(path, m, most, error) < 0) return -1;
    int status;
    int64_t count = 0;
    while ((status = swm_format_next_data(&lines, error)) == 1) {
        if (count == most)
            return swm_format_fail(m->images_file, error, "line %lld is too short for an image", lines.number);
        if (parse_image(path, count, m, &lines, error) < 0) return -1;
        count++;
        swm_format_skip_line(&lines); /* the points, as many as there are */
    }
    if (status < 0) return -1;
    if (count < 1) return swm_format_fail(m->images_file, error, "holds no images");
    path->count = count;
    return 0;
}

/* --- binary --- */

typedef struct bytes {
    const swm_path_source *source;
    size_t at;
} bytes;

static bool take_bytes(bytes *b, void *out, size_t size)
{
    if (size > b->source->size - b->at) return false;
    memcpy(out, (const uint8_t *)b->source->data + b->at, size);
    b->at += size;
    return true;
}

static bool take_little(bytes *b, int size, uint64_t *value)
{
    uint8_t raw[8];
    if (!take_bytes(b, raw, (size_t)size)) return false;
    *value = 0;
    for (int i = size - 1; i >= 0; i--) *value = *value << 8 | raw[i];
    return true;
}

static bool take_doubles(bytes *b, double *values, int count)
{
    for (int i = 0; i < count; i++) {
        uint64_t bits;
        if (!take_little(b, 8, &bits)) return false;
        memcpy(&values[i], &bits, sizeof bits);
    }
    return true;
}

static int truncated(const bytes *b, swm_error *error)
{
    return swm_format_fail(b->source, error,
                           "ends after %zu bytes in the middle of an entry; the file is truncated or no "
                           "COLMAP binary",
                           b->source->size);
}

/* The count at the start, which the rest of the file must have room for. */
static int take_count(bytes *b, size_t smallest, int64_t *count, swm_error *error)
{
    uint64_t value;
    if (!take_little(b, 8, &value)) return truncated(b, error);
    if (value > (b->source->size - b->at) / smallest)
        return swm_format_fail(b->source, error,
                               "claims %" PRIu64 " entries in %zu bytes; the file is truncated or no "
                               "COLMAP binary",
                               value, b->source->size);
    *count = (int64_t)value;
    return 0;
}

static int read_binary_cameras(model *m, swm_error *error)
{
    enum { SMALLEST = 24 + 3 * 8 };
    bytes b = {m->cameras_file, 0};
    int64_t count;
    if (take_count(&b, SMALLEST, &count, error) < 0) return -1;
    m->cameras = swm_allocate(error, (size_t)count + 1, sizeof *m->cameras);
    if (m->cameras == NULL) return -1;
    for (; m->camera_count < count; m->camera_count++) {
        camera *c = &m->cameras[m->camera_count];
        uint64_t lens_number;
        if (!take_little(&b, 4, &c->id) || !take_little(&b, 4, &lens_number) || !take_little(&b, 8, &c->width) ||
            !take_little(&b, 8, &c->height))
            return truncated(&b, error);
        if (lens_number >= LENS_COUNT)
            return swm_format_fail(m->cameras_file, error, "camera %" PRIu64 " is of the unknown model %" PRIu64, c->id,
                                   lens_number);
        c->lens = (int)lens_number;
        if (!take_doubles(&b, c->parameters, LENSES[c->lens].parameters)) return truncated(&b, error);
        if (check_camera(m, c, error) < 0) return -1;
    }
    return sort_cameras(m, error);
}

static int read_binary_images(swm_camera_path *path, model *m, swm_error *error)
{
    enum { SMALLEST = 4 + 7 * 8 + 4 + 1 + 8, POINT = 24 };
    bytes b = {m->images_file, 0};
    const uint8_t *data = m->images_file->data;
    int64_t count;
    if (take_count(&b, SMALLEST, &count, error) < 0 || prepare_images(path, m, count, error) < 0) return -1;
    for (int64_t i = 0; i < count; i++) {
        double values[7];
        uint64_t id, camera_id, points;
        if (!take_little(&b, 4, &id) || !take_doubles(&b, values, 7) || !take_little(&b, 4, &camera_id))
            return truncated(&b, error);
        const uint8_t *end = memchr(data + b.at, '\0', b.source->size - b.at);
        if (end == NULL || end - (data + b.at) > FORMAT_LINE_LIMIT)
            return swm_format_fail(m->images_file, error, "the name of image %" PRIu64 " does not end", id);
        path->names[i] = swm_copy_string(error, (const char *)data + b.at);
        if (path->names[i] == NULL) return -1;
        b.at = (size_t)(end - data) + 1;
        if (!take_little(&b, 8, &points) || points > (b.source->size - b.at) / POINT) return truncated(&b, error);
        b.at += (size_t)points * POINT;
        if (take_image(path, i, m, values, values + 4, camera_id, error) < 0) return -1;
    }
    return 0;
}

static int read_model(swm_camera_path *path, const swm_path_source *sources, const swm_path_reading *reading,
                      bool binary, swm_error *error)
{
    model m = {.cameras_file = &sources[0], .images_file = &sources[1], .reading = reading};
    int status = binary ? read_binary_cameras(&m, error) : read_text_cameras(&m, error);
    if (status == 0) status = binary ? read_binary_images(path, &m, error) : read_text_images(path, &m, error);
    if (status == 0) status = settle_cameras(path, &m, error);
    free(m.cameras);
    free(m.camera_of);
    return status;
}

int swm_colmap_text_read(swm_camera_path *path, const swm_path_source *sources, int count,
                         const swm_path_reading *reading, swm_error *error)
{
    (void)count;
    return read_model(path, sources, reading, false, error);
}

int swm_colmap_binary_read(swm_camera_path *path, const swm_path_source *sources, int count,
                           const swm_path_reading *reading, swm_error *error)
{
    (void)count;
    return read_model(path, sources, reading, true, error);
}

/* --- writing --- */

static int check_writable(const swm_camera_path *path, const char *place, swm_error *error)
{
    if (path->intrinsics == NULL)
        return swm_fail(error,
                        "%.300s: COLMAP needs intrinsics, and the path has none; say --fov and --size, or "
                        "--intrinsics",
                        place);
    if (path->width < 1)
        return swm_fail(error, "%.300s: COLMAP needs the size of the pictures; say --size WIDTHxHEIGHT", place);
    return 0;
}

static void put_little(FILE *out, uint64_t value, int size)
{
    for (; size > 0; size--, value >>= 8) fputc((int)(value & 0xff), out);
}

static void put_doubles(FILE *out, const double *values, int count)
{
    for (int i = 0; i < count; i++) {
        uint64_t bits;
        memcpy(&bits, &values[i], sizeof bits);
        put_little(out, bits, 8);
    }
}

/* One camera when all images share it, else one an image; numbers start at 1. */
static void put_cameras(FILE *out, const swm_camera_path *path, bool binary)
{
    const int64_t count = swm_format_shared_intrinsics(path) ? 1 : path->count;
    if (binary)
        put_little(out, (uint64_t)count, 8);
    else
        fprintf(out, "# %lld cameras: CAMERA_ID MODEL WIDTH HEIGHT FX FY CX CY\n", (long long)count);
    for (int64_t i = 0; i < count; i++) {
        if (binary) {
            put_little(out, (uint64_t)i + 1, 4);
            put_little(out, PINHOLE, 4);
            put_little(out, (uint64_t)path->width, 8);
            put_little(out, (uint64_t)path->height, 8);
            put_doubles(out, path->intrinsics + 4 * i, 4);
            continue;
        }
        fprintf(out, "%lld PINHOLE %d %d ", (long long)i + 1, path->width, path->height);
        swm_format_write_numbers(out, path->intrinsics + 4 * i, 4, " ");
        fputc('\n', out);
    }
}

static int put_images(FILE *out, const swm_camera_path *path, bool binary, swm_error *error)
{
    const bool shared = swm_format_shared_intrinsics(path);
    if (binary)
        put_little(out, (uint64_t)path->count, 8);
    else
        fprintf(
            out,
            "# %lld images, world to camera: IMAGE_ID QW QX QY QZ TX TY TZ CAMERA_ID NAME, then a line of no points\n",
            (long long)path->count);
    for (int64_t i = 0; i < path->count; i++) {
        const double *p = path->c2w + 16 * i;
        double values[7] = {0, 0, 0, 0, p[3], p[7], p[11]};
        swm_quaternion_from_pose(values, p);
        char *name = swm_format_name(path, i, NULL, error);
        if (name == NULL) return -1;
        const int64_t camera_id = shared ? 1 : i + 1;
        if (binary) {
            put_little(out, (uint64_t)i + 1, 4);
            put_doubles(out, values, 7);
            put_little(out, (uint64_t)camera_id, 4);
            fwrite(name, 1, strlen(name) + 1, out);
            put_little(out, 0, 8);
        } else {
            fprintf(out, "%lld ", (long long)i + 1);
            swm_format_write_numbers(out, values, 7, " ");
            fprintf(out, " %lld %s\n\n", (long long)camera_id, name);
        }
        const bool readable = name[0] != '\0' && (binary || strpbrk(name, " \t\r\n") == NULL);
        if (!readable)
            swm_fail(error, "the picture \"%.200s\" cannot be named in a COLMAP text model; write a binary one", name);
        free(name);
        if (!readable) return -1;
    }
    return 0;
}

static int write_model(const swm_camera_path *path, const char *place, bool binary, swm_error *error)
{
    const char *names[3] = {binary ? "cameras.bin" : "cameras.txt", binary ? "images.bin" : "images.txt",
                            binary ? "points3D.bin" : "points3D.txt"};
    if (check_writable(path, place, error) < 0 || swm_make_directories(place, error) < 0) return -1;
    int status = 0;
    for (int i = 0; i < 3 && status == 0; i++) {
        format_text text;
        if (swm_format_text_open(&text, error) < 0) return -1;
        if (i == 0) put_cameras(text.stream, path, binary);
        if (i == 1) status = put_images(text.stream, path, binary, error);
        if (i == 2 && binary) put_little(text.stream, 0, 8);
        if (i == 2 && !binary) fputs("# no points\n", text.stream);
        if (status == 0) {
            status = swm_format_text_save(&text, place, names[i], error);
        } else {
            fclose(text.stream);
            free(text.data);
        }
    }
    return status;
}

int swm_colmap_text_write(const swm_camera_path *path, const char *place, const swm_path_writing *writing,
                          swm_error *error)
{
    (void)writing;
    return write_model(path, place, false, error);
}

int swm_colmap_binary_write(const swm_camera_path *path, const char *place, const swm_path_writing *writing,
                            swm_error *error)
{
    (void)writing;
    return write_model(path, place, true, error);
}
