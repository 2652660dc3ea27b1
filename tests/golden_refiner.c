/* Golden file of the refiner: positions, one velocity, and both samplers; the text's part is in golden_connectors.c. */
#include "golden.h"

#include "model/refiner_positions.h"
#include "sample/refine.h"

#include <stdlib.h>
#include <string.h>

/* The transformer of a file with all that is fixed for a clip. */
typedef struct clip {
    swm_weights *weights;
    swm_refiner *refiner;
    swm_latent_shape shape; /* of in.z */
    const float *z, *states;
    int64_t tokens; /* of the text */
    double fps;
    float sigmas[SWM_REFINE_MAX_STEPS + 1];
    int steps;
} clip;

static int bind(golden *g, clip *c)
{
    swm_refiner_config config;
    swm_json section;
    if (swm_json_section(g->config, "transformer", &section, &g->error) != 0) return -1;
    char *text = cJSON_PrintUnformatted(section.object);
    if (text == NULL) return swm_fail(&g->error, "out of memory");
    int result = swm_refiner_config_parse(&config, g->path, text, strlen(text), &g->error);
    cJSON_free(text);
    if (result != 0) return -1;
    c->weights = swm_weights_open_prefixed(g->path, "weight.transformer.", &g->error);
    c->refiner = c->weights != NULL ? swm_refiner_bind(c->weights, &config, &g->error) : NULL;
    return c->refiner != NULL ? 0 : -1;
}

static int read_sigmas(golden *g, clip *c)
{
    const cJSON *list = swm_json_find(g->config, "sigmas"), *item;
    int count = 0;
    cJSON_ArrayForEach(item, list)
    {
        if (!cJSON_IsNumber(item) || count > SWM_REFINE_MAX_STEPS)
            return swm_json_refuse(g->config, "sigmas", "a few numbers", &g->error);
        c->sigmas[count++] = (float)item->valuedouble;
    }
    c->steps = count - 1;
    return 0;
}

static int read_clip(golden *g, clip *c)
{
    const swm_tensor *z = golden_need(g, 5, "in.z"), *states = golden_need(g, 3, "act.prompt_embeds");
    if (z == NULL || states == NULL || bind(g, c) != 0 || read_sigmas(g, c) != 0 ||
        swm_json_number(g->config, "fps", 1, 1000, &c->fps, &g->error) != 0)
        return -1;
    c->shape = (swm_latent_shape){z->shape[1], z->shape[2], z->shape[3], z->shape[4]};
    c->tokens = states->shape[1];
    if (z->shape[0] != 1 || states->shape[0] != 1 || c->shape.channels != c->refiner->config.channels ||
        c->shape.frames < 2 || states->shape[2] != c->refiner->config.caption_channels)
        return swm_fail(&g->error, "%s: in.z %s or act.prompt_embeds %s does not fit the transformer", g->path,
                        swm_describe(*z).text, swm_describe(*states).text);
    c->z = golden_read(g, "in.z");
    c->states = golden_read(g, "act.prompt_embeds");
    return swm_failed(&g->error) ? -1 : 0;
}

/* ---- positions ---------------------------------------------------------------------------------------------------- */

typedef struct position_job {
    const clip *clip;
    swm_refiner_grid grid;
    float *tables[3]; /* (count,P,2) */
} position_job;

static int run_positions(void *user, swm_backend *b, swm_error *error)
{
    (void)error;
    position_job *job = user;
    swm_mark mark = swm_mark_of(b);
    for (int i = 0; i < 3; i++)
        swm_download(b, job->tables[i], swm_refiner_angles(b, &job->clip->refiner->config, &job->grid, i));
    swm_release(b, mark);
    return 0;
}

/* The reference's tables are whole: (H,N,D/2) when split, (N,C) with each value twice when interleaved. */
static int compare_positions(golden *g, const clip *c)
{
    const swm_refiner_config *config = &c->refiner->config;
    swm_latent_shape s = c->shape;
    int64_t cells = s.height * s.width, tokens = s.frames * cells, pairs = config->heads * config->head / 2;
    int64_t frequencies = pairs / 3, lanes = config->head / 2, still = pairs - 3 * frequencies;
    const int64_t counts[3] = {s.frames, s.height, s.width};
    position_job job = {.clip = c, .grid = {0, s.frames, s.height, s.width, c->fps}};
    for (int i = 0; i < 3; i++) job.tables[i] = golden_floats(g, counts[i] * frequencies * 2);
    float *tables[2] = {golden_floats(g, tokens * pairs * 2), golden_floats(g, tokens * pairs * 2)};
    float *spans = golden_floats(g, 3 * tokens * 2);
    if (swm_failed(&g->error) || golden_run_planned(g->options, run_positions, &job, NULL, NULL, &g->error) != 0)
        return -1;
    for (int64_t n = 0; n < tokens; n++) {
        const int64_t at[3] = {n / cells, n / s.width % s.height, n % s.width};
        for (int i = 0; i < 3; i++) swm_refiner_span(&job.grid, i, at[i], spans + (i * tokens + n) * 2);
        for (int64_t e = 0; e < pairs; e++)
            for (int part = 0; part < 2; part++) {
                int64_t k = e - still, axis = k % 3;
                float value = k < 0 ? (float)(1 - part) : job.tables[axis][2 * (at[axis] * frequencies + k / 3) + part];
                if (config->interleaved)
                    tables[part][2 * (n * pairs + e)] = tables[part][2 * (n * pairs + e) + 1] = value;
                else
                    tables[part][(e / lanes * tokens + n) * lanes + e % lanes] = value;
            }
    }
    int64_t count = tokens * pairs * (config->interleaved ? 2 : 1);
    golden_compare(g, "act.video_coords", spans, 3 * tokens * 2);
    golden_compare(g, "act.rope0", tables[0], count);
    golden_compare(g, "act.rope1", tables[1], count);
    return 0;
}

/* ---- one velocity ------------------------------------------------------------------------------------------------- */

/* A span behind its window. Velocity may be NULL. */
static void forward(swm_backend *b, const clip *c, const swm_refiner_text *text, swm_refiner_window *window,
                    int64_t first, int64_t frames, const float *latent, float sigma, swm_refiner_keep keep,
                    float *velocity)
{
    swm_latent_shape s = c->shape;
    swm_mark mark = swm_mark_of(b);
    swm_refiner_step step = {.latent = SWM_UPLOAD(b, b->compute, latent, s.channels, frames, s.height, s.width),
                             .first = first,
                             .fps = c->fps,
                             .sigma = sigma,
                             .text = text,
                             .window = window,
                             .keep = keep};
    swm_tensor v = swm_refiner_forward(b, c->refiner, &step);
    if (velocity != NULL) swm_download(b, velocity, v);
    swm_release(b, mark);
}

typedef struct velocity_job {
    const clip *clip;
    const float *sink, *x;
    float *velocity; /* (c,T-1,h,w) */
} velocity_job;

static const float velocity_sigma = 0.725f;

static int run_velocity(void *user, swm_backend *b, swm_error *error)
{
    (void)error;
    velocity_job *job = user;
    const clip *c = job->clip;
    swm_refiner_text text;
    swm_refiner_window window;
    swm_mark mark = swm_mark_of(b);
    swm_refiner_text_prepare(b, c->refiner, &text, c->tokens, c->states);
    swm_refiner_window_take(b, c->refiner, &window, 0, c->shape.height, c->shape.width);
    forward(b, c, &text, &window, 0, 1, job->sink, 0, SWM_REFINER_KEEP_SINK, NULL);
    forward(b, c, &text, &window, 1, c->shape.frames - 1, job->x, velocity_sigma, SWM_REFINER_KEEP_NOTHING,
            job->velocity);
    swm_release(b, mark);
    return 0;
}

static void cut(float *out, const float *in, swm_latent_shape s, int64_t first, int64_t frames)
{
    int64_t cells = s.height * s.width;
    for (int64_t c = 0; c < s.channels; c++)
        memcpy(out + c * frames * cells, in + (c * s.frames + first) * cells, (size_t)(frames * cells) * sizeof(float));
}

/* What the network makes of the clip as it is, taken for noisy at one sigma: tokens (N,c) without the sink's. */
static int compare_velocity(golden *g, const clip *c)
{
    swm_latent_shape s = c->shape;
    int64_t tokens = (s.frames - 1) * s.height * s.width, count = tokens * s.channels;
    float *sink = golden_floats(g, swm_latent_count(s)), *x = golden_floats(g, count), *out = golden_floats(g, count);
    velocity_job job = {.clip = c, .sink = sink, .x = x, .velocity = golden_floats(g, count)};
    if (swm_failed(&g->error)) return -1;
    cut(sink, c->z, s, 0, 1);
    cut(x, c->z, s, 1, s.frames - 1);
    if (golden_run_planned(g->options, run_velocity, &job, NULL, NULL, &g->error) != 0) return -1;
    for (int64_t channel = 0; channel < s.channels; channel++)
        for (int64_t n = 0; n < tokens; n++) {
            int64_t i = channel * tokens + n;
            out[n * s.channels + channel] = x[i] - job.velocity[i] * velocity_sigma;
        }
    golden_compare(g, "out.x0_sigma0.725", out, count);
    return 0;
}

/* ---- samplers ----------------------------------------------------------------------------------------------------- */

typedef struct sample_job {
    const clip *clip;
    swm_refinement how;
    swm_latent_shape shape;
    int64_t history;
    const float **noise; /* one a span */
    int64_t spans, drawn;
    float *latent;
    swm_backend *b;
    swm_refiner_text text;
    swm_refiner_window window;
} sample_job;

static int sample_velocity(void *user, int64_t first, int64_t frames, const float *latent, float sigma, bool keep,
                           float *velocity, swm_error *error)
{
    (void)error;
    sample_job *job = user;
    swm_refiner_keep what = !keep        ? SWM_REFINER_KEEP_NOTHING
                            : first == 0 ? SWM_REFINER_KEEP_SINK
                                         : SWM_REFINER_KEEP_HISTORY;
    forward(job->b, job->clip, &job->text, &job->window, first, frames, latent, sigma, what, velocity);
    return 0;
}

static void sample_noise(void *user, int64_t first, int64_t frames, float *noise)
{
    (void)first;
    sample_job *job = user;
    swm_latent_shape s = job->shape;
    memcpy(noise, job->noise[job->drawn++], (size_t)(s.channels * frames * s.height * s.width) * sizeof(float));
}

static int run_sample(void *user, swm_backend *b, swm_error *error)
{
    sample_job *job = user;
    const clip *c = job->clip;
    swm_mark mark = swm_mark_of(b);
    job->b = b;
    job->drawn = 0;
    swm_refiner_text_prepare(b, c->refiner, &job->text, c->tokens, c->states);
    swm_refiner_window_take(b, c->refiner, &job->window, job->history, job->shape.height, job->shape.width);
    cut(job->latent, c->z, c->shape, 0, job->shape.frames);
    int result = swm_refine(&job->how, job->shape, job->latent, error);
    swm_release(b, mark);
    return result;
}

/* One draw for the whole clip, or one a block. */
static int read_noise(golden *g, sample_job *job, const char *name)
{
    int64_t frames = job->shape.frames - 1, block = job->how.block > 0 ? job->how.block : frames;
    job->spans = swm_divide_up(frames, block);
    job->noise = golden_allocate(g, job->spans, sizeof *job->noise);
    if (job->noise == NULL) return -1;
    for (int64_t i = 0; i < job->spans; i++) {
        char full[96];
        if (job->how.block > 0)
            snprintf(full, sizeof full, "noise.%s.%lld", name, (long long)i);
        else
            snprintf(full, sizeof full, "noise.%s", name);
        const swm_tensor *t = golden_need(g, 5, "%s", full);
        if (t == NULL) return -1;
        int64_t count = swm_min(block, frames - i * block);
        if (swm_count(*t) != job->shape.channels * count * job->shape.height * job->shape.width)
            return swm_fail(&g->error, "%s: tensor %s has shape %s, expected %lld frames like those of in.z", g->path,
                            full, swm_describe(*t).text, (long long)count);
        job->noise[i] = golden_read(g, "%s", full);
        if (job->noise[i] == NULL) return -1;
    }
    return 0;
}

/* out.<name>, from draws noise.<name>; with blocks as the config says under that name. */
static int compare_sample(golden *g, const clip *c, const char *name)
{
    sample_job job = {.clip = c, .how = swm_refinement_defaults(), .shape = c->shape};
    job.how.steps = c->steps;
    memcpy(job.how.sigmas, c->sigmas, sizeof c->sigmas);
    job.how.round_to_bf16 = g->options->compute == SWM_BF16;
    job.how.velocity = sample_velocity;
    job.how.noise = sample_noise;
    job.how.user = &job;
    if (swm_json_find(g->config, name) != NULL) {
        swm_json section;
        int64_t window;
        if (swm_json_section(g->config, name, &section, &g->error) != 0 ||
            swm_json_integer_or(section, "frames", 2, c->shape.frames, c->shape.frames, &job.shape.frames, &g->error) !=
                0 ||
            swm_json_integer(section, "block_size", 1, 1 << 16, &job.how.block, &g->error) != 0 ||
            swm_json_integer(section, "kv_max_frames", 2, 1 << 16, &window, &g->error) != 0)
            return -1;
        job.history = window - 1; /* the sink is counted among them */
        job.how.history = true;
    }
    int64_t count = swm_latent_count(job.shape);
    char out[64];
    snprintf(out, sizeof out, "out.%s", name);
    job.latent = golden_floats(g, swm_latent_count(c->shape));
    if (job.latent == NULL || read_noise(g, &job, name) != 0 ||
        golden_run_planned(g->options, run_sample, &job, NULL, NULL, &g->error) != 0)
        return -1;
    golden_compare(g, out, job.latent, count);
    return 0;
}

/* ---- the file ----------------------------------------------------------------------------------------------------- */

static int run_refiner(golden *g)
{
    static const char *const samples[] = {"bidirectional", "ar", "ar11"};
    clip c = {0};
    int result = read_clip(g, &c);
    if (result == 0) result = golden_compare_connectors(g);
    if (result == 0) result = compare_positions(g, &c);
    if (result == 0) result = compare_velocity(g, &c);
    for (size_t i = 0; result == 0 && i < sizeof samples / sizeof *samples; i++) {
        if (golden_has(g, "out.%s", samples[i])) result = compare_sample(g, &c, samples[i]);
    }
    free(c.refiner);
    swm_weights_close(c.weights);
    return result;
}

static bool is_refiner(const golden *g)
{
    return golden_has(g, "weight.transformer.caption_projection.linear_1.weight") &&
           golden_has(g, "weight.connectors.text_proj_in.weight");
}

const golden_kind golden_kind_refiner = {"refiner", is_refiner, run_refiner};
