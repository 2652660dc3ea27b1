/* sanawm eval: camera paths against camera paths, a video against a video, a video against itself at revisits. */
#include "commands.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/file.h"
#include "eval/chart.h"
#include "eval/poses.h"
#include "eval/revisit.h"
#include "eval/video.h"

static const uint32_t BLUE = 0x2f6dac, ORANGE = 0xd07f3c, GREEN = 0x2a9d8f, GREY = 0x8a94a3;

/* ---- tables and numbers ----------------------------------------------------------------------------------------- */

typedef struct table {
    swm_output output;
    swm_error *error;
    bool failed;
} table;

static void put(table *t, const char *format, ...) __attribute__((format(printf, 2, 3)));
static void put(table *t, const char *format, ...)
{
    char text[256];
    va_list arguments;
    va_start(arguments, format);
    const int length = vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    if (!t->failed) t->failed = swm_output_write(&t->output, text, (size_t)length, t->error) < 0;
}

/* A cell that holds a number with all its digits, or nothing. */
static void put_number(table *t, double value)
{
    if (isnan(value))
        put(t, ",");
    else
        put(t, ",%.17g", value);
}

static int finish_table(table *t)
{
    if (!t->failed) return swm_output_commit(&t->output, t->error);
    swm_output_abandon(&t->output);
    return -1;
}

/* JSON has no NaN. */
static void add_number(cJSON *object, const char *name, double value)
{
    if (isfinite(value))
        cJSON_AddNumberToObject(object, name, value);
    else
        cJSON_AddNullToObject(object, name);
}

static void add_summary(cJSON *object, const char *name, const swm_summary *s)
{
    cJSON *o = cJSON_AddObjectToObject(object, name);
    add_number(o, "rmse", s->rmse);
    add_number(o, "mean", s->mean);
    add_number(o, "median", s->median);
    add_number(o, "std", s->deviation);
    add_number(o, "min", s->least);
    add_number(o, "max", s->greatest);
    add_number(o, "count", (double)s->count);
}

static int needs_frames(double **x, int64_t count, int64_t first, int64_t step, swm_error *error)
{
    *x = swm_allocate(error, (size_t)swm_max(1, count), sizeof(double));
    if (*x == NULL) return -1;
    for (int64_t i = 0; i < count; i++) (*x)[i] = (double)(first + i * step);
    return 0;
}

static void tell(void *user, const char *text)
{
    (void)user;
    cli_message("%s", text);
}

/* What was taken for granted about the file is said, unless `quiet`. */
static int load_path(swm_eval_path *path, const char *file, const char *format, bool quiet, swm_error *error)
{
    swm_path_reading reading = {.notice = quiet ? NULL : tell};
    if (format != NULL && swm_path_format_from_name(format, &reading.format, error) < 0) return -1;
    return swm_eval_path_load(path, file, &reading, error);
}

/* ---- eval poses ------------------------------------------------------------------------------------------------- */

typedef struct poses_values {
    const char *est_format, *gt_format, *csv, *plot;
    int64_t interval, delta;
    bool skip_first, json, quiet;
} poses_values;

#define AT(type, member) .offset = offsetof(type, member)

static const cli_option poses_options[] = {
    {CLI_INTEGER, "interval", AT(poses_values, interval), .minimum = 1, .maximum = 1000000, .value = "N",
     .help = "EST holds only every Nth pose of GT, as estimators that skip frames give it [1]"},
    {CLI_FLAG, "skip-first", AT(poses_values, skip_first),
     .help = "Leave out frame 0, a copy of the picture when a refiner was used"},
    {CLI_INTEGER, "delta", AT(poses_values, delta), .minimum = 1, .maximum = 1000000, .value = "N",
     .help = "Step of the relative pose error (RPE) in frames of EST [1]"},
    {CLI_STRING, "est-from", AT(poses_values, est_format), .value = "FORMAT",
     .help = "Format of EST where its content leaves it open: npy, npz, colmap, nerfstudio, blender, tum, kitti, ..."},
    {CLI_STRING, "gt-from", AT(poses_values, gt_format), .value = "FORMAT", .help = "The same for GT"},
    {CLI_STRING, "csv", AT(poses_values, csv), .value = "FILE.csv", .help = "Every error of every frame as a table"},
    {CLI_STRING, "plot", AT(poses_values, plot), .value = "FILE.svg|FILE.png",
     .help = "Draw both paths from above and the errors over the frames"},
    {CLI_FLAG, "json", AT(poses_values, json), .help = "Print everything as JSON"},
    {CLI_FLAG, "quiet", AT(poses_values, quiet), .help = "Do not say what the files were taken for"},
};

typedef struct poses_result {
    swm_pose_errors errors;
    swm_summary summaries[SWM_POSE_METRICS];
    int64_t first, step; /* frame of GT that value n belongs to: first + n step */
} poses_result;

/* Bring both paths to the same frames. */
static int match_frames(swm_eval_path *est, swm_eval_path *gt, const poses_values *v, swm_error *error)
{
    if (v->interval > 1) {
        const int64_t sampled = swm_divide_up(gt->count, v->interval);
        if (est->count != sampled)
            return swm_fail(error,
                            "EST has %lld poses; every %lld. of the %lld poses of GT makes %lld (--interval counts "
                            "frames of GT)",
                            (long long)est->count, (long long)v->interval, (long long)gt->count, (long long)sampled);
        swm_eval_path_thin(gt, 0, v->interval);
    }
    if (!v->skip_first) return 0;
    if (est->count < 2 || gt->count < 2)
        return swm_fail(error, "nothing is left after frame 0; leave out --skip-first for a single frame");
    swm_eval_path_thin(est, 1, 1);
    swm_eval_path_thin(gt, 1, 1);
    return 0;
}

static int measure_poses(poses_result *r, const char *const files[2], const poses_values *v, swm_error *error)
{
    swm_eval_path est = {0}, gt = {0};
    int status = load_path(&est, files[0], v->est_format, v->quiet, error);
    if (status == 0) status = load_path(&gt, files[1], v->gt_format, v->quiet, error);
    if (status == 0) status = match_frames(&est, &gt, v, error);
    if (status == 0) status = swm_pose_errors_compute(&r->errors, &est, &gt, v->delta, error);
    for (int m = 0; m < SWM_POSE_METRICS && status == 0; m++)
        status = swm_summarise(&r->summaries[m], swm_pose_errors_of(&r->errors, m), r->errors.count, error);
    r->step = v->interval;
    r->first = v->skip_first ? v->interval : 0;
    swm_eval_path_free(&est);
    swm_eval_path_free(&gt);
    return status;
}

static cJSON *describe_alignment(const swm_similarity *fit)
{
    cJSON *o = cJSON_CreateObject();
    cJSON_AddItemToObject(o, "rotation", cJSON_CreateDoubleArray(fit->rotation, 9));
    cJSON_AddItemToObject(o, "translation", cJSON_CreateDoubleArray(fit->translation, 3));
    cJSON_AddNumberToObject(o, "scale", fit->scale);
    cJSON_AddNumberToObject(o, "rank", fit->rank);
    return o;
}

static cJSON *describe_poses(const poses_result *r)
{
    static const char *const kinds[SWM_EVO_KINDS] = {"ate_translation", "ate_rotation_degrees", "rpe_translation",
                                                     "rpe_rotation_degrees"};
    const swm_summary *s = r->summaries;
    cJSON *root = cJSON_CreateObject();
    cJSON_AddNumberToObject(root, "frames", (double)r->errors.count);
    cJSON *sana = cJSON_AddObjectToObject(root, "sanawm");
    add_number(sana, "RotErr", s[SWM_SANAWM_ROTATION].mean);
    add_number(sana, "TransErr", s[SWM_SANAWM_TRANSLATION].mean);
    add_number(sana, "CamMC", s[SWM_SANAWM_MOTION].mean);
    add_number(sana, "scale", r->errors.sanawm_scale);
    cJSON_AddBoolToObject(sana, "mirrored", r->errors.sanawm_mirrored);
    cJSON *ctrl = cJSON_AddObjectToObject(root, "cameractrl");
    add_number(ctrl, "RotErr", s[SWM_CAMERACTRL_ROTATION].sum);
    add_number(ctrl, "TransErr", s[SWM_CAMERACTRL_TRANSLATION].sum);
    add_number(ctrl, "CamMC", s[SWM_CAMERACTRL_MOTION].sum);
    add_number(ctrl, "TransErr_abs", s[SWM_CAMERACTRL_TRANSLATION_ABSOLUTE].sum);
    add_number(ctrl, "CamMC_abs", s[SWM_CAMERACTRL_MOTION_ABSOLUTE].sum);
    cJSON *evo = cJSON_AddObjectToObject(root, "evo");
    cJSON_AddNumberToObject(evo, "delta", (double)r->errors.delta);
    for (int a = 0; a < SWM_ALIGN_COUNT; a++) {
        cJSON *o = cJSON_AddObjectToObject(evo, swm_alignment_name((swm_alignment)a));
        for (int k = 0; k < SWM_EVO_KINDS; k++)
            add_summary(o, kinds[k], &s[swm_evo_metric((swm_alignment)a, (enum swm_evo_kind)k)]);
        cJSON_AddItemToObject(o, "alignment", describe_alignment(&r->errors.alignment[a]));
    }
    return root;
}

static void print_cell(double value)
{
    if (isnan(value))
        printf("%11s", "-");
    else
        printf("%11.5g", value);
}

static void print_poses(const poses_result *r)
{
    const swm_summary *s = r->summaries;
    printf("%lld frames\n\n", (long long)r->errors.count);
    printf("SANA-WM     RotErr %.4f deg   TransErr %.5f   CamMC %.5f   means, aligned its way, scale %.4f%s\n",
           s[SWM_SANAWM_ROTATION].mean, s[SWM_SANAWM_TRANSLATION].mean, s[SWM_SANAWM_MOTION].mean,
           r->errors.sanawm_scale, r->errors.sanawm_mirrored ? ", mirrored" : "");
    printf("CameraCtrl  RotErr %.4f rad   TransErr %.5f   CamMC %.5f   sums, each path by its own reach\n",
           s[SWM_CAMERACTRL_ROTATION].sum, s[SWM_CAMERACTRL_TRANSLATION].sum, s[SWM_CAMERACTRL_MOTION].sum);
    printf("            TransErr_abs %.5f   CamMC_abs %.5f   sums, both paths by GT's reach\n\n",
           s[SWM_CAMERACTRL_TRANSLATION_ABSOLUTE].sum, s[SWM_CAMERACTRL_MOTION_ABSOLUTE].sum);
    printf("evo, rmse      ATE units    ATE deg  RPE units    RPE deg   scale   (RPE over %lld frame%s)\n",
           (long long)r->errors.delta, r->errors.delta == 1 ? "" : "s");
    for (int a = 0; a < SWM_ALIGN_COUNT; a++) {
        printf("%-12s", swm_alignment_name((swm_alignment)a));
        for (int k = 0; k < SWM_EVO_KINDS; k++)
            print_cell(s[swm_evo_metric((swm_alignment)a, (enum swm_evo_kind)k)].rmse);
        printf("  %7.4f\n", r->errors.alignment[a].scale);
    }
    if (r->errors.sanawm_scale < 0)
        printf("\nSANA-WM's alignment scaled EST by a negative number: EST moves the other way, which its TransErr "
               "forgives.\n");
    if (r->errors.alignment[SWM_ALIGN_RIGID].rank < 2)
        printf("\nThe path is %s: its rotation cannot be aligned by places alone, and evo itself refuses.\n",
               r->errors.alignment[SWM_ALIGN_RIGID].rank == 1 ? "a straight line" : "a single place");
}

static int save_poses_csv(const poses_result *r, const char *path, swm_error *error)
{
    table t = {.error = error};
    if (swm_output_open(&t.output, path, error) < 0) return -1;
    put(&t, "frame");
    for (int m = 0; m < SWM_POSE_METRICS; m++) put(&t, ",%s", swm_pose_metric_name(m));
    put(&t, "\n");
    for (int64_t n = 0; n < r->errors.count; n++) {
        put(&t, "%lld", (long long)(r->first + n * r->step));
        for (int m = 0; m < SWM_POSE_METRICS; m++) put_number(&t, swm_pose_errors_of(&r->errors, m)[n]);
        put(&t, "\n");
    }
    return finish_table(&t);
}

/* Coordinate `row` of every place of a path. */
static void places(double *out, const swm_eval_path *path, int row)
{
    for (int64_t i = 0; i < path->count; i++) out[i] = path->c2w[16 * i + 4 * row + 3];
}

static int save_poses_plot(const poses_result *r, const char *path, swm_error *error)
{
    const swm_pose_errors *e = &r->errors;
    const int64_t n = e->count;
    double *frames = NULL, *map = swm_allocate(error, (size_t)n, 4 * sizeof(double));
    int status = map == NULL ? -1 : needs_frames(&frames, n, r->first, r->step, error);
    if (status == 0) {
        places(map, &e->commanded, 0);
        places(map + n, &e->commanded, 2);
        places(map + 2 * n, &e->aligned, 0);
        places(map + 3 * n, &e->aligned, 2);
        const swm_chart_series above[] = {{"GT, commanded", map, map + n, n, GREY, false},
                                          {"EST, aligned", map + 2 * n, map + 3 * n, n, BLUE, false}};
        const swm_chart_series rotation = {NULL, frames, swm_pose_errors_of(e, SWM_SANAWM_ROTATION), n, ORANGE, false};
        const swm_chart_series moved[] = {
            {"TransErr", frames, swm_pose_errors_of(e, SWM_SANAWM_TRANSLATION), n, BLUE, false},
            {"CamMC", frames, swm_pose_errors_of(e, SWM_SANAWM_MOTION), n, GREEN, false}};
        const swm_chart_panel panels[] = {
            {.title = "Seen from above: z, ahead (units)",
             .x_name = "x, to the right (units)",
             .series = above,
             .count = 2,
             .map = true},
            {.title = "RotErr (\xc2\xb0)", .x_name = "frame", .series = &rotation, .count = 1, .from_zero = true},
            {.title = "TransErr and CamMC (units)", .x_name = "frame", .series = moved, .count = 2, .from_zero = true}};
        char line[200];
        snprintf(line, sizeof line,
                 "%lld frames \xc2\xb7 RotErr %.3f\xc2\xb0 \xc2\xb7 TransErr %.4f \xc2\xb7 CamMC %.4f", (long long)n,
                 r->summaries[SWM_SANAWM_ROTATION].mean, r->summaries[SWM_SANAWM_TRANSLATION].mean,
                 r->summaries[SWM_SANAWM_MOTION].mean);
        status = swm_chart_save(path, "Camera path: measured against commanded", line, panels, 3, error);
    }
    free(frames);
    free(map);
    return status;
}

static int run_poses(const cli_command *command, int argc, char **argv)
{
    poses_values v = {.interval = 1, .delta = 1};
    const char *files[2];
    int status;
    if (!cli_parse(command, argc, argv, &v, files, &status)) return status;
    swm_error error = {0};
    poses_result r = {0};
    if (measure_poses(&r, files, &v, &error) < 0 || (v.csv != NULL && save_poses_csv(&r, v.csv, &error) < 0) ||
        (v.plot != NULL && save_poses_plot(&r, v.plot, &error) < 0)) {
        status = cli_failure(&error);
    } else if (v.json) {
        status = cli_print_json(describe_poses(&r));
    } else {
        print_poses(&r);
    }
    swm_pose_errors_free(&r.errors);
    return status;
}

static const cli_command poses_command = {
    .name = "eval poses",
    .summary = "Errors between two camera paths",
    .operands = "EST GT",
    .operands_least = 2,
    .operands_most = 2,
    .description = "How far the camera path EST, measured in a video, is from GT, the one that was commanded: RotErr, "
                   "TransErr and CamMC as SANA-WM's benchmark defines them, the same names as the CameraCtrl line of "
                   "papers defines them, and evo's absolute and relative errors (ATE, RPE) without alignment, with the "
                   "first poses made equal, with rigid and with similarity alignment. Both files hold poses of the "
                   "same frames, in any format that sanawm camera convert reads.",
    .options = poses_options,
    .option_count = sizeof poses_options / sizeof poses_options[0],
    .run = run_poses,
};

/* ---- eval revisit ----------------------------------------------------------------------------------------------- */

typedef struct revisit_values {
    const char *format, *csv, *plot;
    double distance, degrees;
    int64_t gap, pairs;
    bool json, quiet;
} revisit_values;

static const cli_option revisit_options[] = {
    {CLI_NUMBER, "distance", AT(revisit_values, distance), .minimum = 1e-9, .maximum = 1e6, .value = "UNITS",
     .help = "Largest distance of the two places [0.5]"},
    {CLI_NUMBER, "angle", AT(revisit_values, degrees), .minimum = 1e-6, .maximum = 180, .value = "DEGREES",
     .help = "Largest angle between the two views [20]"},
    {CLI_INTEGER, "gap", AT(revisit_values, gap), .minimum = 1, .maximum = 1000000, .value = "N",
     .help = "Least number of frames from one to the other [16]"},
    {CLI_INTEGER, "pairs", AT(revisit_values, pairs), .minimum = 1, .maximum = SWM_REVISIT_PAIRS, .value = "N",
     .help = "At most so many pairs, the closest ones [5]"},
    {CLI_STRING, "from", AT(revisit_values, format), .value = "FORMAT",
     .help =
         "Format of POSES where its content leaves it open: npy, npz, colmap, nerfstudio, blender, tum, kitti, ..."},
    {CLI_STRING, "csv", AT(revisit_values, csv), .value = "FILE.csv", .help = "The pairs as a table"},
    {CLI_STRING, "plot", AT(revisit_values, plot), .value = "FILE.svg|FILE.png",
     .help = "Draw the path from above with the pairs, and their likeness over the frames in between"},
    {CLI_FLAG, "json", AT(revisit_values, json), .help = "Print everything as JSON"},
    {CLI_FLAG, "quiet", AT(revisit_values, quiet), .help = "Do not say what the files were taken for"},
};

typedef struct revisit_result {
    swm_eval_path path; /* as long as the video */
    swm_revisit pairs[SWM_REVISIT_PAIRS];
    int count;
    int64_t poses; /* in the file */
} revisit_result;

static int measure_revisits(revisit_result *r, const char *const files[2], const revisit_values *v, swm_error *error)
{
    swm_revisit_options options = swm_revisit_defaults();
    options.distance = v->distance;
    options.degrees = v->degrees;
    options.gap = v->gap;
    options.pairs = (int)v->pairs;
    if (load_path(&r->path, files[1], v->format, v->quiet, error) < 0) return -1;
    const int64_t frames = swm_video_frame_count(files[0], error);
    if (frames < 0) return -1;
    r->poses = r->path.count;
    if (r->path.count < frames)
        return swm_fail(error, "%.300s has %lld frames, %.300s only %lld poses; there must be a pose for every frame",
                        files[0], (long long)frames, files[1], (long long)r->path.count);
    /* A generation rounds the number of frames down; the poses left over were never filmed. */
    r->path.count = frames;
    r->count = swm_revisit_find(r->pairs, &r->path, &options, error);
    return r->count < 0 ? -1 : swm_revisit_measure(r->pairs, r->count, files[0], error);
}

static double mean_of(const revisit_result *r, size_t member)
{
    double sum = 0;
    for (int i = 0; i < r->count; i++) sum += *(const double *)((const char *)&r->pairs[i] + member);
    return r->count > 0 ? sum / r->count : (double)NAN;
}

static cJSON *describe_revisits(const revisit_result *r)
{
    cJSON *root = cJSON_CreateObject();
    cJSON_AddNumberToObject(root, "frames", (double)r->path.count);
    cJSON_AddNumberToObject(root, "poses", (double)r->poses);
    cJSON_AddNumberToObject(root, "pairs", r->count);
    add_number(root, "psnr_db", mean_of(r, offsetof(swm_revisit, psnr)));
    add_number(root, "ssim", mean_of(r, offsetof(swm_revisit, ssim)));
    add_number(root, "ssim_uniform", mean_of(r, offsetof(swm_revisit, ssim_uniform)));
    cJSON *list = cJSON_AddArrayToObject(root, "revisits");
    for (int i = 0; i < r->count; i++) {
        const swm_revisit *p = &r->pairs[i];
        cJSON *o = cJSON_CreateObject();
        cJSON_AddNumberToObject(o, "frame_a", (double)p->first);
        cJSON_AddNumberToObject(o, "frame_b", (double)p->second);
        cJSON_AddNumberToObject(o, "distance", p->distance);
        cJSON_AddNumberToObject(o, "angle_degrees", p->degrees);
        cJSON_AddNumberToObject(o, "psnr_db", p->psnr);
        cJSON_AddNumberToObject(o, "ssim", p->ssim);
        cJSON_AddNumberToObject(o, "ssim_uniform", p->ssim_uniform);
        cJSON_AddItemToArray(list, o);
    }
    return root;
}

static void print_revisits(const revisit_result *r, const revisit_values *v)
{
    if (r->count == 0) {
        printf("The camera never comes back within %g units and %g degrees.\n", v->distance, v->degrees);
        return;
    }
    printf("frames           distance    angle   PSNR dB     SSIM   uniform\n");
    for (int i = 0; i < r->count; i++) {
        const swm_revisit *p = &r->pairs[i];
        printf("%6lld %6lld  %10.4f  %7.3f  %8.3f  %7.4f  %8.4f\n", (long long)p->first, (long long)p->second,
               p->distance, p->degrees, p->psnr, p->ssim, p->ssim_uniform);
    }
    printf("mean                                %8.3f  %7.4f  %8.4f\n", mean_of(r, offsetof(swm_revisit, psnr)),
           mean_of(r, offsetof(swm_revisit, ssim)), mean_of(r, offsetof(swm_revisit, ssim_uniform)));
}

static int save_revisits_csv(const revisit_result *r, const char *path, swm_error *error)
{
    table t = {.error = error};
    if (swm_output_open(&t.output, path, error) < 0) return -1;
    put(&t, "frame_a,frame_b,distance,angle_deg,psnr_db,ssim,ssim_uniform\n");
    for (int i = 0; i < r->count; i++) {
        const swm_revisit *p = &r->pairs[i];
        put(&t, "%lld,%lld", (long long)p->first, (long long)p->second);
        const double values[] = {p->distance, p->degrees, p->psnr, p->ssim, p->ssim_uniform};
        for (size_t k = 0; k < sizeof values / sizeof values[0]; k++) put_number(&t, values[k]);
        put(&t, "\n");
    }
    return finish_table(&t);
}

static int save_revisits_plot(const revisit_result *r, const char *path, swm_error *error)
{
    const int64_t n = r->path.count;
    double *map = swm_allocate(error, (size_t)n, 2 * sizeof(double));
    if (map == NULL) return -1;
    places(map, &r->path, 0);
    places(map + n, &r->path, 2);
    double x[2 * SWM_REVISIT_PAIRS], z[2 * SWM_REVISIT_PAIRS], gaps[SWM_REVISIT_PAIRS], psnr[SWM_REVISIT_PAIRS],
        ssim[SWM_REVISIT_PAIRS];
    for (int i = 0; i < r->count; i++) {
        const swm_revisit *p = &r->pairs[i];
        for (int k = 0; k < 2; k++) {
            x[2 * i + k] = map[k == 0 ? p->first : p->second];
            z[2 * i + k] = map[n + (k == 0 ? p->first : p->second)];
        }
        gaps[i] = (double)(p->second - p->first);
        psnr[i] = p->psnr;
        ssim[i] = p->ssim;
    }
    const swm_chart_series above[] = {{"path", map, map + n, n, GREY, false},
                                      {"revisits", x, z, 2 * r->count, ORANGE, true}};
    const swm_chart_series noise = {NULL, gaps, psnr, r->count, BLUE, true},
                           structure = {NULL, gaps, ssim, r->count, GREEN, true};
    const swm_chart_panel panels[] = {
        {.title = "Seen from above: z, ahead (units)",
         .x_name = "x, to the right (units)",
         .series = above,
         .count = 2,
         .map = true},
        {.title = "PSNR (dB)", .x_name = "frames from one to the other", .series = &noise, .count = 1},
        {.title = "SSIM", .x_name = "frames from one to the other", .series = &structure, .count = 1}};
    char line[120];
    snprintf(line, sizeof line, "%d pairs \xc2\xb7 %lld frames", r->count, (long long)n);
    const int status = swm_chart_save(path, "Revisits: is it still the same place?", line, panels, 3, error);
    free(map);
    return status;
}

static int run_revisit(const cli_command *command, int argc, char **argv)
{
    const swm_revisit_options defaults = swm_revisit_defaults();
    revisit_values v = {
        .distance = defaults.distance, .degrees = defaults.degrees, .gap = defaults.gap, .pairs = defaults.pairs};
    const char *files[2];
    int status;
    if (!cli_parse(command, argc, argv, &v, files, &status)) return status;
    swm_error error = {0};
    revisit_result r = {0};
    if (measure_revisits(&r, files, &v, &error) < 0 || (v.csv != NULL && save_revisits_csv(&r, v.csv, &error) < 0) ||
        (v.plot != NULL && save_revisits_plot(&r, v.plot, &error) < 0)) {
        status = cli_failure(&error);
    } else if (v.json) {
        status = cli_print_json(describe_revisits(&r));
    } else {
        print_revisits(&r, &v);
    }
    swm_eval_path_free(&r.path);
    return status;
}

static const cli_command revisit_command = {
    .name = "eval revisit",
    .summary = "Does a place look the same when the camera returns",
    .operands = "VIDEO POSES",
    .operands_least = 2,
    .operands_most = 2,
    .description =
        "Find frames at which the camera is back where it was, by the poses, and compare the pictures: PSNR and SSIM "
        "(Gaussian window as in Wang et al. and scikit-image; uniform window as in SANA-WM's evaluator). POSES has a "
        "camera-to-world matrix for every frame of VIDEO; surplus ones are left out.",
    .options = revisit_options,
    .option_count = sizeof revisit_options / sizeof revisit_options[0],
    .run = run_revisit,
};

/* ---- eval video ------------------------------------------------------------------------------------------------- */

typedef struct video_values {
    const char *csv, *plot;
    bool json;
} video_values;

static const cli_option video_options[] = {
    {CLI_STRING, "csv", AT(video_values, csv), .value = "FILE.csv", .help = "Every measure of every frame as a table"},
    {CLI_STRING, "plot", AT(video_values, plot), .value = "FILE.svg|FILE.png",
     .help = "Draw the measures over the frames"},
    {CLI_FLAG, "json", AT(video_values, json), .help = "Print everything as JSON"},
};

typedef struct video_result {
    swm_video_errors errors;
    swm_summary summaries[SWM_VIDEO_METRICS];
} video_result;

static int stop_when_interrupted(void *user, int64_t frames_done)
{
    (void)user;
    (void)frames_done;
    return cli_interrupted();
}

static int measure_videos(video_result *r, const char *const files[2], swm_error *error)
{
    int status = swm_video_errors_compute(&r->errors, files[0], files[1], stop_when_interrupted, NULL, error);
    for (int m = 0; m < SWM_VIDEO_METRICS && status == 0; m++)
        status = swm_summarise(&r->summaries[m], r->errors.values[m], r->errors.count, error);
    return status;
}

static cJSON *describe_videos(const video_result *r)
{
    cJSON *root = cJSON_CreateObject();
    cJSON_AddNumberToObject(root, "frames", (double)r->errors.count);
    cJSON_AddNumberToObject(root, "width", r->errors.width);
    cJSON_AddNumberToObject(root, "height", r->errors.height);
    cJSON_AddNumberToObject(root, "fps", r->errors.fps);
    add_number(root, "psnr_db_of_all_frames", swm_psnr(r->errors.mean_squared_error));
    for (int m = 0; m < SWM_VIDEO_METRICS; m++) add_summary(root, swm_video_metric_name(m), &r->summaries[m]);
    return root;
}

static void print_videos(const video_result *r)
{
    const swm_summary *s = r->summaries;
    printf("%lld frames of %dx%d\n\n", (long long)r->errors.count, r->errors.width, r->errors.height);
    printf("PSNR     %8.3f dB, worst frame %.3f, of all frames together %.3f\n", s[SWM_VIDEO_PSNR].mean,
           s[SWM_VIDEO_PSNR].least, swm_psnr(r->errors.mean_squared_error));
    printf("SSIM     %8.5f, worst frame %.5f (Gaussian window); %.5f (uniform window)\n", s[SWM_VIDEO_SSIM].mean,
           s[SWM_VIDEO_SSIM].least, s[SWM_VIDEO_SSIM_UNIFORM].mean);
    if (r->errors.count > 1)
        printf("Flicker  %8.3f A, %.3f B, %.3f A - B (mean change a frame, of 255)\n", s[SWM_VIDEO_FLICKER_A].mean,
               s[SWM_VIDEO_FLICKER_B].mean, s[SWM_VIDEO_FLICKER_DIFFERENCE].mean);
}

static int save_videos_csv(const video_result *r, const char *path, swm_error *error)
{
    table t = {.error = error};
    if (swm_output_open(&t.output, path, error) < 0) return -1;
    put(&t, "frame");
    for (int m = 0; m < SWM_VIDEO_METRICS; m++) put(&t, ",%s", swm_video_metric_name(m));
    put(&t, "\n");
    for (int64_t n = 0; n < r->errors.count; n++) {
        put(&t, "%lld", (long long)n);
        for (int m = 0; m < SWM_VIDEO_METRICS; m++) put_number(&t, r->errors.values[m][n]);
        put(&t, "\n");
    }
    return finish_table(&t);
}

static int save_videos_plot(const video_result *r, const char *path, swm_error *error)
{
    const int64_t n = r->errors.count;
    double *frames, *const *v = r->errors.values;
    if (needs_frames(&frames, n, 0, 1, error) < 0) return -1;
    const swm_chart_series noise = {NULL, frames, v[SWM_VIDEO_PSNR], n, BLUE, false};
    const swm_chart_series structure[] = {{"Gaussian window", frames, v[SWM_VIDEO_SSIM], n, GREEN, false},
                                          {"uniform window", frames, v[SWM_VIDEO_SSIM_UNIFORM], n, GREY, false}};
    const swm_chart_series flicker[] = {{"A", frames, v[SWM_VIDEO_FLICKER_A], n, BLUE, false},
                                        {"B", frames, v[SWM_VIDEO_FLICKER_B], n, GREY, false},
                                        {"A - B", frames, v[SWM_VIDEO_FLICKER_DIFFERENCE], n, ORANGE, false}};
    const swm_chart_panel panels[] = {{.title = "PSNR (dB)", .x_name = "frame", .series = &noise, .count = 1},
                                      {.title = "SSIM", .x_name = "frame", .series = structure, .count = 2},
                                      {.title = "Change from the frame before (of 255)",
                                       .x_name = "frame",
                                       .series = flicker,
                                       .count = 3,
                                       .from_zero = true}};
    char line[160];
    snprintf(line, sizeof line, "%lld frames of %dx%d \xc2\xb7 PSNR %.2f dB \xc2\xb7 SSIM %.4f", (long long)n,
             r->errors.width, r->errors.height, r->summaries[SWM_VIDEO_PSNR].mean, r->summaries[SWM_VIDEO_SSIM].mean);
    const int status = swm_chart_save(path, "Video A against video B", line, panels, 3, error);
    free(frames);
    return status;
}

static int run_video(const cli_command *command, int argc, char **argv)
{
    video_values v = {0};
    const char *files[2];
    int status;
    if (!cli_parse(command, argc, argv, &v, files, &status)) return status;
    cli_catch_interrupts();
    swm_error error = {0};
    video_result r = {0};
    if (measure_videos(&r, files, &error) < 0 || (v.csv != NULL && save_videos_csv(&r, v.csv, &error) < 0) ||
        (v.plot != NULL && save_videos_plot(&r, v.plot, &error) < 0)) {
        status = cli_interrupted() ? cli_interrupt_status() : cli_failure(&error);
    } else if (v.json) {
        status = cli_print_json(describe_videos(&r));
    } else {
        print_videos(&r);
    }
    swm_video_errors_free(&r.errors);
    return status;
}

static const cli_command video_command = {
    .name = "eval video",
    .summary = "PSNR, SSIM and flicker of two videos",
    .operands = "A B",
    .operands_least = 2,
    .operands_most = 2,
    .description = "How alike two videos of the same size and number of frames are, frame by frame: PSNR, SSIM "
                   "(Gaussian window as in Wang et al. and scikit-image; uniform window as in SANA-WM's evaluator), "
                   "and how much each changes from frame to frame (temporal flicker), alone and in their difference.",
    .options = video_options,
    .option_count = sizeof video_options / sizeof video_options[0],
    .run = run_video,
};

/* ---- eval ------------------------------------------------------------------------------------------------------- */

static const cli_command *const kinds[] = {&poses_command, &revisit_command, &video_command};

static int run_eval(const cli_command *command, int argc, char **argv)
{
    for (size_t i = 0; argc > 0 && i < sizeof kinds / sizeof kinds[0]; i++)
        if (strcmp(argv[0], kinds[i]->name + strlen("eval ")) == 0) return kinds[i]->run(kinds[i], argc - 1, argv + 1);
    if (argc > 0 && (strcmp(argv[0], "--help") == 0 || strcmp(argv[0], "-h") == 0)) {
        cli_print_help(command);
        return CLI_OK;
    }
    if (argc > 0) return cli_usage(command, "eval knows poses, revisit and video, not \"%.64s\"", argv[0]);
    return cli_usage(command, "poses, revisit or video is missing");
}

const cli_command cli_eval = {
    .name = "eval",
    .summary = "Measure camera paths and videos",
    .operands = "poses|revisit|video ...",
    .operands_most = 3,
    .description = "sanawm eval poses EST GT: errors between a measured and a commanded camera path.\n"
                   "sanawm eval revisit VIDEO POSES: does a place look the same when the camera returns.\n"
                   "sanawm eval video A B: PSNR, SSIM and flicker of two videos.\n"
                   "Each has more options: sanawm help eval poses",
    .run = run_eval,
};
