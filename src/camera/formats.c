/* Camera path formats: the table of them, guessing, conventions, loading and saving. See formats.h. */
#include "camera/formats.h"

#include "camera/format_internal.h"
#include "core/file.h"

#include <locale.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>

typedef struct format {
    const char *name, *title;
    bool opengl;                   /* else OpenCV axes */
    bool w2c;                      /* else camera to world */
    bool times, intrinsics, names; /* what it can carry */
    const char *files[2];          /* of a directory; NULL: it is one file */
    format_reader *read;
    format_writer *write;
} format;

static const format FORMATS[SWM_PATH_FORMAT_COUNT] = {
    [SWM_PATH_NPY] = {"npy", "SANA-WM .npy", .read = swm_npy_path_read, .write = swm_npy_path_write},
    [SWM_PATH_NPZ] = {"npz", "SANA-WM .npz", .intrinsics = true, .read = swm_npz_path_read,
                      .write = swm_npz_path_write},
    [SWM_PATH_PAIR] = {"opencv", "pair of OpenCV poses.npy and intrinsics.npy", .intrinsics = true,
                       .files = {"poses.npy", "intrinsics.npy"}, .read = swm_pair_path_read,
                       .write = swm_pair_path_write},
    [SWM_PATH_COLMAP_TEXT] = {"colmap-text", "COLMAP text model", .w2c = true, .intrinsics = true, .names = true,
                              .files = {"cameras.txt", "images.txt"}, .read = swm_colmap_text_read,
                              .write = swm_colmap_text_write},
    [SWM_PATH_COLMAP_BINARY] = {"colmap-binary", "COLMAP binary model", .w2c = true, .intrinsics = true, .names = true,
                                .files = {"cameras.bin", "images.bin"}, .read = swm_colmap_binary_read,
                                .write = swm_colmap_binary_write},
    [SWM_PATH_NERFSTUDIO] = {"nerfstudio", "nerfstudio transforms.json", .opengl = true, .intrinsics = true,
                             .names = true, .read = swm_transforms_read, .write = swm_nerfstudio_write},
    [SWM_PATH_INSTANT_NGP] = {"instant-ngp", "instant-ngp transforms.json", .opengl = true, .intrinsics = true,
                              .names = true, .read = swm_transforms_read, .write = swm_instant_ngp_write},
    [SWM_PATH_BLENDER] = {"blender", "Blender/NeRF JSON", .opengl = true, .intrinsics = true, .names = true,
                          .read = swm_transforms_read, .write = swm_blender_write},
    [SWM_PATH_TUM] = {"tum", "TUM trajectory", .times = true, .read = swm_tum_read, .write = swm_tum_write},
    [SWM_PATH_KITTI] = {"kitti", "KITTI poses", .read = swm_kitti_read, .write = swm_kitti_write},
    [SWM_PATH_REALESTATE] = {"realestate10k", "RealEstate10K/CameraCtrl text", .w2c = true, .times = true,
                             .intrinsics = true, .read = swm_realestate_read, .write = swm_realestate_write},
    [SWM_PATH_JSON] = {"json", "sana-wm.c JSON", .times = true, .intrinsics = true, .names = true,
                       .read = swm_path_json_read, .write = swm_path_json_write},
};

/* --- names --- */

int swm_path_format_from_name(const char *name, swm_path_format *found, swm_error *error)
{
    static const struct {
        const char *name;
        swm_path_format format;
    } others[] = {{"colmap", SWM_PATH_COLMAP_BINARY}, {"transforms", SWM_PATH_NERFSTUDIO}, {"nerf", SWM_PATH_BLENDER},
                  {"re10k", SWM_PATH_REALESTATE},     {"cameractrl", SWM_PATH_REALESTATE}, {"sana", SWM_PATH_NPY}};
    for (int i = 1; i < SWM_PATH_FORMAT_COUNT; i++)
        if (strcmp(name, FORMATS[i].name) == 0) {
            *found = (swm_path_format)i;
            return 0;
        }
    for (size_t i = 0; i < sizeof others / sizeof others[0]; i++)
        if (strcmp(name, others[i].name) == 0) {
            *found = others[i].format;
            return 0;
        }
    return swm_fail(
        error,
        "no camera path format is called \"%.64s\"; there are npy, npz, opencv, colmap-text, colmap-binary, "
        "nerfstudio, instant-ngp, blender, tum, kitti, realestate10k and json",
        name);
}

const char *swm_path_format_name(swm_path_format f) { return f > SWM_PATH_GUESS ? FORMATS[f].name : "guess"; }
const char *swm_path_format_title(swm_path_format f) { return f > SWM_PATH_GUESS ? FORMATS[f].title : "camera path"; }

static bool has_ending(const char *name, const char *ending)
{
    const size_t n = strlen(name), m = strlen(ending);
    return n >= m && strcasecmp(name + n - m, ending) == 0;
}

static const char *base_name(const char *path)
{
    const char *slash = strrchr(path, '/');
    return slash != NULL ? slash + 1 : path;
}

/* The convention of a format, where the caller has not decided otherwise. */
static int settle_convention(convention *c, const format *f, const char *axes_name, swm_direction direction,
                             const char *flip, swm_error *error)
{
    const bool w2c = direction == SWM_DIRECTION_OWN ? f->w2c : direction == SWM_WORLD_TO_CAMERA;
    return swm_convention_settle(c, axes_name != NULL ? axes_name : f->opengl ? "opengl" : "opencv", w2c, flip, error);
}

/* --- the path --- */

int swm_camera_path_create(swm_camera_path *path, int64_t count, bool times, bool intrinsics, bool names,
                           swm_error *error)
{
    *path = (swm_camera_path){0};
    if (count < 1 || count > SWM_PATH_MAX_COUNT)
        return swm_fail(error, "a camera path of %lld poses; 1 to %d are possible", (long long)count,
                        SWM_PATH_MAX_COUNT);
    const size_t n = (size_t)count;
    path->c2w = swm_allocate(error, n, 16 * sizeof(double));
    if (times) path->times = swm_allocate(error, n, sizeof(double));
    if (intrinsics) path->intrinsics = swm_allocate(error, n, 4 * sizeof(double));
    if (names) path->names = swm_allocate(error, n, sizeof(char *));
    path->count = count;
    if (path->c2w != NULL && (!times || path->times != NULL) && (!intrinsics || path->intrinsics != NULL) &&
        (!names || path->names != NULL))
        return 0;
    swm_camera_path_free(path);
    return -1;
}

void swm_camera_path_free(swm_camera_path *path)
{
    for (int64_t i = 0; path->names != NULL && i < path->count; i++) free(path->names[i]);
    free(path->names);
    free(path->c2w);
    free(path->times);
    free(path->intrinsics);
    *path = (swm_camera_path){0};
}

void swm_camera_path_scale(swm_camera_path *path, double scale)
{
    for (int64_t i = 0; i < path->count; i++)
        for (int axis = 0; axis < 3; axis++) path->c2w[16 * i + 4 * axis + 3] *= scale;
}

void swm_camera_path_recentre(swm_camera_path *path)
{
    double to_first[16];
    swm_se3_inverse(to_first, path->c2w);
    for (int64_t i = 0; i < path->count; i++) {
        double *p = path->c2w + 16 * i;
        swm_se3_multiply(p, to_first, p);
        /* Frame 0 is the identity even where its rotation is only nearly orthonormal. */
        for (int k = 0; i == 0 && k < 16; k++) p[k] = k % 5 == 0;
    }
}

/* --- what reading leaves to be settled --- */

typedef struct named {
    const char *name;
    int64_t index;
} named;

static int by_name(const void *a, const void *b)
{
    const named *x = a, *y = b;
    const int order = strverscmp(x->name, y->name); /* picture_2 comes before picture_10 */
    return order != 0 ? order : x->index < y->index ? -1 : x->index > y->index;
}

/* Move entry order[i].index to i in an array of `size` bytes an entry. */
static void permute(void *array, void *scratch, const named *order, int64_t count, size_t size)
{
    if (array == NULL) return;
    memcpy(scratch, array, (size_t)count * size);
    for (int64_t i = 0; i < count; i++)
        memcpy((char *)array + (size_t)i * size, (char *)scratch + (size_t)order[i].index * size, size);
}

/* Reconstructions keep their pictures in no order; a path is in the order of its names. */
static int sort_by_name(swm_camera_path *path, const char *file, const swm_path_reading *r, swm_error *error)
{
    bool sorted = true;
    for (int64_t i = 0; i < path->count; i++) {
        if (path->names[i] == NULL) return 0;
        sorted = sorted && (i == 0 || strverscmp(path->names[i - 1], path->names[i]) <= 0);
    }
    if (sorted) return 0;
    const size_t n = (size_t)path->count;
    named *order = swm_allocate(error, n, sizeof *order);
    void *scratch = swm_allocate(error, n, 16 * sizeof(double));
    if (order != NULL && scratch != NULL) {
        for (int64_t i = 0; i < path->count; i++) order[i] = (named){path->names[i], i};
        qsort(order, n, sizeof *order, by_name);
        permute(path->c2w, scratch, order, path->count, 16 * sizeof(double));
        permute(path->times, scratch, order, path->count, sizeof(double));
        permute(path->intrinsics, scratch, order, path->count, 4 * sizeof(double));
        permute(path->names, scratch, order, path->count, sizeof(char *));
        swm_format_notice(r->notice, r->user,
                          "%.300s: the poses were put in the order of their pictures' names "
                          "(--file-order keeps the file's)",
                          file);
    }
    const int status = order != NULL && scratch != NULL ? 0 : -1;
    free(order);
    free(scratch);
    return status;
}

static int check_intrinsics(const swm_camera_path *path, swm_error *error)
{
    for (int64_t i = 0; path->intrinsics != NULL && i < path->count; i++) {
        const double *k = path->intrinsics + 4 * i;
        if (!(k[0] > 1e-9 && k[0] < 1e9 && k[1] > 1e-9 && k[1] < 1e9 && fabs(k[2]) < 1e9 && fabs(k[3]) < 1e9))
            return swm_fail(
                error,
                "intrinsics of frame %lld are fx %g, fy %g, cx %g, cy %g; focal lengths must be positive and "
                "all four finite (--poses-only leaves them out)",
                (long long)i, k[0], k[1], k[2], k[3]);
    }
    for (int64_t i = 0; path->times != NULL && i < path->count; i++)
        if (!(fabs(path->times[i]) < 1e12))
            return swm_fail(error, "pose of frame %lld has the time %g; seconds below 1e12 are expected", (long long)i,
                            path->times[i]);
    return 0;
}

static int settle_size(swm_camera_path *path, const swm_path_reading *r, swm_error *error)
{
    if (r->width > 0 && path->width > 0 && (r->width != path->width || r->height != path->height))
        return swm_fail(error, "the pictures are %dx%d and --size says %dx%d; leave --size away", path->width,
                        path->height, r->width, r->height);
    if (path->width == 0) {
        path->width = r->width;
        path->height = r->height;
    }
    if (path->intrinsics == NULL && r->fov > 0) {
        if (path->width == 0)
            return swm_fail(error, "--fov needs the size of the pictures too; say --size WIDTHxHEIGHT");
        path->intrinsics = swm_allocate(error, (size_t)path->count, 4 * sizeof(double));
        if (path->intrinsics == NULL) return -1;
        const double focal = swm_focal_from_fov(r->fov, path->width);
        const double centred[4] = {focal, focal, path->width / 2.0, path->height / 2.0};
        for (int64_t i = 0; i < path->count; i++) memcpy(path->intrinsics + 4 * i, centred, sizeof centred);
        path->fractions = false;
    }
    if (path->intrinsics != NULL && path->fractions && path->width > 0) {
        for (int64_t i = 0; i < 4 * path->count; i++) path->intrinsics[i] *= i % 2 == 0 ? path->width : path->height;
        path->fractions = false;
    }
    return 0;
}

static int finish_reading(swm_camera_path *path, const char *file, const convention *c, const swm_path_reading *r,
                          swm_error *error)
{
    swm_error cause = {0};
    int status = 0;
    for (int64_t i = 0; i < path->count && status == 0; i++)
        status = swm_convention_take(path->c2w + 16 * i, i, c, &cause);
    if (r->poses_only) {
        free(path->intrinsics);
        path->intrinsics = NULL;
    }
    if (r->fps > 0 && path->times == NULL) path->fps = r->fps;
    if (status == 0) status = settle_size(path, r, &cause);
    if (status == 0) status = check_intrinsics(path, &cause);
    if (status < 0) return swm_fail(error, "%.300s: %s", file, cause.text);
    return path->names != NULL && !r->file_order ? sort_by_name(path, file, r, error) : 0;
}

/* --- guessing --- */

static swm_path_format guess_text(const swm_path_source *source, swm_error *error)
{
    format_lines lines = swm_format_lines(source);
    for (int tries = 0; tries < 2; tries++) {
        double values[32];
        const char *rest;
        const int status = swm_format_next_data(&lines, error);
        if (status < 0) return SWM_PATH_GUESS;
        if (status == 0) break;
        const int count = swm_format_numbers(lines.text, values, 32, &rest);
        if (count == 8 && *rest == '\0') return SWM_PATH_TUM;
        if (count == 12 && *rest == '\0') return SWM_PATH_KITTI;
        if (count == 19 && *rest == '\0') return SWM_PATH_REALESTATE;
        /* Only the first line of RealEstate10K, the address of the video, may be no numbers. */
        bool printable = true;
        for (const char *c = lines.text; *c != '\0'; c++) printable = printable && *c >= ' ' && *c != 0x7f;
        if (!printable) break;
        if (count == 0 && tries == 0) continue;
        swm_format_fail(source, error,
                        "line %lld has %d numbers%s; known are TUM (8), KITTI (12) and RealEstate10K (19)",
                        lines.number, count, *rest != '\0' ? " and then something else" : "");
        return SWM_PATH_GUESS;
    }
    swm_format_fail(source, error,
                    "is no camera path: no line of numbers with spaces between them was found; expected "
                    "a .npy or .npz file, a COLMAP model, transforms.json, TUM, KITTI or RealEstate10K "
                    "text");
    return SWM_PATH_GUESS;
}

/* The role of a file within a directory, by its name: 0, 1 or -1. */
static int role_of(const format *f, const char *name)
{
    for (int i = 0; i < 2; i++)
        if (f->files[i] != NULL && strcmp(base_name(name), f->files[i]) == 0) return i;
    return -1;
}

static swm_path_format guess(const swm_path_source *sources, int count, swm_error *error)
{
    for (int i = 1; i < SWM_PATH_FORMAT_COUNT && count == 2; i++)
        if (FORMATS[i].files[0] != NULL && role_of(&FORMATS[i], sources[0].name) == 0) return (swm_path_format)i;
    const swm_path_source *source = sources;
    const uint8_t *data = source->data;
    if (source->size >= 6 && memcmp(data, "\x93NUMPY", 6) == 0) return SWM_PATH_NPY;
    if (source->size >= 2 && memcmp(data, "PK", 2) == 0) return SWM_PATH_NPZ;
    /* What calls itself an array and is none shall be told so by the reader of arrays. */
    if (has_ending(source->name, ".npy")) return SWM_PATH_NPY;
    if (has_ending(source->name, ".npz")) return SWM_PATH_NPZ;
    size_t i = 0;
    while (i < source->size && strchr(" \t\r\n", data[i]) != NULL && data[i] != '\0') i++;
    if (i < source->size && (data[i] == '{' || data[i] == '[')) return swm_format_guess_json(source, error);
    return guess_text(source, error);
}

/* --- reading --- */

static int parse(swm_camera_path *path, const swm_path_source *sources, int count, const swm_path_reading *r,
                 swm_error *error)
{
    swm_path_format chosen = r->format != SWM_PATH_GUESS ? r->format : guess(sources, count, error);
    if (chosen == SWM_PATH_GUESS) return -1;
    const format *f = &FORMATS[chosen];
    convention c;
    if (settle_convention(&c, f, r->axes, r->direction, r->flip, error) < 0) return -1;
    if (f->files[0] != NULL && count < 2)
        return swm_format_fail(&sources[0], error, "a %s is a directory with %s and %s; name the directory", f->title,
                               f->files[0], f->files[1]);
    if (f->read(path, sources, count, r, error) < 0) return -1;
    if (finish_reading(path, sources[0].name, &c, r, error) < 0) return -1;
    char text[160];
    swm_convention_describe(text, &c);
    swm_format_notice(r->notice, r->user, "%.300s: %s as %s: %lld poses, %s", sources[0].name,
                      r->format != SWM_PATH_GUESS ? "read" : "recognised", f->title, (long long)path->count, text);
    return 0;
}

/* Numbers of text formats have a point, whatever the locale of the program. */
static locale_t enter_plain_locale(locale_t *before, swm_error *error)
{
    locale_t plain = newlocale(LC_ALL_MASK, "C", (locale_t)0);
    if (plain == (locale_t)0)
        swm_fail(error, "out of memory for a locale");
    else
        *before = uselocale(plain);
    return plain;
}

static void leave_plain_locale(locale_t plain, locale_t before)
{
    uselocale(before);
    freelocale(plain);
}

int swm_camera_path_parse(swm_camera_path *path, const swm_path_source *sources, int count,
                          const swm_path_reading *reading, swm_error *error)
{
    static const swm_path_reading plain_reading;
    locale_t before, plain = enter_plain_locale(&before, error);
    *path = (swm_camera_path){0};
    if (plain == (locale_t)0) return -1;
    const int status = parse(path, sources, count, reading != NULL ? reading : &plain_reading, error);
    if (status < 0) swm_camera_path_free(path);
    leave_plain_locale(plain, before);
    return status;
}

/* --- files and directories --- */

/* The file `name` of a directory, NULL when there is none (and *error untouched) or no memory. */
static char *existing(const char *directory, const char *name, swm_error *error)
{
    char *path = swm_path_join(error, directory, name);
    if (path != NULL && swm_file_exists(path)) return path;
    free(path);
    return NULL;
}

typedef struct choice {
    char *files[2]; /* owned */
    swm_path_format format;
} choice;

static void free_choice(choice *c)
{
    free(c->files[0]);
    free(c->files[1]);
    *c = (choice){0};
}

/* The formats of which a directory holds the files; only `wanted` unless that is GUESS. */
static int look_into(choice *found, const char *directory, swm_path_format wanted, swm_error *error)
{
    for (int i = 1; i < SWM_PATH_FORMAT_COUNT; i++) {
        const format *f = &FORMATS[i];
        if (f->files[0] == NULL || (wanted != SWM_PATH_GUESS && (int)wanted != i)) continue;
        choice c = {.format = (swm_path_format)i};
        for (int k = 0; k < 2; k++) c.files[k] = existing(directory, f->files[k], error);
        if (swm_failed(error) || c.files[0] == NULL || c.files[1] == NULL) {
            free_choice(&c);
            if (swm_failed(error)) return -1;
            continue;
        }
        if (found->format != SWM_PATH_GUESS) {
            free_choice(&c);
            return swm_fail(error, "%.300s holds a %s and a %s; choose with --from %s or --from %s", directory,
                            FORMATS[found->format].title, f->title, FORMATS[found->format].name, f->name);
        }
        *found = c;
    }
    return 0;
}

static bool is_json(swm_path_format f)
{
    return f == SWM_PATH_NERFSTUDIO || f == SWM_PATH_INSTANT_NGP || f == SWM_PATH_BLENDER;
}

/* A COLMAP model may lie below, in sparse/0 or sparse, and transforms.json beside it. */
static int choose_in_directory(choice *found, const char *directory, swm_path_format wanted, swm_error *error)
{
    static const char *const below[] = {NULL, "sparse/0", "sparse", "colmap/sparse/0"};
    for (int i = 0; i < 4 && found->format == SWM_PATH_GUESS; i++) {
        char *place = below[i] != NULL ? swm_path_join(error, directory, below[i]) : swm_copy_string(error, directory);
        const int status = place != NULL ? look_into(found, place, wanted, error) : -1;
        char *second = i == 1 && status == 0 && found->format != SWM_PATH_GUESS
                           ? swm_path_join(error, directory, "sparse/1")
                           : NULL;
        const bool ambiguous = second != NULL && swm_directory_exists(second);
        free(second);
        free(place);
        if (status < 0) return -1;
        if (ambiguous)
            return swm_fail(error, "%.300s holds several COLMAP models, sparse/0, sparse/1, ...; name one of them",
                            directory);
    }
    char *json = wanted == SWM_PATH_GUESS || is_json(wanted) ? existing(directory, "transforms.json", error) : NULL;
    if (json != NULL && found->format != SWM_PATH_GUESS) {
        free(json);
        return swm_fail(error, "%.300s holds transforms.json and a %s; name the file, or the model's own directory",
                        directory, FORMATS[found->format].title);
    }
    if (json != NULL) *found = (choice){{json, NULL}, wanted};
    if (found->files[0] != NULL || swm_failed(error)) return swm_failed(error) ? -1 : 0;
    char *split = existing(directory, "transforms_train.json", error);
    if (split != NULL) {
        free(split);
        return swm_fail(error, "%.300s holds several paths, transforms_train.json and others; name one of them",
                        directory);
    }
    return swm_fail(
        error,
        "%.300s holds no camera path%s%s: neither a COLMAP model (cameras and images, .txt or .bin, here or in "
        "sparse/0) nor transforms.json nor poses.npy with intrinsics.npy",
        directory, wanted != SWM_PATH_GUESS ? " of the format " : "",
        wanted != SWM_PATH_GUESS ? FORMATS[wanted].name : "");
}

/* A file that is only a part of a path (images.txt, poses.npy beside intrinsics.npy) stands for its directory. */
static int choose(choice *found, const char *place, swm_path_format wanted, swm_error *error)
{
    if (swm_directory_exists(place)) return choose_in_directory(found, place, wanted, error);
    for (int i = 1; i < SWM_PATH_FORMAT_COUNT; i++) {
        const format *f = &FORMATS[i];
        if (f->files[0] == NULL || role_of(f, place) < 0 || (wanted != SWM_PATH_GUESS && (int)wanted != i)) continue;
        char *directory = swm_format(error, "%.*s", (int)(base_name(place) - place), place);
        const int status = directory != NULL
                               ? look_into(found, directory[0] != '\0' ? directory : ".", (swm_path_format)i, error)
                               : -1;
        free(directory);
        if (status < 0 || found->format != SWM_PATH_GUESS) return status;
    }
    found->files[0] = swm_copy_string(error, place);
    found->format = wanted;
    return found->files[0] != NULL ? 0 : -1;
}

static int load_sources(swm_camera_path *path, const choice *c, const swm_path_reading *r, swm_error *error)
{
    swm_mapping mappings[2] = {0};
    swm_path_source sources[2];
    int count = 0, status = 0;
    for (int i = 0; i < 2 && c->files[i] != NULL && status == 0; i++) {
        status = swm_file_map(&mappings[i], c->files[i], error);
        sources[i] = (swm_path_source){c->files[i], mappings[i].data, mappings[i].size};
        count += status == 0;
    }
    swm_path_reading settled = *r;
    if (c->files[1] != NULL) settled.format = c->format;
    if (status == 0) status = swm_camera_path_parse(path, sources, count, &settled, error);
    for (int i = 0; i < count; i++) swm_file_unmap(&mappings[i]);
    return status;
}

/* Intrinsics of a file of their own, in place of those of the path. */
static int load_intrinsics(swm_camera_path *path, const char *file, swm_error *error)
{
    swm_array array = {0};
    int status;
    if (has_ending(file, ".npz")) {
        swm_npz npz;
        status = swm_npz_open(&npz, file, error);
        if (status == 0) status = swm_npz_read(&npz, "intrinsics", &array, error);
        swm_npz_close(&npz);
    } else
        status = swm_npy_read(file, &array, error);
    free(path->intrinsics);
    path->intrinsics = NULL;
    path->fractions = false;
    if (status == 0) status = swm_format_take_intrinsics(path, file, &array, error);
    swm_array_free(&array);
    swm_error cause = {0};
    if (status == 0 && check_intrinsics(path, &cause) < 0) return swm_fail(error, "%.300s: %s", file, cause.text);
    return status;
}

int swm_camera_path_load(swm_camera_path *path, const char *place, const swm_path_reading *reading, swm_error *error)
{
    static const swm_path_reading plain_reading;
    swm_path_reading r = reading != NULL ? *reading : plain_reading;
    if (r.intrinsics != NULL) r.poses_only = true;
    *path = (swm_camera_path){0};
    choice found = {0};
    swm_error own = {0};
    int status = choose(&found, place, r.format, &own);
    if (status == 0) status = load_sources(path, &found, &r, &own);
    free_choice(&found);
    if (status == 0 && r.intrinsics != NULL) status = load_intrinsics(path, r.intrinsics, &own);
    if (status < 0) {
        swm_camera_path_free(path);
        return swm_fail(error, "%s", own.text);
    }
    return 0;
}

/* --- writing --- */

static int guess_ending(swm_path_format *chosen, const char *place, swm_error *error)
{
    static const struct {
        const char *ending;
        swm_path_format format;
    } endings[] = {{".npy", SWM_PATH_NPY}, {".npz", SWM_PATH_NPZ}, {".tum", SWM_PATH_TUM}, {".kitti", SWM_PATH_KITTI}};
    for (size_t i = 0; i < sizeof endings / sizeof endings[0]; i++)
        if (has_ending(place, endings[i].ending)) {
            *chosen = endings[i].format;
            return 0;
        }
    if (has_ending(place, ".json")) {
        const char *base = base_name(place);
        if (strncmp(base, "transforms_", 11) == 0)
            return swm_fail(error,
                            "%.300s may be nerfstudio's, instant-ngp's or Blender's; say --to nerfstudio, --to "
                            "instant-ngp or --to blender",
                            place);
        *chosen = strcmp(base, "transforms.json") == 0 ? SWM_PATH_NERFSTUDIO : SWM_PATH_JSON;
        return 0;
    }
    if (has_ending(place, ".txt"))
        return swm_fail(
            error, "%.300s may be TUM, KITTI or RealEstate10K; say --to tum, --to kitti or --to realestate10k", place);
    return swm_fail(error,
                    "the ending of %.300s tells no format; say which with --to: npy, npz, opencv, colmap-text, "
                    "colmap-binary, nerfstudio, instant-ngp, blender, tum, kitti, realestate10k or json",
                    place);
}

static void tell_losses(const swm_camera_path *path, const format *f, const char *place, const swm_path_writing *w)
{
    const bool times = path->times != NULL && !f->times, names = path->names != NULL && !f->names;
    const bool intrinsics = path->intrinsics != NULL && !f->intrinsics;
    if (!times && !names && !intrinsics) return;
    swm_format_notice(w->notice, w->user, "%.300s: the format has no place for%s%s%s%s%s", place, times ? " times" : "",
                      times && (names || intrinsics) ? "," : "", intrinsics ? " intrinsics" : "",
                      intrinsics && names ? "," : "", names ? " names of pictures" : "");
}

static int save(const swm_camera_path *path, const char *place, const swm_path_writing *w, swm_error *error)
{
    swm_path_format chosen = w->format;
    convention c;
    if (chosen == SWM_PATH_GUESS && guess_ending(&chosen, place, error) < 0) return -1;
    const format *f = &FORMATS[chosen];
    if (settle_convention(&c, f, w->axes, w->direction, NULL, error) < 0) return -1;
    if (path->count < 1) return swm_fail(error, "%.300s: the camera path is empty", place);
    swm_camera_path turned = *path;
    turned.c2w = swm_allocate(error, (size_t)path->count, 16 * sizeof(double));
    if (turned.c2w == NULL) return -1;
    memcpy(turned.c2w, path->c2w, (size_t)path->count * 16 * sizeof(double));
    for (int64_t i = 0; i < path->count; i++) swm_convention_give(turned.c2w + 16 * i, &c);
    tell_losses(path, f, place, w);
    const int status = f->write(&turned, place, w, error);
    free(turned.c2w);
    char text[160];
    swm_convention_describe(text, &c);
    if (status == 0)
        swm_format_notice(w->notice, w->user, "%.300s: written as %s: %lld poses, %s", place, f->title,
                          (long long)path->count, text);
    return status;
}

int swm_camera_path_save(const swm_camera_path *path, const char *place, const swm_path_writing *writing,
                         swm_error *error)
{
    static const swm_path_writing plain_writing;
    locale_t before, plain = enter_plain_locale(&before, error);
    if (plain == (locale_t)0) return -1;
    const int status = save(path, place, writing != NULL ? writing : &plain_writing, error);
    leave_plain_locale(plain, before);
    return status;
}
