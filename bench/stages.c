/* Implements stages.h. */
#include "stages.h"

#include "sample/sampler.h"
#include "text/prompt.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static const char *const stage_names[BENCH_STAGE_COUNT] = {"prompt", "encode", "denoise", "decode"};
const char *bench_stage_name(bench_stage stage) { return stage_names[stage]; }

int bench_stages_parse(const char *text, unsigned *stages, swm_error *error)
{
    *stages = 0;
    for (const char *word = text;; word++) {
        size_t length = strcspn(word, ",");
        int stage = 0;
        while (stage < BENCH_STAGE_COUNT &&
               (strlen(stage_names[stage]) != length || strncmp(stage_names[stage], word, length) != 0))
            stage++;
        if (stage == BENCH_STAGE_COUNT)
            return swm_fail(error, "no stage \"%.*s\"; prompt, encode, denoise and decode are there", (int)length,
                            word);
        *stages |= 1u << stage;
        word += length;
        if (*word == '\0') return 0;
    }
}

static bool has(const bench *m, bench_stage stage) { return (m->stages >> stage & 1) != 0; }

/* ---- inputs ----------------------------------------------------------------------------------------------------------- */

static swm_latent_shape latent_shape(const bench *m)
{
    return (swm_latent_shape){m->model->dit->size.latent_channels, (m->shape.frames - 1) / 8 + 1, m->shape.height / 32,
                              m->shape.width / 32};
}

/* Cheap noise of mean 0 and deviation 1; quality does not matter here. */
static float next_random(uint32_t *state)
{
    *state = *state * 1664525u + 1013904223u;
    return ((float)(*state >> 8) * 0x1p-23f - 1.0f) * 1.7320508f;
}

/* A fresh array: the tensor `name` of `source`, or else random values times `scale`. */
static float *make_input(const swm_weights *source, const char *name, float scale, int rank, const int64_t *shape,
                         swm_error *error)
{
    swm_tensor stored, wanted = swm_tensor_make(SWM_F32, NULL, rank, shape);
    size_t count = (size_t)swm_count(wanted);
    float *values = swm_allocate(error, count, sizeof(float));
    if (values == NULL) return NULL;
    if (source != NULL && swm_weights_find(source, name) != NULL) {
        if (swm_weights_bind(source, &stored, error, rank, shape, "%s", name) != 0) {
            free(values);
            return NULL;
        }
        swm_to_f32(values, stored.data, stored.dtype, count);
        return values;
    }
    uint32_t state = 1;
    for (size_t i = 0; i < count; i++) values[i] = scale * next_random(&state);
    return values;
}

#define SHAPE(...)                                                                                                     \
    (int)(sizeof((int64_t[]){__VA_ARGS__}) / sizeof(int64_t)), (int64_t[]) { __VA_ARGS__ }

/* A camera at rest with a field of view of about 60 degrees. */
static void rest_camera(float *conditions, swm_latent_shape s)
{
    for (int64_t f = 0; f < s.frames; f++) {
        float *c = conditions + 20 * f;
        for (int i = 0; i < 16; i++) c[i] = i % 5 == 0 ? 1.0f : 0.0f;
        c[16] = c[17] = 0.87f * (float)s.width;
        c[18] = 0.5f * (float)s.width;
        c[19] = 0.5f * (float)s.height;
    }
}

static int make_inputs(bench *m, const swm_weights *source, swm_error *error)
{
    bench_inputs *in = &m->inputs;
    swm_latent_shape s = latent_shape(m);
    in->latent = make_input(source, "latent", 1, SHAPE(s.channels, s.frames, s.height, s.width), error);
    in->conditions = make_input(source, "conditions", 0, SHAPE(s.frames, 20), error);
    in->plucker = make_input(source, "plucker", 1, SHAPE(48, s.frames, s.height, s.width), error);
    in->picture = make_input(source, "picture", 0.5f, SHAPE(1, m->shape.height, m->shape.width, 3), error);
    in->timesteps = swm_allocate(error, (size_t)s.frames, sizeof(float));
    in->ids = swm_allocate(error, (size_t)m->shape.prompt_tokens, sizeof(int32_t));
    if (in->latent == NULL || in->conditions == NULL || in->plucker == NULL || in->picture == NULL ||
        in->timesteps == NULL || in->ids == NULL)
        return -1;
    if (source == NULL || swm_weights_find(source, "conditions") == NULL) rest_camera(in->conditions, s);
    for (int64_t f = 1; f < s.frames; f++) in->timesteps[f] = 1000;
    for (int64_t i = 0; has(m, BENCH_PROMPT) && i < m->shape.prompt_tokens; i++)
        in->ids[i] = (int32_t)(i * 37 % m->model->gemma.config.vocab_size);
    return 0;
}

/* ---- a pass ----------------------------------------------------------------------------------------------------------- */

/* The null caption: the DiT's cost does not depend on which tokens are valid. */
static int prepare_denoise(bench *m, swm_backend *b, swm_error *error)
{
    swm_latent_shape s = latent_shape(m);
    int64_t tokens = m->model->config.model_max_length;
    swm_prompt prompt;
    if (swm_prompt_null(&prompt, tokens, m->model->dit->size.caption_channels, error) != 0) return -1;
    swm_dit_cameras cameras = {.frames = s.frames,
                               .height = s.height,
                               .width = s.width,
                               .conditions = m->inputs.conditions,
                               .plucker = m->inputs.plucker};
    swm_dit_view_prepare(b, m->model->dit, &m->view, &cameras);
    swm_dit_caption_prepare(b, m->model->dit, &m->caption, tokens, prompt.states, prompt.mask);
    swm_prompt_free(&prompt);
    return swm_backend_check(b, error);
}

/* (C,T,h,w) to denormalised (T,h,w,C). */
static void fill_denormalised(const void *user, float *values)
{
    const bench *m = user;
    swm_latent_shape s = latent_shape(m);
    int64_t positions = s.frames * s.height * s.width;
    for (int64_t c = 0; c < s.channels; c++)
        for (int64_t i = 0; i < positions; i++) values[i * s.channels + c] = m->inputs.latent[c * positions + i];
    swm_vae_denormalise(m->model->vae, values, positions);
}

typedef struct frame_sink {
    float *result; /* NULL: not wanted */
    int64_t frame; /* floats of one */
} frame_sink;

static int take_frames(void *user, swm_backend *b, int64_t first, swm_tensor frames)
{
    const frame_sink *sink = user;
    if (sink->result != NULL) swm_download(b, sink->result + first * sink->frame, frames);
    return 0;
}

/* The clock runs from the uploaded input to the finished result; copies to the host are not in it, except those of a
 * pass whose frames are wanted. */
typedef struct pass {
    const bench *bench;
    swm_backend *b;
    float *result;
    double start, seconds;
    swm_work work; /* the count at `start`, then what the pass added */
    swm_error error;
} pass;

/* Checking waits for the device. */
static void start_clock(pass *p)
{
    swm_backend_check(p->b, &p->error);
    p->work = p->b->work;
    p->start = swm_seconds();
}

static void stop_clock(pass *p)
{
    swm_backend_check(p->b, &p->error);
    p->seconds = swm_seconds() - p->start;
    p->work = (swm_work){p->b->work.flops - p->work.flops, p->b->work.bytes - p->work.bytes,
                         p->b->work.operations - p->work.operations};
}

static swm_tensor run_denoise(pass *p)
{
    const bench *m = p->bench;
    swm_latent_shape s = latent_shape(m);
    int64_t whole = 0;
    swm_dit_step step = {
        .latent = SWM_UPLOAD(p->b, p->b->compute, m->inputs.latent, s.channels, s.frames, s.height, s.width),
        .timesteps = m->inputs.timesteps,
        .caption = &m->caption,
        .view = &m->view,
        .chunks = {1, &whole},
    };
    start_clock(p);
    swm_tensor velocity = swm_dit_forward(p->b, m->model->dit, &step);
    stop_clock(p);
    return velocity;
}

static void run_decode(pass *p)
{
    const bench *m = p->bench;
    swm_latent_shape s = latent_shape(m);
    frame_sink sink = {p->result, (int64_t)m->shape.width * m->shape.height * 3};
    swm_tensor latent = swm_upload_computed(p->b, p->b->compute, fill_denormalised, m, 4,
                                            (int64_t[]){s.frames, s.height, s.width, s.channels});
    start_clock(p);
    swm_vae_tiling tiling = {.frames = swm_vae_reference_tiling.frames,
                             .frame_stride = swm_vae_reference_tiling.frame_stride};
    swm_vae_decode(p->b, m->model->vae, latent, m->shape.temporal_tiles ? &tiling : NULL, take_frames, &sink);
    stop_clock(p);
}

static swm_tensor run_encode(pass *p)
{
    const bench *m = p->bench;
    swm_tensor video = SWM_UPLOAD(p->b, p->b->compute, m->inputs.picture, 1, m->shape.height, m->shape.width, 3);
    start_clock(p);
    swm_tensor latent = swm_vae_encode(p->b, m->model->vae, video, NULL);
    stop_clock(p);
    return latent;
}

static swm_tensor run_prompt(pass *p)
{
    const bench *m = p->bench;
    start_clock(p);
    swm_tensor states = swm_gemma_forward(p->b, &m->model->gemma, m->inputs.ids, m->shape.prompt_tokens, 0, NULL);
    stop_clock(p);
    return states;
}

static int run_pass(pass *p, bench_stage stage, swm_error *error)
{
    swm_tensor result = {0};
    swm_mark mark = swm_mark_of(p->b);
    switch (stage) {
    case BENCH_PROMPT: result = run_prompt(p); break;
    case BENCH_ENCODE: result = run_encode(p); break;
    case BENCH_DENOISE: result = run_denoise(p); break;
    case BENCH_DECODE: run_decode(p); break; /* hands its frames out itself */
    case BENCH_STAGE_COUNT: break;
    }
    if (p->result != NULL && swm_present(result)) swm_download(p->b, p->result, result);
    swm_release(p->b, mark);
    swm_backend_check(p->b, &p->error);
    return swm_failed(&p->error) ? swm_fail(error, "%s", p->error.text) : 0;
}

int bench_pass(bench *m, bench_stage stage, double *seconds, float *result, swm_error *error)
{
    pass p = {.bench = m, .b = m->backend, .result = result};
    if (run_pass(&p, stage, error) != 0) return -1;
    *seconds = p.seconds;
    return 0;
}

int64_t bench_result_count(const bench *m, bench_stage stage)
{
    swm_latent_shape s = latent_shape(m);
    switch (stage) {
    case BENCH_PROMPT: return m->shape.prompt_tokens * m->model->gemma.config.hidden_size;
    case BENCH_ENCODE: return s.height * s.width * s.channels;
    case BENCH_DENOISE: return swm_latent_count(s);
    case BENCH_DECODE: return m->shape.frames * m->shape.height * m->shape.width * 3;
    case BENCH_STAGE_COUNT: break;
    }
    return 0;
}

/* ---- opening ------------------------------------------------------------------------------------------------------------ */

/* The arena's peak over the stages, from a run that only counts. */
static int plan_scratch(bench *m, size_t *peak, swm_error *error)
{
    swm_backend *plan = swm_backend_open_plan(m->backend->compute, error);
    int result = plan != NULL ? 0 : -1;
    pass p = {.bench = m, .b = plan};
    if (result == 0 && has(m, BENCH_DENOISE)) result = prepare_denoise(m, plan, error);
    for (int stage = 0; stage < BENCH_STAGE_COUNT && result == 0; stage++)
        if (has(m, (bench_stage)stage)) result = run_pass(&p, (bench_stage)stage, error);
    if (result == 0) *peak = plan->scratch.peak;
    swm_backend_close(plan);
    return result;
}

int bench_open(bench *m, swm_backend *b, const swm_checkpoint *model, bench_shape shape, unsigned stages,
               const swm_weights *source, swm_error *error)
{
    *m = (bench){.backend = b, .model = model, .shape = shape, .stages = stages};
    size_t peak;
    if (has(m, BENCH_PROMPT) && model->gemma.layers == NULL)
        return swm_fail(error, "%s: has no text encoder to time; leave the stage \"prompt\" away",
                        model->layout.directory);
    if (make_inputs(m, source, error) != 0 || plan_scratch(m, &peak, error) != 0) return -1;
    if (swm_backend_reserve(b, peak, error) != 0) return -1;
    return has(m, BENCH_DENOISE) ? prepare_denoise(m, b, error) : 0;
}

void bench_close(bench *m)
{
    free(m->inputs.latent);
    free(m->inputs.conditions);
    free(m->inputs.plucker);
    free(m->inputs.picture);
    free(m->inputs.timesteps);
    free(m->inputs.ids);
    *m = (bench){0};
}

/* ---- measuring ---------------------------------------------------------------------------------------------------------- */

static int compare_seconds(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

int bench_measure(bench *m, bench_stage stage, int repeats, bench_time *time, swm_error *error)
{
    double *seconds = swm_allocate(error, (size_t)repeats, sizeof *seconds);
    if (seconds == NULL) return -1;
    m->backend->scratch.peak = m->backend->scratch.used;
    pass p = {.bench = m, .b = m->backend};
    int result = run_pass(&p, stage, error);
    for (int i = 0; i < repeats && result == 0; i++) {
        result = run_pass(&p, stage, error);
        seconds[i] = p.seconds;
    }
    qsort(seconds, (size_t)repeats, sizeof *seconds, compare_seconds);
    *time = (bench_time){
        .repeats = repeats,
        .best = seconds[0],
        .worst = seconds[repeats - 1],
        .work = p.work,
        .median = (seconds[(repeats - 1) / 2] + seconds[repeats / 2]) / 2,
        .scratch = m->backend->scratch.peak,
    };
    free(seconds);
    return result;
}

/* ---- random weights ----------------------------------------------------------------------------------------------------- */

/* Room for every absent tensor of a struct of tensors, from `memory` on; with `memory` NULL it only counts. Rows of
 * matrices keep their input's size, vectors are small positive numbers, so that nothing grows or dies on its way. */
static size_t place_tensors(void *tensors, size_t bytes, char *memory, size_t used)
{
    swm_tensor *t = tensors;
    for (size_t i = 0; i < bytes / sizeof *t; i++) {
        if (!swm_present(t[i]) || t[i].data != NULL) continue;
        size_t size = (swm_bytes(t[i]) + SWM_ARENA_ALIGNMENT - 1) / SWM_ARENA_ALIGNMENT * SWM_ARENA_ALIGNMENT;
        if (memory != NULL) {
            float chunk[1024], scale = t[i].rank > 1 ? 1.0f / sqrtf((float)swm_row_size(t[i])) : 0;
            uint32_t state = (uint32_t)used;
            int64_t count = swm_count(t[i]);
            size_t element = swm_dtype_size(t[i].dtype);
            for (int64_t at = 0; at < count; at += 1024) {
                int64_t length = swm_min(1024, count - at);
                for (int64_t k = 0; k < length; k++) chunk[k] = scale > 0 ? scale * next_random(&state) : 0.25f;
                swm_from_f32(memory + used + (size_t)at * element, t[i].dtype, chunk, (size_t)length);
            }
            t[i].data = memory + used;
        }
        used += size;
    }
    return used;
}

static size_t place_networks(swm_checkpoint *model, unsigned stages, char *memory)
{
    size_t used = 0;
    swm_vae *vae = model->vae;
    if (stages & 1u << BENCH_DENOISE) {
        used = place_tensors(&model->dit->outer, sizeof model->dit->outer, memory, used);
        used = place_tensors(model->dit->blocks, sizeof model->dit->blocks, memory, used);
    }
    if (stages & 1u << BENCH_ENCODE) {
        used = place_tensors(&vae->encoder_in, sizeof vae->encoder_in, memory, used);
        used = place_tensors(&vae->encoder_out, sizeof vae->encoder_out, memory, used);
        used = place_tensors(vae->encoder, sizeof vae->encoder, memory, used);
    }
    if (stages & 1u << BENCH_DECODE) {
        used = place_tensors(&vae->decoder_in, sizeof vae->decoder_in, memory, used);
        used = place_tensors(&vae->decoder_out, sizeof vae->decoder_out, memory, used);
        used = place_tensors(vae->decoder, sizeof vae->decoder, memory, used);
    }
    if (stages & 1u << BENCH_PROMPT) {
        swm_tensor outer[] = {model->gemma.embedding, model->gemma.norm};
        used = place_tensors(outer, sizeof outer, memory, used);
        model->gemma.embedding = outer[0];
        model->gemma.norm = outer[1];
        used = place_tensors(model->gemma.layers, (size_t)model->gemma.config.layers * sizeof *model->gemma.layers,
                             memory, used);
    }
    return used;
}

int bench_weights_randomise(swm_checkpoint *model, unsigned stages, void **memory, swm_error *error)
{
    *memory = NULL;
    size_t bytes = place_networks(model, stages, NULL);
    if (bytes == 0) return 0;
    *memory = aligned_alloc(SWM_ARENA_ALIGNMENT, bytes);
    if (*memory == NULL) return swm_fail(error, "no memory for %zu bytes of random weights; time fewer stages", bytes);
    place_networks(model, stages, *memory);
    return 0;
}
