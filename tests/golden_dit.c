/* Golden files of the DiT: whole clips (both directions or chunk-causal), and the streaming student under its sampler. */
#include "golden.h"

#include "model/dit.h"
#include "sample/sampler.h"

#include <stdlib.h>
#include <string.h>

/* ---- what all kinds have ------------------------------------------------------------------------------------------ */

static bool has_dit(const golden *g) { return golden_has(g, "weight.x_embedder.proj.bias"); }

typedef struct model {
    swm_weights *weights;
    swm_dit *dit;
} model;

static void close_model(model *m)
{
    free(m->dit);
    swm_weights_close(m->weights);
}

static int open_model(golden *g, model *m)
{
    int64_t head = 0, every = 0;
    *m = (model){0};
    if (swm_json_integer(g->config, "linear_head_dim", 1, 1 << 16, &head, &g->error) != 0 ||
        swm_json_integer_or(g->config, "softmax_every_n", 1, 1 << 16, 4, &every, &g->error) != 0)
        return -1;
    m->weights = swm_weights_open_prefixed(g->path, "weight.", &g->error);
    m->dit = m->weights != NULL ? swm_dit_bind(m->weights, head, every, &g->error) : NULL;
    if (m->dit != NULL) return 0;
    close_model(m);
    return -1;
}

/* Inputs <prefix>in.* of B samples. */
typedef struct inputs {
    int64_t batch, tokens; /* caption tokens */
    swm_latent_shape shape;
    const float *x, *states, *conditions, *plucker;
    uint8_t *mask;
} inputs;

static int check_count(golden *g, const char *prefix, const char *name, int64_t count)
{
    const swm_tensor *t = golden_need(g, -1, "%sin.%s", prefix, name);
    if (t == NULL) return -1;
    if (swm_count(*t) == count) return 0;
    return swm_fail(&g->error, "%s: tensor %sin.%s has shape %s, which does not fit %sin.x", g->path, prefix, name,
                    swm_describe(*t).text, prefix);
}

static int read_inputs(golden *g, const swm_dit *dit, const char *prefix, inputs *in)
{
    const swm_tensor *x = golden_need(g, 5, "%sin.x", prefix), *y = golden_need(g, 4, "%sin.y", prefix);
    if (x == NULL || y == NULL) return -1;
    *in = (inputs){
        .batch = x->shape[0], .tokens = y->shape[2], .shape = {x->shape[1], x->shape[2], x->shape[3], x->shape[4]}};
    int64_t b = in->batch, cells = in->shape.frames * in->shape.height * in->shape.width;
    if (in->shape.channels != dit->size.latent_channels || in->shape.frames < 1)
        return swm_fail(&g->error, "%s: tensor %sin.x has shape %s, which the weights do not fit", g->path, prefix,
                        swm_describe(*x).text);
    if (check_count(g, prefix, "y", b * in->tokens * dit->size.caption_channels) != 0 ||
        check_count(g, prefix, "mask", b * in->tokens) != 0 ||
        check_count(g, prefix, "camera_conditions", b * in->shape.frames * 20) != 0 ||
        check_count(g, prefix, "chunk_plucker", b * cells * dit->size.plucker_channels) != 0)
        return -1;
    in->x = golden_read(g, "%sin.x", prefix);
    in->states = golden_read(g, "%sin.y", prefix);
    in->conditions = golden_read(g, "%sin.camera_conditions", prefix);
    in->plucker = golden_read(g, "%sin.chunk_plucker", prefix);
    const float *mask = golden_read(g, "%sin.mask", prefix);
    in->mask = golden_allocate(g, b * in->tokens, 1);
    if (swm_failed(&g->error)) return -1;
    for (int64_t i = 0; i < b * in->tokens; i++) in->mask[i] = mask[i] != 0;
    return 0;
}

/* ---- whole clips -------------------------------------------------------------------------------------------------- */

typedef struct clip_job {
    const swm_dit *dit;
    const inputs *in;
    const float *timesteps; /* (B,T) */
    swm_chunks chunks;
    float *velocity, *rotation; /* like x; (N,D/2,2) of the last sample */
} clip_job;

/* The embedding has a golden, but no forward needs it by itself. */
static void trace_embedding(swm_backend *b, const swm_dit *dit, const swm_dit_view *view)
{
    swm_mark mark = swm_mark_of(b);
    const swm_dit_outer *w = swm_weights_use(b, &dit->outer, sizeof *w);
    swm_affine embedder = w->plucker_embedder;
    swm_trace(b, swm_linear(b, view->plucker, embedder.weight, embedder.bias, SWM_IDENTITY), "plucker_embedder");
    swm_weights_done(b, &dit->outer);
    swm_release(b, mark);
}

/* Samples one after another: a batch is nothing to the network. */
static int run_clip(void *user, swm_backend *b, swm_error *error)
{
    (void)error;
    const clip_job *job = user;
    const inputs *in = job->in;
    swm_latent_shape s = in->shape;
    const swm_dit_size *size = &job->dit->size;
    int64_t count = swm_latent_count(s), cells = s.frames * s.height * s.width;
    for (int64_t row = 0; row < in->batch; row++) {
        swm_mark mark = swm_mark_of(b);
        swm_dit_caption caption;
        swm_dit_caption_prepare(b, job->dit, &caption, in->tokens,
                                in->states + row * in->tokens * size->caption_channels, in->mask + row * in->tokens);
        swm_dit_cameras cameras = {.frames = s.frames,
                                   .height = s.height,
                                   .width = s.width,
                                   .conditions = in->conditions + row * s.frames * 20,
                                   .plucker = in->plucker + row * cells * size->plucker_channels};
        swm_dit_view view;
        swm_dit_plucker plucker;
        swm_dit_view_prepare(b, job->dit, &view, &cameras);
        swm_dit_plucker_prepare(b, job->dit, &plucker);
        trace_embedding(b, job->dit, &view);
        swm_download(b, job->rotation, view.rotation);
        swm_dit_step step = {
            .latent = SWM_UPLOAD(b, b->compute, in->x + row * count, s.channels, s.frames, s.height, s.width),
            .timesteps = job->timesteps + row * s.frames,
            .caption = &caption,
            .view = &view,
            .plucker = &plucker,
            .chunks = job->chunks};
        swm_download(b, job->velocity + row * count, swm_dit_forward(b, job->dit, &step));
        swm_release(b, mark);
    }
    return 0;
}

static int compare_clip(golden *g, const swm_dit *dit, swm_chunks chunks)
{
    inputs in;
    if (read_inputs(g, dit, "", &in) != 0 || check_count(g, "", "timestep", in.batch * in.shape.frames) != 0) return -1;
    int64_t count = in.batch * swm_latent_count(in.shape);
    int64_t angles = in.shape.frames * in.shape.height * in.shape.width * dit->size.head;
    golden_trace *trace = golden_allocate(g, 1, sizeof *trace);
    clip_job job = {.dit = dit,
                    .in = &in,
                    .timesteps = golden_read(g, "in.timestep"),
                    .chunks = chunks,
                    .velocity = golden_floats(g, count),
                    .rotation = golden_floats(g, angles)};
    if (swm_failed(&g->error) || golden_trace_prepare(trace, g, "") != 0 ||
        golden_run_planned(g->options, run_clip, &job, golden_trace_function, trace, &g->error) != 0)
        return -1;
    if (golden_has(g, "rope.cos_sin")) golden_compare(g, "rope.cos_sin", job.rotation, angles);
    golden_trace_compare(trace);
    golden_compare(g, "out", job.velocity, count);
    return 0;
}

static int run_dit(golden *g)
{
    model m;
    if (open_model(g, &m) != 0) return -1;
    int result = compare_clip(g, m.dit, (swm_chunks){1, (int64_t[]){0}});
    close_model(&m);
    return result;
}

static int run_dit_chunk_causal(golden *g)
{
    int64_t starts[SWM_MAX_CHUNKS];
    int count = 0;
    model m;
    if (swm_json_integers(g->config, "chunk_index", 0, 1 << 20, starts, SWM_MAX_CHUNKS, &count, &g->error) != 0 ||
        open_model(g, &m) != 0)
        return -1;
    int result = compare_clip(g, m.dit, (swm_chunks){count, starts});
    close_model(&m);
    return result;
}

/* ---- streaming ---------------------------------------------------------------------------------------------------- */

typedef struct stream_job {
    const swm_dit *dit;
    const inputs *in;
    swm_dit_window window;
    swm_self_forcing how;
    float *latent, *chunk, *plucker; /* of the video; of one chunk */
    int64_t *starts;
    int chunks;
    swm_backend *b;
    swm_dit_caption caption;
    swm_dit_plucker plucker_maps;
    swm_dit_state state;
} stream_job;

/* Frames first .. first+count-1 of every channel between a video (C,T,cells) and a chunk (C,count,cells). */
static void cut(float *chunk, const float *video, int64_t channels, int64_t frames, int64_t cells, int64_t first,
                int64_t count)
{
    for (int64_t c = 0; c < channels; c++)
        memcpy(chunk + c * count * cells, video + (c * frames + first) * cells,
               (size_t)(count * cells) * sizeof(float));
}

static void put(float *video, const float *chunk, int64_t channels, int64_t frames, int64_t cells, int64_t first,
                int64_t count)
{
    for (int64_t c = 0; c < channels; c++)
        memcpy(video + (c * frames + first) * cells, chunk + c * count * cells,
               (size_t)(count * cells) * sizeof(float));
}

static int stream_velocity(void *user, int64_t first, int64_t frames, const float *latent, const float *timesteps,
                           bool keep, float *velocity, swm_error *error)
{
    (void)error;
    stream_job *job = user;
    swm_backend *b = job->b;
    swm_latent_shape s = job->in->shape;
    swm_mark mark = swm_mark_of(b);
    cut(job->plucker, job->in->plucker, job->dit->size.plucker_channels, s.frames, s.height * s.width, first, frames);
    swm_dit_cameras cameras = {.frames = frames,
                               .height = s.height,
                               .width = s.width,
                               .first_frame = first,
                               .conditions = job->in->conditions + first * 20,
                               .plucker = job->plucker};
    swm_dit_view view;
    swm_dit_view_prepare(b, job->dit, &view, &cameras);
    swm_dit_step step = {.latent = SWM_UPLOAD(b, b->compute, latent, s.channels, frames, s.height, s.width),
                         .timesteps = timesteps,
                         .caption = &job->caption,
                         .view = &view,
                         .plucker = &job->plucker_maps,
                         .chunks = {1, (int64_t[]){0}},
                         .state = &job->state,
                         .keep = keep};
    swm_tensor v = swm_dit_forward(b, job->dit, &step);
    if (velocity != NULL) swm_download(b, velocity, v);
    if (keep) swm_dit_state_advance(b, job->dit, &job->state, frames);
    swm_release(b, mark);
    return 0;
}

static int run_stream(void *user, swm_backend *b, swm_error *error)
{
    stream_job *job = user;
    const inputs *in = job->in;
    swm_latent_shape s = in->shape;
    int64_t cells = s.height * s.width;
    swm_mark mark = swm_mark_of(b);
    job->b = b;
    job->chunks = 0;
    memcpy(job->latent, in->x, (size_t)swm_latent_count(s) * sizeof(float));
    swm_dit_caption_prepare(b, job->dit, &job->caption, in->tokens, in->states, in->mask);
    swm_dit_plucker_prepare(b, job->dit, &job->plucker_maps);
    swm_dit_state_take(b, job->dit, &job->state, job->window, s.frames, job->how.chunk, s.height, s.width);
    int64_t count = swm_self_forcing_first(&job->how, s.frames);
    for (int64_t first = 0; first < s.frames; first += count, count = job->how.chunk) {
        job->starts[job->chunks++] = first;
        cut(job->chunk, job->latent, s.channels, s.frames, cells, first, count);
        swm_latent_shape shape = {s.channels, count, s.height, s.width};
        if (swm_self_forcing_chunk(&job->how, shape, first, job->chunk, error) != 0) return -1;
        put(job->latent, job->chunk, s.channels, s.frames, cells, first, count);
    }
    swm_release(b, mark);
    return 0;
}

/* Our cuts against the file's, which end with the number of frames. */
static int compare_chunks(golden *g, swm_json policy, const char *name, const stream_job *job)
{
    int64_t starts[SWM_MAX_CHUNKS];
    int count = 0;
    if (swm_json_integers(policy, "chunks", 0, 1 << 20, starts, SWM_MAX_CHUNKS, &count, &g->error) != 0) return -1;
    float got[SWM_MAX_CHUNKS] = {0}, want[SWM_MAX_CHUNKS] = {0};
    for (int i = 0; i < count; i++) want[i] = (float)starts[i];
    for (int i = 0; i < job->chunks; i++) got[i] = (float)job->starts[i];
    got[job->chunks] = (float)job->in->shape.frames;
    char label[64];
    snprintf(label, sizeof label, "%s.chunks", name);
    golden_compare_values(g, label, SWM_I64, got, want, count > job->chunks + 1 ? count : job->chunks + 1);
    return 0;
}

/* One cache policy: tensors <name>.in.*, <name>.out and an object of the config. */
static int compare_policy(golden *g, const swm_dit *dit, swm_self_forcing how, const char *name)
{
    char prefix[32], out[32];
    snprintf(prefix, sizeof prefix, "%s.", name);
    snprintf(out, sizeof out, "%s.out", name);
    swm_json policy;
    inputs in;
    stream_job job = {.dit = dit, .in = &in, .how = how};
    if (!golden_wanted(g->options, out)) return 0;
    if (swm_json_section(g->config, name, &policy, &g->error) != 0 ||
        swm_json_integer(policy, "num_cached_blocks", -1, SWM_MAX_CHUNKS, &job.window.chunks, &g->error) != 0 ||
        swm_json_bool_or(policy, "sink_token", false, &job.window.sink, &g->error) != 0 ||
        read_inputs(g, dit, prefix, &in) != 0)
        return -1;
    if (in.batch != 1 || in.shape.frames < how.chunk)
        return swm_fail(&g->error, "%s: tensor %sin.x is no single video of %lld or more frames", g->path, prefix,
                        (long long)how.chunk);
    int64_t count = swm_latent_count(in.shape);
    job.latent = golden_floats(g, count);
    job.chunk = golden_floats(g, count);
    job.plucker = golden_floats(g, count / in.shape.channels * dit->size.plucker_channels);
    job.starts = golden_allocate(g, in.shape.frames, sizeof *job.starts);
    job.how.velocity = stream_velocity;
    job.how.user = &job;
    if (swm_failed(&g->error) || golden_run_planned(g->options, run_stream, &job, NULL, NULL, &g->error) != 0)
        return -1;
    golden_compare(g, out, job.latent, count);
    return compare_chunks(g, policy, name, &job);
}

static int compare_policies(golden *g, const swm_dit *dit)
{
    int64_t levels[16];
    int count = 0;
    float sigmas[16];
    swm_self_forcing how = {.sigmas = sigmas, .round_to_bf16 = g->options->compute == SWM_BF16};
    if (swm_json_integers(g->config, "denoising_step_list", 0, 1000, levels, 16, &count, &g->error) != 0 ||
        swm_json_integer(g->config, "chunk_size", 1, 1 << 16, &how.chunk, &g->error) != 0)
        return -1;
    if (count < 2)
        return swm_fail(&g->error, "%s: denoising_step_list has %d levels, expected 2 or more", g->path, count);
    for (int i = 0; i < count; i++) sigmas[i] = (float)levels[i] / 1000.0f;
    how.steps = count - 1;
    const cJSON *item;
    cJSON_ArrayForEach(item, g->object)
    {
        if (cJSON_IsObject(item) && compare_policy(g, dit, how, item->string) != 0) return -1;
    }
    return 0;
}

static int run_dit_streaming(golden *g)
{
    model m;
    if (open_model(g, &m) != 0) return -1;
    int result = compare_policies(g, m.dit);
    close_model(&m);
    return result;
}

static bool has_key(const golden *g, const char *key) { return swm_json_find(g->config, key) != NULL; }
static bool is_streaming(const golden *g) { return has_dit(g) && has_key(g, "denoising_step_list"); }
static bool is_chunk_causal(const golden *g) { return has_dit(g) && has_key(g, "chunk_index"); }

const golden_kind golden_kind_dit_streaming = {"dit_streaming", is_streaming, run_dit_streaming};
const golden_kind golden_kind_dit_chunk_causal = {"dit_chunk_causal", is_chunk_causal, run_dit_chunk_causal};
const golden_kind golden_kind_dit = {"dit", has_dit, run_dit};
