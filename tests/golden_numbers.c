/* Golden files without a network: cameras and pictures, samplers around a model in closed form, noise. */
#include "golden.h"

#include "camera/action.h"
#include "camera/camera.h"
#include "core/rng.h"
#include "sample/sampler.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* ---- camera ------------------------------------------------------------------------------------------------------- */

static int compare_action(golden *g, swm_json actions, const char *name)
{
    swm_json how;
    const char *text;
    swm_motion_options options = swm_motion_defaults(NULL);
    if (swm_json_section(actions, name, &how, &g->error) != 0 ||
        swm_json_string(how, "action", &text, &g->error) != 0 ||
        swm_json_number_or(how, "translation_speed", 0, 1e6, options.translation_speed, &options.translation_speed,
                           &g->error) != 0 ||
        swm_json_number_or(how, "rotation_speed_deg", 0, 180, options.rotation_speed_degrees,
                           &options.rotation_speed_degrees, &g->error) != 0 ||
        swm_json_number_or(how, "pitch_limit_deg", 0, 90, options.pitch_limit_degrees, &options.pitch_limit_degrees,
                           &g->error) != 0 ||
        swm_json_bool_or(how, "smooth", options.smooth, &options.smooth, &g->error) != 0)
        return -1;
    swm_poses poses;
    if (swm_action_rollout(text, &options, &poses, &g->error) != 0) return -1;
    char tensor[128];
    snprintf(tensor, sizeof tensor, "c2w.%s", name);
    golden_compare(g, tensor, poses.c2w, poses.count * 16);
    swm_poses_free(&poses);
    return 0;
}

/* Poses <name>.c2w and the intrinsics of the first preparation to the denoiser's conditions. */
static int compare_conditions(golden *g, const char *name)
{
    const swm_tensor *c2w = golden_need(g, 3, "%s.c2w", name), *plane = golden_need(g, 4, "%s.chunk_plucker", name);
    const swm_tensor *k = golden_need(g, 2, "prep.intrinsics");
    float *poses = golden_read(g, "%s.c2w", name), *intrinsics = golden_read(g, "prep.intrinsics");
    if (c2w == NULL || plane == NULL || k == NULL || poses == NULL || intrinsics == NULL) return -1;
    int64_t latents = swm_latent_frames(c2w->shape[0]), h = plane->shape[2], w = plane->shape[3];
    if (swm_count(*c2w) != k->shape[0] * 16 || swm_count(*k) != k->shape[0] * 4)
        return swm_fail(&g->error, "%s: %s.c2w and prep.intrinsics do not fit", g->path, name);
    swm_poses path = {c2w->shape[0], poses};
    swm_intrinsics latent = {k->shape[0], intrinsics};
    float *raymap = golden_floats(g, latents * SWM_RAYMAP_CHANNELS);
    float *plucker = golden_floats(g, latents * SWM_PLUCKER_CHANNELS * h * w);
    if (swm_failed(&g->error)) return -1;
    swm_poses_relativise(&path);
    swm_intrinsics_to_latent(&latent, (int)(32 * w), (int)(32 * h), w, h);
    swm_raymap(raymap, &path, &latent, 0, latents);
    swm_chunk_plucker(plucker, &path, &latent, 0, latents, h, w);
    char tensor[64];
    snprintf(tensor, sizeof tensor, "%s.raymap", name);
    golden_compare(g, tensor, raymap, latents * SWM_RAYMAP_CHANNELS);
    snprintf(tensor, sizeof tensor, "%s.chunk_plucker", name);
    golden_compare(g, tensor, plucker, latents * SWM_PLUCKER_CHANNELS * h * w);
    return 0;
}

static int compare_rays(golden *g)
{
    const swm_tensor *t = golden_need(g, 6, "ucpe.raymats"), *raymap = golden_need(g, 2, "prep2.raymap");
    const float *conditions = golden_read(g, "prep2.raymap");
    if (t == NULL || raymap == NULL || conditions == NULL) return -1;
    int64_t count = swm_count(*t);
    if (t->shape[0] != 1 || t->shape[1] != raymap->shape[0] || t->shape[4] * t->shape[5] != 16)
        return swm_fail(&g->error, "%s: ucpe.raymats and prep2.raymap do not fit", g->path);
    float *rays = golden_floats(g, count), *inverse = golden_floats(g, count);
    if (swm_failed(&g->error)) return -1;
    swm_ray_matrices(rays, inverse, conditions, t->shape[1], t->shape[2], t->shape[3], false);
    golden_compare(g, "ucpe.raymats", rays, count);
    golden_compare(g, "ucpe.inv", inverse, count);
    return 0;
}

/* <name>.geom: source height and width, target height and width, then width, height, resized width and height, left, top.
 * <name>.in and .out: pictures, where the file has them. */
static int compare_resize(golden *g, const char *name)
{
    const float *geometry = golden_read(g, "%s.geom", name);
    const swm_tensor *t = golden_need(g, 1, "%s.geom", name);
    if (geometry == NULL || t == NULL) return -1;
    if (t->shape[0] != 10) return swm_fail(&g->error, "%s: tensor %s.geom has not 10 numbers", g->path, name);
    for (int i = 0; i < 4; i++)
        if (!(geometry[i] >= 1 && geometry[i] <= SWM_FIT_SIDE))
            return swm_fail(&g->error, "%s: tensor %s.geom has the side %g", g->path, name, (double)geometry[i]);
    swm_fit fit = swm_image_fit((int)geometry[1], (int)geometry[0], (int)geometry[3], (int)geometry[2]);
    float got[10] = {geometry[0],
                     geometry[1],
                     geometry[2],
                     geometry[3],
                     (float)fit.source_width,
                     (float)fit.source_height,
                     (float)fit.resized_width,
                     (float)fit.resized_height,
                     (float)fit.left,
                     (float)fit.top};
    char tensor[64];
    snprintf(tensor, sizeof tensor, "%s.geom", name);
    golden_compare(g, tensor, got, 10);
    if (!golden_has(g, "%s.in", name)) return 0;
    const swm_tensor *in = golden_need(g, 3, "%s.in", name);
    if (in == NULL || in->dtype != SWM_U8 || in->shape[0] != fit.source_height || in->shape[1] != fit.source_width ||
        in->shape[2] != 3)
        return swm_fail(&g->error, "%s: tensor %s.in is not the picture of its geometry", g->path, name);
    swm_image source = {fit.source_width, fit.source_height, in->data}, picture;
    if (swm_image_fit_to(&picture, &fit, &source, (int)geometry[3], (int)geometry[2], &g->error) != 0) return -1;
    int64_t count = (int64_t)picture.width * picture.height * 3;
    float *bytes = golden_floats(g, count);
    if (bytes != NULL) swm_to_f32(bytes, picture.rgb, SWM_U8, (size_t)count);
    swm_image_free(&picture);
    if (bytes == NULL) return -1;
    snprintf(tensor, sizeof tensor, "%s.out", name);
    golden_compare(g, tensor, bytes, count);
    return 0;
}

/* Calls `compare` with the name in front of `suffix` of every tensor that begins with `prefix` and ends so. */
static int for_each(golden *g, const char *prefix, const char *suffix, int (*compare)(golden *g, const char *name))
{
    for (size_t i = 0; i < swm_safetensors_count(g->tensors); i++) {
        const char *name;
        swm_safetensors_at(g->tensors, i, &name);
        size_t length = strlen(name), tail = strlen(suffix);
        char stem[48];
        if (strncmp(name, prefix, strlen(prefix)) != 0 || length < tail || strcmp(name + length - tail, suffix) != 0 ||
            length - tail >= sizeof stem)
            continue;
        snprintf(stem, sizeof stem, "%.*s", (int)(length - tail), name);
        if (compare(g, stem) != 0) return -1;
    }
    return 0;
}

static int run_camera(golden *g)
{
    swm_json actions;
    if (swm_json_section(g->config, "actions", &actions, &g->error) != 0) return -1;
    const cJSON *item;
    cJSON_ArrayForEach(item, actions.object)
    {
        if (compare_action(g, actions, item->string) != 0) return -1;
    }
    if (for_each(g, "prep", ".c2w", compare_conditions) != 0) return -1;
    if (golden_has(g, "ucpe.raymats") && compare_rays(g) != 0) return -1;
    return for_each(g, "resize.", ".geom", compare_resize);
}

static bool is_camera(const golden *g) { return golden_has(g, "prep.raymap") && g->object != NULL; }

const golden_kind golden_kind_camera = {"camera", is_camera, run_camera};

/* ---- samplers ----------------------------------------------------------------------------------------------------- */

/* schedule.<steps>.<shift> */
static int compare_schedule(golden *g, const char *name)
{
    float sigmas[SWM_MAX_STEPS + 1], timesteps[SWM_MAX_STEPS];
    char *end, tensor[80];
    long steps = strtol(name + strlen("schedule."), &end, 10);
    double shift = *end == '.' ? strtod(end + 1, NULL) : 0;
    if (steps < 2 || steps > SWM_MAX_STEPS || !(shift > 0))
        return swm_fail(&g->error, "%s: tensor %s.sigmas is named after no schedule", g->path, name);
    swm_schedule_euler((int)steps, shift, sigmas, timesteps);
    snprintf(tensor, sizeof tensor, "%s.sigmas", name);
    golden_compare(g, tensor, sigmas, steps + 1);
    snprintf(tensor, sizeof tensor, "%s.timesteps", name);
    golden_compare(g, tensor, timesteps, steps);
    return 0;
}

/* A model in closed form, guided: tanh(0.7 x + mean(caption)) + 0.3 sin(3 t / 1000). */
typedef struct closed_model {
    swm_latent_shape shape;
    double conditional, unconditional; /* means of the captions */
    float guidance;
    int calls;
    float *seen,
        *seen_timesteps; /* of each call: (C,T,h,w) and (T), twice, as both halves of a batch; NULL: not kept */
} closed_model;

static int closed_velocity(void *user, const float *latent, int64_t frames, const float *timesteps, swm_chunks chunks,
                           float *velocity, swm_error *error)
{
    (void)chunks;
    (void)error;
    closed_model *m = user;
    int64_t cells = m->shape.height * m->shape.width, count = m->shape.channels * frames * cells;
    for (int half = 0; half < 2 && m->seen != NULL; half++) {
        memcpy(m->seen + (2 * m->calls + half) * count, latent, (size_t)count * sizeof *latent);
        memcpy(m->seen_timesteps + (2 * m->calls + half) * frames, timesteps, (size_t)frames * sizeof *timesteps);
    }
    for (int64_t i = 0; i < count; i++) {
        double x = 0.7 * (double)latent[i], wave = 0.3 * sin(3 * (double)timesteps[i / cells % frames] / 1000);
        double negative = tanh(x + m->unconditional) + wave, positive = tanh(x + m->conditional) + wave;
        velocity[i] = (float)(negative + (double)m->guidance * (positive - negative));
    }
    m->calls++;
    return 0;
}

static double mean_of(const float *values, int64_t count)
{
    double sum = 0;
    for (int64_t i = 0; i < count; i++) sum += (double)values[i];
    return sum / (double)count;
}

static int compare_samplers(golden *g, const swm_tensor *z, const swm_tensor *x)
{
    const swm_tensor *c = golden_need(g, -1, "in.cond"), *u = golden_need(g, -1, "in.uncond");
    float *cond = golden_read(g, "in.cond"), *uncond = golden_read(g, "in.uncond");
    int64_t starts[SWM_MAX_CHUNKS], calls = 0, count = swm_count(*z), passes = x->shape[0];
    int chunks = 0;
    double interval, guidance, shift;
    if (c == NULL || u == NULL || cond == NULL || uncond == NULL ||
        swm_json_integers(g->config, "chunk_index", 0, 1 << 20, starts, SWM_MAX_CHUNKS, &chunks, &g->error) != 0 ||
        swm_json_integer(g->config, "n_calls", 1, 1 << 20, &calls, &g->error) != 0 ||
        swm_json_number(g->config, "interval_k", 0, 1, &interval, &g->error) != 0 ||
        swm_json_number_or(g->config, "cfg_scale", 0, 100, 5, &guidance, &g->error) != 0 ||
        swm_json_number_or(g->config, "flow_shift", 0.01, 100, 8, &shift, &g->error) != 0)
        return -1;
    float *latent = golden_read(g, "in.z");
    closed_model model = {.shape = {z->shape[1], z->shape[2], z->shape[3], z->shape[4]},
                          .conditional = mean_of(cond, swm_count(*c)),
                          .unconditional = mean_of(uncond, swm_count(*u)),
                          .guidance = (float)guidance,
                          .seen = golden_floats(g, 2 * passes * count),
                          .seen_timesteps = golden_floats(g, 2 * passes * z->shape[2])};
    swm_sampling how = {.sampler = SWM_FLOW_EULER_LTX,
                        .steps = (int)passes,
                        .shift = shift,
                        .chunks = {1, (int64_t[]){0}},
                        .velocity = closed_velocity,
                        .user = &model};
    if (swm_failed(&g->error) || swm_sample(&how, model.shape, latent, &g->error) != 0) return -1;
    golden_compare(g, "ltx.x", model.seen, 2 * passes * count);
    golden_compare(g, "ltx.timesteps", model.seen_timesteps, 2 * passes * z->shape[2]);
    golden_compare(g, "ltx.out", latent, count);

    latent = golden_read(g, "in.z");
    model.seen = NULL;
    model.calls = 0;
    how.sampler = SWM_CHUNK_FLOW_EULER;
    how.chunks = (swm_chunks){chunks, starts};
    how.interval = interval;
    if (latent == NULL || swm_sample(&how, model.shape, latent, &g->error) != 0) return -1;
    golden_compare(g, "chunk.out", latent, count);
    golden_compare_values(g, "passes", SWM_I64, (float[]){(float)model.calls}, (float[]){(float)calls}, 1);
    golden_compare_values(g, "passes", SWM_I64, (float[]){(float)swm_sampling_passes(&how)}, (float[]){(float)calls},
                          1);
    return 0;
}

static int run_sampler(golden *g)
{
    if (for_each(g, "schedule.", ".sigmas", compare_schedule) != 0) return -1;
    const swm_tensor *z = golden_need(g, 5, "in.z"), *x = golden_need(g, 6, "ltx.x");
    if (z == NULL || x == NULL) return -1;
    if (z->shape[0] != 1 || x->shape[0] < 2 || x->shape[0] > SWM_MAX_STEPS)
        return swm_fail(&g->error, "%s: in.z has shape %s and ltx.x %s", g->path, swm_describe(*z).text,
                        swm_describe(*x).text);
    return compare_samplers(g, z, x);
}

static bool is_sampler(const golden *g) { return golden_has(g, "ltx.x") && golden_has(g, "chunk.out"); }

const golden_kind golden_kind_sampler = {"sampler", is_sampler, run_sampler};

/* ---- noise -------------------------------------------------------------------------------------------------------- */

enum { SECOND_DRAW = 7 };

/* cuda.<seed>.<count>.<type>: a draw of `count` values, of which a long one is stored in three pieces of 64 and 128, and
 * then seven more from the same generator. */
static int compare_draw(golden *g, const char *name)
{
    unsigned long long seed;
    long long count;
    char type[16];
    const swm_tensor *t = golden_need(g, 1, "%s", name);
    if (t == NULL) return -1;
    if (sscanf(name, "cuda.%llu.%lld.%15s", &seed, &count, type) != 3 || count < 1 || count > 1 << 24)
        return swm_fail(&g->error, "%s: tensor %s is named after no draw", g->path, name);
    bool whole = t->shape[0] == count + SECOND_DRAW;
    if (!whole && (t->shape[0] != 192 + SECOND_DRAW || count < 131104))
        return swm_fail(&g->error, "%s: tensor %s has %lld values", g->path, name, (long long)t->shape[0]);
    float *values = golden_floats(g, count + SECOND_DRAW), *kept = whole ? values : golden_floats(g, t->shape[0]);
    if (values == NULL || kept == NULL) return -1;
    swm_generator generator = {.seed = seed};
    swm_generator_normal(&generator, values, count);
    swm_generator_normal(&generator, values + count, SECOND_DRAW);
    if (!whole) {
        memcpy(kept, values, 64 * sizeof *kept);
        memcpy(kept + 64, values + 131040, 64 * sizeof *kept);
        memcpy(kept + 128, values + count - 64, (64 + SECOND_DRAW) * sizeof *kept);
    }
    if (strcmp(type, "bfloat16") == 0)
        for (int64_t i = 0; i < t->shape[0]; i++) kept[i] = swm_bf16_to_f32(swm_f32_to_bf16(kept[i]));
    golden_compare(g, name, kept, t->shape[0]);
    return 0;
}

static int run_rng_cuda(golden *g) { return for_each(g, "cuda.", "", compare_draw); }

static bool is_rng_cuda(const golden *g)
{
    const char *name = "";
    if (swm_safetensors_count(g->tensors) > 0) swm_safetensors_at(g->tensors, 0, &name);
    return strncmp(name, "cuda.", 5) == 0;
}

const golden_kind golden_kind_rng_cuda = {"rng_cuda", is_rng_cuda, run_rng_cuda};
