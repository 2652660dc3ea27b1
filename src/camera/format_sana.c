/* Camera paths as NumPy arrays: SANA-WM's .npy and .npz, and the pair of poses.npy and intrinsics.npy of LingBot-World
 * and others. The arrays themselves are io/npy.h's. */
#include "camera/format_internal.h"
#include "core/file.h"
#include "core/tensor.h"

#include <stdlib.h>
#include <string.h>
#include <zlib.h>

/* --- reading --- */

static swm_shape_text shape_text(const swm_array *array)
{
    if (array->rank < 1) return (swm_shape_text){"()"};
    return swm_describe(swm_tensor_make(SWM_F64, NULL, array->rank, array->shape));
}

/* (F,4,4), or (F,3,4) without the bottom row. */
static int take_poses(swm_camera_path *path, const char *file, const swm_array *array, swm_error *error)
{
    const int64_t *shape = array->shape;
    if (array->rank != 3 || (shape[1] != 4 && shape[1] != 3) || shape[2] != 4 || shape[0] < 1)
        return swm_fail(error, "%.300s: camera path has shape %s; expected (frames,4,4) camera-to-world matrices", file,
                        shape_text(array).text);
    swm_error cause = {0};
    if (swm_camera_path_create(path, shape[0], false, false, false, &cause) < 0)
        return swm_fail(error, "%.300s: %s", file, cause.text);
    const size_t size = 4 * (size_t)shape[1];
    for (int64_t i = 0; i < path->count; i++) {
        memcpy(path->c2w + 16 * i, array->values + (size_t)i * size, size * sizeof(double));
        path->c2w[16 * i + 15] = size == 16 ? path->c2w[16 * i + 15] : 1;
    }
    return 0;
}

int swm_npy_path_read(swm_camera_path *path, const swm_path_source *sources, int count, const swm_path_reading *reading,
                      swm_error *error)
{
    (void)count;
    (void)reading;
    swm_array array;
    if (swm_npy_parse(sources[0].name, sources[0].data, sources[0].size, &array, error) < 0) return -1;
    const int status = take_poses(path, sources[0].name, &array, error);
    swm_array_free(&array);
    return status;
}

static bool has_array(const swm_npz *npz, const char *name)
{
    for (int i = 0; i < npz->count; i++)
        if (strcmp(npz->entries[i].name, name) == 0) return true;
    return false;
}

/* The array with the poses. Only where the name says so, world-to-camera matrices are turned around. */
static const char *find_poses(const swm_npz *npz, const swm_path_reading *reading, bool *w2c, swm_error *error)
{
    static const char *const c2w_keys[] = {"c2w", "poses", "extrinsics_c2w", "cam2world", "cam_c2w"};
    static const char *const w2c_keys[] = {"w2c", "extrinsics_w2c", "world2cam"};
    *w2c = false;
    for (size_t i = 0; i < sizeof c2w_keys / sizeof c2w_keys[0]; i++)
        if (has_array(npz, c2w_keys[i])) return c2w_keys[i];
    for (size_t i = 0; i < sizeof w2c_keys / sizeof w2c_keys[0]; i++)
        if (has_array(npz, w2c_keys[i])) {
            *w2c = true;
            return w2c_keys[i];
        }
    if (has_array(npz, "extrinsics")) {
        if (reading->direction != SWM_DIRECTION_OWN) return "extrinsics";
        swm_fail(error,
                 "%.300s: \"extrinsics\" may be world to camera or camera to world; say --direction w2c or "
                 "--direction c2w",
                 npz->file);
        return NULL;
    }
    swm_fail(error,
             "%.300s: the archive holds neither \"c2w\" nor \"poses\" nor \"w2c\"; store the (frames,4,4) "
             "matrices as one of them",
             npz->file);
    return NULL;
}

/* A single number of the archive; false when it is missing or anything else. */
static bool read_scalar(const swm_npz *npz, const char *name, double *value)
{
    swm_array array;
    if (!has_array(npz, name) || swm_npz_read(npz, name, &array, NULL) < 0) return false;
    const bool single = swm_array_count(&array) == 1;
    if (single) *value = array.values[0];
    swm_array_free(&array);
    return single;
}

static int read_archive(swm_camera_path *path, const swm_npz *npz, const swm_path_reading *reading, swm_error *error)
{
    bool w2c;
    swm_array array;
    const char *key = find_poses(npz, reading, &w2c, error);
    if (key == NULL || swm_npz_read(npz, key, &array, error) < 0) return -1;
    int status = take_poses(path, npz->file, &array, error);
    swm_array_free(&array);
    if (status < 0) return -1;
    /* The table says camera to world, and so does what this hands on, unless the caller has decided. */
    for (int64_t i = 0; w2c && reading->direction == SWM_DIRECTION_OWN && i < path->count; i++) {
        double bottom[4];
        memcpy(bottom, path->c2w + 16 * i + 12, sizeof bottom);
        swm_se3_inverse(path->c2w + 16 * i, path->c2w + 16 * i);
        memcpy(path->c2w + 16 * i + 12, bottom, sizeof bottom);
    }
    if (w2c && reading->direction == SWM_DIRECTION_OWN)
        swm_format_notice(reading->notice, reading->user, "%.300s: \"%s\" was inverted to camera to world", npz->file,
                          key);
    double number = 0;
    if (read_scalar(npz, "fps", &number) && number > 0 && number < 1e6) path->fps = number;
    if (reading->poses_only || !has_array(npz, "intrinsics")) return 0;
    if (swm_npz_read(npz, "intrinsics", &array, error) < 0) return -1;
    status = swm_format_take_intrinsics(path, npz->file, &array, error);
    swm_array_free(&array);
    return status;
}

int swm_npz_path_read(swm_camera_path *path, const swm_path_source *sources, int count, const swm_path_reading *reading,
                      swm_error *error)
{
    (void)count;
    swm_npz npz;
    if (swm_npz_parse(&npz, sources[0].name, sources[0].data, sources[0].size, error) < 0) return -1;
    const int status = read_archive(path, &npz, reading, error);
    swm_npz_close(&npz);
    return status;
}

int swm_pair_path_read(swm_camera_path *path, const swm_path_source *sources, int count,
                       const swm_path_reading *reading, swm_error *error)
{
    if (swm_npy_path_read(path, sources, count, reading, error) < 0) return -1;
    if (reading->poses_only) return 0;
    swm_array array;
    if (swm_npy_parse(sources[1].name, sources[1].data, sources[1].size, &array, error) < 0) return -1;
    const int status = swm_format_take_intrinsics(path, sources[1].name, &array, error);
    swm_array_free(&array);
    return status;
}

/* --- writing --- */

static int require_pixels(const swm_camera_path *path, const char *place, swm_error *error)
{
    if (path->intrinsics == NULL || !path->fractions) return 0;
    return swm_fail(error, "%.300s: the intrinsics are fractions of a picture of unknown size; say --size WIDTHxHEIGHT",
                    place);
}

int swm_npy_path_write(const swm_camera_path *path, const char *place, const swm_path_writing *writing,
                       swm_error *error)
{
    return swm_npy_save(place, writing->single ? SWM_F32 : SWM_F64, 3, (const int64_t[]){path->count, 4, 4}, path->c2w,
                        error);
}

int swm_pair_path_write(const swm_camera_path *path, const char *place, const swm_path_writing *writing,
                        swm_error *error)
{
    if (path->intrinsics == NULL)
        return swm_fail(error,
                        "%.300s: intrinsics.npy needs intrinsics, and the path has none; say --fov and --size, or "
                        "--intrinsics",
                        place);
    if (require_pixels(path, place, error) < 0 || swm_make_directories(place, error) < 0) return -1;
    char *poses = swm_path_join(error, place, "poses.npy"), *intrinsics = swm_path_join(error, place, "intrinsics.npy");
    int status = poses != NULL && intrinsics != NULL ? swm_npy_path_write(path, poses, writing, error) : -1;
    if (status == 0)
        status = swm_npy_save(intrinsics, writing->single ? SWM_F32 : SWM_F64, 2, (const int64_t[]){path->count, 4},
                              path->intrinsics, error);
    free(poses);
    free(intrinsics);
    return status;
}

static void put_little(FILE *out, uint64_t value, int bytes)
{
    for (; bytes > 0; bytes--, value >>= 8) fputc((int)(value & 0xff), out);
}

/* A .npy of version 1 in memory, for the archive. */
typedef struct member {
    const char *name;
    char *data; /* owned */
    size_t size, offset;
    uint32_t checksum;
} member;

static void put_value(FILE *out, double value, char kind)
{
    uint64_t bits = 0;
    const float single = (float)value;
    if (kind == '4')
        memcpy(&bits, &single, sizeof single);
    else
        memcpy(&bits, &value, sizeof value);
    put_little(out, bits, kind == '4' ? 4 : 8);
}

static int make_member(member *m, const char *name, const char *type, const char *shape, const double *values,
                       int64_t count, swm_error *error)
{
    format_text text;
    *m = (member){.name = name};
    if (swm_format_text_open(&text, error) < 0) return -1;
    char header[119];
    const int used =
        snprintf(header, sizeof header, "{'descr': '%s', 'fortran_order': False, 'shape': %s, }", type, shape);
    fwrite("\x93NUMPY\x01\0\x76\0", 1, 10, text.stream);
    fprintf(text.stream, "%s%*s\n", header, 117 - used, "");
    for (int64_t i = 0; i < count; i++) {
        if (type[1] == 'i')
            put_little(text.stream, (uint64_t)(int64_t)values[i], 8);
        else
            put_value(text.stream, values[i], type[2]);
    }
    const bool complete = ferror(text.stream) == 0;
    if (fclose(text.stream) != 0 || !complete) {
        free(text.data);
        return swm_fail(error, "out of memory for the array %s", name);
    }
    m->data = text.data;
    m->size = text.size;
    m->checksum = (uint32_t)crc32_z(crc32_z(0, NULL, 0), (const Bytef *)text.data, text.size);
    return 0;
}

/* What the local header and the directory have in common: versions, method 0, the first day of DOS, sizes. */
static void put_common(FILE *out, const member *m)
{
    put_little(out, 20, 2);
    put_little(out, 0, 2);
    put_little(out, 0, 2);
    put_little(out, 0, 2);
    put_little(out, (1 << 5) + 1, 2);
    put_little(out, m->checksum, 4);
    put_little(out, m->size, 4);
    put_little(out, m->size, 4);
    put_little(out, strlen(m->name), 2);
    put_little(out, 0, 2);
}

/* A zip of stored members, as numpy.savez writes it. Sizes stay below 4 GiB: SWM_PATH_MAX_COUNT poses have 1.3. */
static void put_archive(FILE *out, member *members, int count)
{
    size_t at = 0;
    for (int i = 0; i < count; i++) {
        member *m = &members[i];
        m->offset = at;
        put_little(out, 0x04034b50, 4);
        put_common(out, m);
        fputs(m->name, out);
        fwrite(m->data, 1, m->size, out);
        at += 30 + strlen(m->name) + m->size;
    }
    const size_t directory = at;
    for (int i = 0; i < count; i++) {
        put_little(out, 0x02014b50, 4);
        put_little(out, 20, 2);
        put_common(out, &members[i]);
        put_little(out, 0, 10); /* comment, disk, attributes */
        put_little(out, members[i].offset, 4);
        fputs(members[i].name, out);
        at += 46 + strlen(members[i].name);
    }
    put_little(out, 0x06054b50, 4);
    put_little(out, 0, 4);
    put_little(out, (uint64_t)count, 2);
    put_little(out, (uint64_t)count, 2);
    put_little(out, at - directory, 4);
    put_little(out, directory, 4);
    put_little(out, 0, 2);
}

static int make_members(member *members, int *count, const swm_camera_path *path, const char *type, swm_error *error)
{
    const double frames = (double)path->count, fps = path->fps > 0 ? path->fps : 16;
    char shape[48];
    snprintf(shape, sizeof shape, "(%lld, 4, 4)", (long long)path->count);
    if (make_member(&members[(*count)++], "c2w.npy", type, shape, path->c2w, 16 * path->count, error) < 0) return -1;
    if (make_member(&members[(*count)++], "fps.npy", "<f8", "()", &fps, 1, error) < 0) return -1;
    if (make_member(&members[(*count)++], "num_frames.npy", "<i8", "()", &frames, 1, error) < 0) return -1;
    if (path->intrinsics == NULL) return 0;
    double *matrices = swm_allocate(error, (size_t)path->count, 9 * sizeof(double));
    if (matrices == NULL) return -1;
    for (int64_t i = 0; i < path->count; i++) {
        const double *k = path->intrinsics + 4 * i;
        memcpy(matrices + 9 * i, (const double[9]){k[0], 0, k[2], 0, k[1], k[3], 0, 0, 1}, 9 * sizeof(double));
    }
    snprintf(shape, sizeof shape, "(%lld, 3, 3)", (long long)path->count);
    const int status =
        make_member(&members[(*count)++], "intrinsics.npy", type, shape, matrices, 9 * path->count, error);
    free(matrices);
    return status;
}

int swm_npz_path_write(const swm_camera_path *path, const char *place, const swm_path_writing *writing,
                       swm_error *error)
{
    member members[4];
    int count = 0;
    format_text text;
    if (require_pixels(path, place, error) < 0) return -1;
    int status = make_members(members, &count, path, writing->single ? "<f4" : "<f8", error);
    if (status == 0) status = swm_format_text_open(&text, error);
    if (status == 0) {
        put_archive(text.stream, members, count);
        status = swm_format_text_save(&text, NULL, place, error);
    }
    for (int i = 0; i < count; i++) free(members[i].data);
    return status;
}
