/* Our own JSON of a camera path: the keys that every generated video's sidecar has too, so that a sidecar is a camera
 * path. c2w holds a list of 16 numbers (or 4 lists of 4) a frame, intrinsics fx, fy, cx, cy in pixels, or as fractions
 * where "intrinsics_unit" says so. Also tells the dialects of JSON apart. */
#include "camera/format_internal.h"
#include "io/json.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* --- guessing --- */

swm_path_format swm_format_guess_json(const swm_path_source *source, swm_error *error)
{
    swm_path_format format = SWM_PATH_GUESS;
    if (source->size > FORMAT_JSON_LIMIT) {
        swm_format_fail(source, error, "has %zu bytes; at most %d of JSON are read", source->size, FORMAT_JSON_LIMIT);
        return format;
    }
    cJSON *tree = swm_json_parse(source->name, source->data, source->size, error);
    if (tree == NULL) return format;
    const cJSON *root = tree;
    if (cJSON_GetObjectItemCaseSensitive(root, "c2w") != NULL)
        format = SWM_PATH_JSON;
    else if (cJSON_GetObjectItemCaseSensitive(root, "frames") != NULL) {
        const bool focal = cJSON_GetObjectItemCaseSensitive(root, "fl_x") != NULL;
        const bool angle = cJSON_GetObjectItemCaseSensitive(root, "camera_angle_x") != NULL;
        const bool ngp = cJSON_GetObjectItemCaseSensitive(root, "aabb_scale") != NULL;
        format = ngp ? SWM_PATH_INSTANT_NGP : angle && !focal ? SWM_PATH_BLENDER : SWM_PATH_NERFSTUDIO;
    } else
        swm_format_fail(source, error,
                        "is JSON of no known camera path: it has neither \"c2w\" (ours) nor \"frames\" "
                        "(nerfstudio, instant-ngp, Blender); a keyframe file, for camera make, says \"format\": "
                        "\"sanawm-keyframes\"");
    cJSON_Delete(tree);
    return format;
}

/* --- reading --- */

/* Flatten a list of numbers or of lists of numbers into exactly `count` values. */
static bool flatten(const cJSON *list, double *values, int count)
{
    int used = 0;
    const cJSON *item, *inner;
    if (!cJSON_IsArray(list)) return false;
    cJSON_ArrayForEach(item, list)
    {
        if (cJSON_IsNumber(item)) {
            if (used == count) return false;
            values[used++] = item->valuedouble;
            continue;
        }
        if (!cJSON_IsArray(item)) return false;
        cJSON_ArrayForEach(inner, item)
        {
            if (!cJSON_IsNumber(inner) || used == count) return false;
            values[used++] = inner->valuedouble;
        }
    }
    return used == count;
}

/* A list of `frames` entries of `width` numbers. */
static int read_rows(const swm_path_source *source, const cJSON *list, const char *key, double *values, int64_t frames,
                     int width, swm_error *error)
{
    const cJSON *row;
    int64_t i = 0;
    if (!cJSON_IsArray(list) || cJSON_GetArraySize(list) != frames)
        return swm_format_fail(source, error, "%s is no list of %lld entries, one a frame", key, (long long)frames);
    cJSON_ArrayForEach(row, list)
    {
        const bool valid = width == 1 ? cJSON_IsNumber(row) : flatten(row, values + i * width, width);
        if (valid && width == 1) values[i] = row->valuedouble;
        if (!valid)
            return swm_format_fail(source, error, "%s[%lld] is no %s", key, (long long)i,
                                   width == 1    ? "number"
                                   : width == 16 ? "list of 16 numbers, a 4x4 matrix by rows"
                                                 : "list of the 4 numbers fx, fy, cx, cy");
        i++;
    }
    return 0;
}

static int read_names(swm_camera_path *path, const swm_path_source *source, const cJSON *list, swm_error *error)
{
    const cJSON *item;
    int64_t i = 0;
    if (!cJSON_IsArray(list) || cJSON_GetArraySize(list) != path->count)
        return swm_format_fail(source, error, "names is no list of %lld texts, one a frame", (long long)path->count);
    cJSON_ArrayForEach(item, list)
    {
        if (!cJSON_IsString(item)) return swm_format_fail(source, error, "names[%lld] is no text", (long long)i);
        path->names[i] = swm_copy_string(error, item->valuestring);
        if (path->names[i++] == NULL) return -1;
    }
    return 0;
}

static int read_path(swm_camera_path *path, const swm_path_source *source, swm_json root,
                     const swm_path_reading *reading, swm_error *error)
{
    const cJSON *c2w = swm_json_find(root, "c2w"), *times = swm_json_find(root, "times");
    const cJSON *intrinsics = reading->poses_only ? NULL : swm_json_find(root, "intrinsics");
    const cJSON *names = swm_json_find(root, "names");
    int64_t width = 0, height = 0;
    double fps = 0;
    const char *unit;
    if (!cJSON_IsArray(c2w) || cJSON_GetArraySize(c2w) < 1)
        return swm_json_refuse(root, "c2w", "a list of one matrix or more", error);
    if (swm_json_integer_or(root, "width", 1, 1000000, 0, &width, error) < 0 ||
        swm_json_integer_or(root, "height", 1, 1000000, 0, &height, error) < 0 ||
        swm_json_number_or(root, "fps", 1e-6, 1e6, 0, &fps, error) < 0 ||
        swm_json_string_or(root, "intrinsics_unit", "pixels", &unit, error) < 0)
        return -1;
    if (strcmp(unit, "pixels") != 0 && strcmp(unit, "fractions") != 0)
        return swm_json_refuse(root, "intrinsics_unit", "\"pixels\" or \"fractions\"", error);
    if (swm_camera_path_create(path, cJSON_GetArraySize(c2w), times != NULL, intrinsics != NULL, names != NULL, error) <
        0)
        return -1;
    path->fractions = strcmp(unit, "fractions") == 0;
    path->fps = fps;
    path->width = width > 0 && height > 0 ? (int)width : 0;
    path->height = width > 0 && height > 0 ? (int)height : 0;
    if (read_rows(source, c2w, "c2w", path->c2w, path->count, 16, error) < 0) return -1;
    if (times != NULL && read_rows(source, times, "times", path->times, path->count, 1, error) < 0) return -1;
    if (intrinsics != NULL && read_rows(source, intrinsics, "intrinsics", path->intrinsics, path->count, 4, error) < 0)
        return -1;
    return names != NULL ? read_names(path, source, names, error) : 0;
}

int swm_path_json_read(swm_camera_path *path, const swm_path_source *sources, int count,
                       const swm_path_reading *reading, swm_error *error)
{
    (void)count;
    swm_json root;
    if (sources[0].size > FORMAT_JSON_LIMIT)
        return swm_format_fail(&sources[0], error, "has %zu bytes; at most %d of JSON are read", sources[0].size,
                               FORMAT_JSON_LIMIT);
    cJSON *tree = swm_json_parse(sources[0].name, sources[0].data, sources[0].size, error);
    if (tree == NULL) return -1;
    int status = swm_json_root(&root, sources[0].name, tree, error);
    if (status == 0) status = read_path(path, &sources[0], root, reading, error);
    cJSON_Delete(tree);
    return status;
}

/* --- writing --- */

/* "key": [ [row], [row] ] with a line a frame. */
static void put_rows(FILE *out, const char *key, const double *values, int64_t count, int width)
{
    fprintf(out, ",\n  \"%s\": [", key);
    for (int64_t i = 0; i < count; i++) {
        fputs(i > 0 ? "," : "", out);
        fputs(width > 1 ? "\n    [" : i > 0 ? " " : "", out);
        swm_format_write_numbers(out, values + i * width, width, ", ");
        fputs(width > 1 ? "]" : "", out);
    }
    fputs(width > 1 ? "\n  ]" : "]", out);
}

int swm_path_json_write(const swm_camera_path *path, const char *place, const swm_path_writing *writing,
                        swm_error *error)
{
    if (writing->axes != NULL || writing->direction != SWM_DIRECTION_OWN)
        return swm_fail(error,
                        "%.300s: our JSON is always camera to world with OpenCV axes; leave the axes and direction of "
                        "the output away",
                        place);
    format_text text;
    if (swm_format_text_open(&text, error) < 0) return -1;
    FILE *out = text.stream;
    fprintf(out,
            "{\n  \"format\": \"camera path\",\n  \"convention\": \"c2w: camera to world, 4x4 by rows, OpenCV axes (x "
            "right, "
            "y down, z forward); intrinsics: fx, fy, cx, cy\",\n  \"frames\": %lld",
            (long long)path->count);
    if (path->fps > 0) {
        fputs(",\n  \"fps\": ", out);
        swm_format_write_number(out, path->fps);
    }
    if (path->width > 0) fprintf(out, ",\n  \"width\": %d,\n  \"height\": %d", path->width, path->height);
    if (path->intrinsics != NULL)
        fprintf(out, ",\n  \"intrinsics_unit\": \"%s\"", path->fractions ? "fractions" : "pixels");
    if (path->times != NULL) put_rows(out, "times", path->times, path->count, 1);
    put_rows(out, "c2w", path->c2w, path->count, 16);
    if (path->intrinsics != NULL) put_rows(out, "intrinsics", path->intrinsics, path->count, 4);
    for (int64_t i = 0; path->names != NULL && i < path->count; i++) {
        fputs(i > 0 ? ", " : ",\n  \"names\": [", out);
        swm_format_write_string(out, path->names[i]);
    }
    fputs(path->names != NULL ? "]\n}\n" : "\n}\n", out);
    return swm_format_text_save(&text, NULL, place, error);
}
