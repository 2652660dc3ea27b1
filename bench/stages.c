/* Implements stages.h. */
#include "stages.h"

#include "sample/sampler.h"
#include "second_stage.h"
#include "text/prompt.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* The cached student: chunks of 3 latent frames, two of them in the window, the first for good. */
enum { CHUNK = 3 };
static const swm_dit_window chunk_window = {.chunks = 2, .sink = true};
enum { CHUNK_CONTEXT = 3 }; /* chunks before the one that is timed, so that the window is full */

static const char *const stage_names[BENCH_STAGE_COUNT] = {
    "prompt", "encode", "denoise", "denoise_chunk", "refiner_prompt", "refine", "refine_block", "decode",
};
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
            return swm_fail(error,
                            "no stage \"%.*s\"; prompt, encode, denoise, denoise_chunk, refiner_prompt, refine, "
                            "refine_block and decode are there",
                            (int)length, word);
        *stages |= 1u << stage;
        word += length;
        if (*word == '\0') return 0;
    }
}

unsigned bench_stages_of(const bench_model *model)
{
    unsigned stages = 1u << BENCH_ENCODE | 1u << BENCH_DENOISE | 1u << BENCH_DECODE;
    if (model->checkpoint.gemma.layers != NULL) stages |= 1u << BENCH_PROMPT;
    if (model->checkpoint.refiner.transformer != NULL) stages |= 1u << BENCH_REFINE;
    if (model->checkpoint.refiner.connectors != NULL) stages |= 1u << BENCH_REFINER_PROMPT;
    return stages;
}

static bool has(const bench *m, bench_stage stage) { return (m->stages >> stage & 1) != 0; }

/* ---- inputs ----------------------------------------------------------------------------------------------------------- */

swm_latent_shape bench_latent_shape(const bench *m)
{
    return (swm_latent_shape){m->model->checkpoint.dit->size.latent_channels, (m->shape.frames - 1) / 8 + 1,
                              m->shape.height / 32, m->shape.width / 32};
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
    const swm_checkpoint *c = &m->model->checkpoint;
    swm_latent_shape s = bench_latent_shape(m);
    in->latent = make_input(source, "latent", 1, SHAPE(s.channels, s.frames, s.height, s.width), error);
    in->conditions = make_input(source, "conditions", 0, SHAPE(s.frames, 20), error);
    in->plucker = make_input(source, "plucker", 1, SHAPE(48, s.frames, s.height, s.width), error);
    in->picture = make_input(source, "picture", 0.5f, SHAPE(1, m->shape.height, m->shape.width, 3), error);
    in->timesteps = swm_allocate(error, (size_t)s.frames, sizeof(float));
    in->ids = swm_allocate(error, (size_t)m->shape.prompt_tokens, sizeof(int32_t));
    if (in->latent == NULL || in->conditions == NULL || in->plucker == NULL || in->picture == NULL ||
        in->timesteps == NULL || in->ids == NULL)
        return -1;
    if (c->refiner.transformer != NULL) {
        int64_t width = c->refiner.transformer->config.caption_channels;
        in->text = make_input(NULL, "text", 1, SHAPE(SWM_REFINER_PROMPT_SLOTS, width), error);
        if (in->text == NULL) return -1;
    }
    if (source == NULL || swm_weights_find(source, "conditions") == NULL) rest_camera(in->conditions, s);
    for (int64_t f = 1; f < s.frames; f++) in->timesteps[f] = 1000;
    /* Both encoders know the ids below the smaller vocabulary. */
    int64_t known = c->gemma.layers != NULL ? c->gemma.config.vocab_size : INT32_MAX;
    if (c->refiner.gemma.layers != NULL) known = swm_min(known, c->refiner.gemma.config.vocab_size);
    for (int64_t i = 0; i < m->shape.prompt_tokens; i++) in->ids[i] = (int32_t)(i * 37 % known);
    return 0;
}

/* ---- preparation ------------------------------------------------------------------------------------------------------ */

/* A caption of zeros, all of whose tokens are valid: as much as a prompt can cost. */
static int prepare_caption(bench *m, swm_backend *b, swm_error *error)
{
    const swm_checkpoint *c = &m->model->checkpoint;
    int64_t tokens = c->config.model_max_length;
    swm_prompt prompt;
    if (swm_prompt_null(&prompt, tokens, c->dit->size.caption_channels, error) != 0) return -1;
    swm_dit_caption_prepare(b, c->dit, &m->caption, tokens, prompt.states, NULL);
    swm_prompt_free(&prompt);
    return 0;
}

static int prepare_denoise(bench *m, swm_backend *b, swm_error *error)
{
    swm_latent_shape s = bench_latent_shape(m);
    swm_dit_cameras cameras = {.frames = s.frames,
                               .height = s.height,
                               .width = s.width,
                               .conditions = m->inputs.conditions,
                               .plucker = m->inputs.plucker};
    swm_dit_view_prepare(b, m->model->checkpoint.dit, &m->view, &cameras);
    swm_dit_plucker_prepare(b, m->model->checkpoint.dit, &m->plucker);
    return prepare_caption(m, b, error);
}

/* One forward over a chunk of the cached student, all of whose inputs come from the start of the clip's. */
static swm_tensor forward_chunk(bench *m, swm_backend *b, bool keep)
{
    int64_t whole = 0;
    static const float noisy[CHUNK] = {1000, 1000, 1000}, clean[CHUNK];
    swm_latent_shape s = bench_latent_shape(m);
    swm_dit_step step = {
        .latent = SWM_UPLOAD(b, b->compute, m->inputs.latent, s.channels, CHUNK, s.height, s.width),
        .timesteps = keep ? clean : noisy,
        .caption = &m->caption,
        .view = &m->view,
        .plucker = &m->plucker,
        .chunks = {1, &whole},
        .state = &m->state,
        .keep = keep,
    };
    return swm_dit_forward(b, m->model->checkpoint.dit, &step);
}

/* A video in the middle: chunks that are done stand in the window. */
static int prepare_chunk(bench *m, swm_backend *b, swm_error *error)
{
    const swm_dit *dit = m->model->checkpoint.dit;
    swm_latent_shape s = bench_latent_shape(m);
    if (prepare_caption(m, b, error) != 0) return -1;
    swm_dit_state_take(b, dit, &m->state, chunk_window, CHUNK * (CHUNK_CONTEXT + 1), CHUNK, s.height, s.width);
    swm_dit_cameras cameras = {.frames = CHUNK,
                               .height = s.height,
                               .width = s.width,
                               .first_frame = CHUNK * CHUNK_CONTEXT,
                               .conditions = m->inputs.conditions,
                               .plucker = m->inputs.plucker};
    swm_dit_view_prepare(b, dit, &m->view, &cameras);
    swm_dit_plucker_prepare(b, dit, &m->plucker);
    for (int i = 0; i < CHUNK_CONTEXT; i++) {
        swm_mark mark = swm_mark_of(b);
        forward_chunk(m, b, true);
        swm_dit_state_advance(b, dit, &m->state, CHUNK);
        swm_release(b, mark);
    }
    return 0;
}

static int prepare(bench *m, bench_stage stage, swm_backend *b, swm_error *error)
{
    int result = 0;
    if (stage == BENCH_DENOISE) result = prepare_denoise(m, b, error);
    if (stage == BENCH_DENOISE_CHUNK) result = prepare_chunk(m, b, error);
    if (stage == BENCH_REFINE || stage == BENCH_REFINE_BLOCK) bench_refine_prepare(m, stage, b);
    return swm_backend_check(b, error) != 0 ? -1 : result;
}

/* ---- a pass ----------------------------------------------------------------------------------------------------------- */

/* (C,T,h,w) to denormalised (T,h,w,C). */
static void fill_denormalised(const void *user, float *values)
{
    const bench *m = user;
    swm_latent_shape s = bench_latent_shape(m);
    int64_t positions = s.frames * s.height * s.width;
    for (int64_t c = 0; c < s.channels; c++)
        for (int64_t i = 0; i < positions; i++) values[i * s.channels + c] = m->inputs.latent[c * positions + i];
    swm_vae_denormalise(m->model->checkpoint.vae, values, positions);
}

typedef struct frame_sink {
    float *result; /* NULL: not wanted */
    int64_t frame; /* floats of one */
    bool deliver;
    uint8_t *pixels; /* of one call, fresh */
    int64_t capacity;
} frame_sink;

/* As generate does: bytes on the host. */
static int deliver_frames(frame_sink *sink, swm_backend *b, swm_tensor frames)
{
    swm_mark mark = swm_mark_of(b);
    swm_tensor pixels = swm_pixels(b, frames, false);
    if (swm_count(pixels) > sink->capacity && b->kernels != NULL) {
        free(sink->pixels);
        sink->pixels = swm_allocate(&b->error, (size_t)swm_count(pixels), 1);
        sink->capacity = sink->pixels != NULL ? swm_count(pixels) : 0;
        if (sink->pixels == NULL) return -1;
    }
    swm_download_bytes(b, sink->pixels, pixels);
    swm_release(b, mark);
    return 0;
}

static int take_frames(void *user, swm_backend *b, int64_t first, swm_tensor frames)
{
    frame_sink *sink = user;
    if (sink->result != NULL) swm_download(b, sink->result + first * sink->frame, frames);
    return sink->deliver ? deliver_frames(sink, b, frames) : 0;
}

void bench_start_clock(bench_run *p)
{
    if (p->unwatched) return;
    swm_backend_check(p->b, &p->error); /* waits for the device */
    if (p->profile != NULL) bench_profile_begin(p->profile, p->b);
    p->start = swm_seconds();
}

void bench_stop_clock(bench_run *p)
{
    if (p->unwatched) return;
    p->enqueue = swm_seconds() - p->start;
    if (p->profile != NULL) bench_profile_end(p->profile);
    swm_backend_check(p->b, &p->error);
    p->seconds = swm_seconds() - p->start;
}

static swm_tensor run_denoise(bench_run *p)
{
    const bench *m = p->bench;
    swm_latent_shape s = bench_latent_shape(m);
    int64_t whole = 0;
    swm_dit_step step = {
        .latent = SWM_UPLOAD(p->b, p->b->compute, m->inputs.latent, s.channels, s.frames, s.height, s.width),
        .timesteps = m->inputs.timesteps,
        .caption = &m->caption,
        .view = &m->view,
        .plucker = &m->plucker,
        .chunks = {1, &whole},
    };
    bench_start_clock(p);
    swm_tensor velocity = swm_dit_forward(p->b, m->model->checkpoint.dit, &step);
    bench_stop_clock(p);
    return velocity;
}

static swm_tensor run_chunk(bench_run *p)
{
    bench_start_clock(p);
    swm_tensor velocity = forward_chunk(p->bench, p->b, false);
    bench_stop_clock(p);
    return velocity;
}

static void run_decode(bench_run *p)
{
    const bench *m = p->bench;
    swm_latent_shape s = bench_latent_shape(m);
    frame_sink sink = {
        .result = p->result, .frame = (int64_t)m->shape.width * m->shape.height * 3, .deliver = m->shape.deliver};
    swm_tensor latent = swm_upload_computed(p->b, p->b->compute, fill_denormalised, m, 4,
                                            (int64_t[]){s.frames, s.height, s.width, s.channels});
    bench_start_clock(p);
    swm_vae_tiling tiling = {.span = m->shape.decode_span};
    if (m->shape.temporal_tiles) {
        tiling.frames = swm_vae_reference_tiling.frames;
        tiling.frame_stride = swm_vae_reference_tiling.frame_stride;
    }
    swm_vae_decode(p->b, m->model->checkpoint.vae, latent, &tiling, take_frames, &sink);
    bench_stop_clock(p);
    free(sink.pixels);
}

static swm_tensor run_encode(bench_run *p)
{
    const bench *m = p->bench;
    swm_tensor video = SWM_UPLOAD(p->b, p->b->compute, m->inputs.picture, 1, m->shape.height, m->shape.width, 3);
    bench_start_clock(p);
    swm_tensor latent = swm_vae_encode(p->b, m->model->checkpoint.vae, video, NULL);
    bench_stop_clock(p);
    return latent;
}

static swm_tensor run_prompt(bench_run *p)
{
    const bench *m = p->bench;
    bench_start_clock(p);
    swm_tensor states =
        swm_gemma_forward(p->b, &m->model->checkpoint.gemma, m->inputs.ids, m->shape.prompt_tokens, 0, NULL);
    bench_stop_clock(p);
    return states;
}

static int run_pass(bench_run *p, bench_stage stage, swm_error *error)
{
    swm_tensor result = {0};
    swm_mark mark = swm_mark_of(p->b);
    switch (stage) {
    case BENCH_PROMPT: result = run_prompt(p); break;
    case BENCH_ENCODE: result = run_encode(p); break;
    case BENCH_DENOISE: result = run_denoise(p); break;
    case BENCH_DENOISE_CHUNK: result = run_chunk(p); break;
    case BENCH_REFINER_PROMPT: bench_refiner_prompt_run(p); break;
    case BENCH_REFINE: bench_refine_run(p); break;
    case BENCH_REFINE_BLOCK: bench_refine_block_run(p); break;
    case BENCH_DECODE: run_decode(p); break; /* hands its frames out itself */
    case BENCH_STAGE_COUNT: break;
    }
    if (p->result != NULL && swm_present(result)) swm_download(p->b, p->result, result);
    swm_release(p->b, mark);
    if (!p->unwatched) swm_backend_check(p->b, &p->error);
    return swm_failed(&p->error) ? swm_fail(error, "%s", p->error.text) : 0;
}

void bench_leave(bench *m)
{
    if (m->ready == BENCH_STAGE_COUNT) return;
    swm_release(m->backend, m->ground);
    swm_weights_leave(m->backend);
    m->ready = BENCH_STAGE_COUNT;
}

/* Make a stage the ready one. */
static int make_ready(bench *m, bench_stage stage, swm_error *error)
{
    if (m->ready == stage) return 0;
    bench_leave(m);
    if (swm_backend_begin(m->backend, stage_names[stage], m->plan[stage].scratch, &m->plan[stage].weights, error) != 0)
        return -1;
    m->ground = swm_mark_of(m->backend);
    m->backend->scratch.peak = m->backend->scratch.used;
    m->ready = stage;
    return prepare(m, stage, m->backend, error);
}

int bench_pass(bench *m, bench_stage stage, double *seconds, float *result, swm_error *error)
{
    bench_run p = {.bench = m, .b = m->backend, .result = result};
    if (make_ready(m, stage, error) != 0 || run_pass(&p, stage, error) != 0) return -1;
    *seconds = p.seconds;
    return 0;
}

int64_t bench_result_count(const bench *m, bench_stage stage)
{
    swm_latent_shape s = bench_latent_shape(m);
    switch (stage) {
    case BENCH_PROMPT: return m->shape.prompt_tokens * m->model->checkpoint.gemma.config.hidden_size;
    case BENCH_ENCODE: return s.height * s.width * s.channels;
    case BENCH_DENOISE: return swm_latent_count(s);
    case BENCH_DECODE: return m->shape.frames * m->shape.height * m->shape.width * 3;
    default: return 0;
    }
}

/* ---- opening ------------------------------------------------------------------------------------------------------------ */

/* What every stage needs, from a run that only counts. */
static int plan_stages(bench *m, swm_error *error)
{
    int result = 0;
    for (int stage = 0; stage < BENCH_STAGE_COUNT && result == 0; stage++) {
        if (!has(m, (bench_stage)stage)) continue;
        bench_profile profile = {0};
        swm_backend *plan = swm_backend_open_plan(m->backend->compute, error);
        if (plan == NULL) return -1;
        bench_run p = {.bench = m, .b = plan, .profile = &profile};
        result = prepare(m, (bench_stage)stage, plan, error);
        if (result == 0) result = run_pass(&p, (bench_stage)stage, error);
        m->plan[stage] = (bench_plan){plan->scratch.peak, swm_plan_weights(plan), bench_profile_demand(&profile)};
        bench_profile_free(&profile);
        swm_backend_close(plan);
    }
    return result;
}

static int check_stages(const bench *m, swm_error *error)
{
    const bench_model *model = m->model;
    const char *name = model->checkpoint.layout.directory;
    int64_t frames = bench_latent_shape(m).frames;
    if (has(m, BENCH_PROMPT) && model->checkpoint.gemma.layers == NULL)
        return swm_fail(error, "%s: has no text encoder to time; leave the stage \"prompt\" away", name);
    if (model->checkpoint.refiner.transformer == NULL && (has(m, BENCH_REFINE) || has(m, BENCH_REFINE_BLOCK)))
        return swm_fail(error, "%s: has no refiner to time; leave its stages away", name);
    if (model->checkpoint.refiner.connectors == NULL && has(m, BENCH_REFINER_PROMPT))
        return swm_fail(error, "%s: has no text encoder for a refiner; leave the stage \"refiner_prompt\" away", name);
    if (has(m, BENCH_REFINE) && frames < 2)
        return swm_fail(error, "the stage \"refine\" needs frames behind the first; pass --frames 9 or more");
    if ((has(m, BENCH_REFINE_BLOCK) || has(m, BENCH_DENOISE_CHUNK)) && frames < CHUNK)
        return swm_fail(error, "a chunk has %d latent frames; pass --frames %d or more", CHUNK, 8 * CHUNK - 7);
    return 0;
}

int bench_open(bench *m, swm_backend *b, const bench_model *model, bench_shape shape, unsigned stages,
               const swm_weights *source, swm_error *error)
{
    *m = (bench){.backend = b, .model = model, .shape = shape, .stages = stages, .ready = BENCH_STAGE_COUNT};
    if (check_stages(m, error) != 0 || make_inputs(m, source, error) != 0) return -1;
    return plan_stages(m, error);
}

void bench_close(bench *m)
{
    for (int stage = 0; stage < BENCH_STAGE_COUNT; stage++) swm_weight_list_free(&m->plan[stage].weights);
    free(m->inputs.latent);
    free(m->inputs.conditions);
    free(m->inputs.plucker);
    free(m->inputs.picture);
    free(m->inputs.timesteps);
    free(m->inputs.text);
    free(m->inputs.ids);
    *m = (bench){0};
}

/* ---- measuring ---------------------------------------------------------------------------------------------------------- */

static int compare_seconds(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

double bench_median(double *seconds, int count)
{
    qsort(seconds, (size_t)count, sizeof *seconds, compare_seconds);
    return (seconds[(count - 1) / 2] + seconds[count / 2]) / 2;
}

/* Passes that follow each other without anybody waiting in between: what the device needs for one, or the host, if that
 * takes longer. */
static int measure_back_to_back(bench *m, bench_stage stage, int repeats, double *seconds, swm_error *error)
{
    bench_run p = {.bench = m, .b = m->backend, .unwatched = true};
    int result = swm_backend_check(m->backend, error);
    double start = swm_seconds();
    for (int i = 0; i < repeats && result == 0; i++) result = run_pass(&p, stage, error);
    if (swm_backend_check(m->backend, error) != 0) return -1;
    *seconds = (swm_seconds() - start) / repeats;
    return result;
}

int bench_measure(bench *m, bench_stage stage, int repeats, bench_time *time, swm_error *error)
{
    double *seconds = swm_allocate(error, 2 * (size_t)repeats, sizeof *seconds), back_to_back = 0;
    if (seconds == NULL) return -1;
    bench_run p = {.bench = m, .b = m->backend};
    bench_leave(m);
    double start = swm_seconds();
    int result = make_ready(m, stage, error);
    if (result == 0) result = run_pass(&p, stage, error);
    double setup = swm_seconds() - start;
    for (int i = 0; i < repeats && result == 0; i++) {
        result = run_pass(&p, stage, error);
        seconds[i] = p.seconds;
        seconds[repeats + i] = p.enqueue;
    }
    if (result == 0 && stage == BENCH_DENOISE_CHUNK)
        result = measure_back_to_back(m, stage, repeats, &back_to_back, error);
    double median = bench_median(seconds, repeats);
    *time = (bench_time){
        .repeats = repeats,
        .best = seconds[0],
        .worst = seconds[repeats - 1],
        .median = median,
        .setup = setup > median ? setup - median : 0,
        .enqueue = bench_median(seconds + repeats, repeats),
        .back_to_back = back_to_back,
        .demand = m->plan[stage].demand,
        .scratch = m->backend->scratch.peak,
        .weights = swm_weight_list_bytes(&m->plan[stage].weights),
        .memory = swm_backend_device(m->backend).memory_used,
    };
    free(seconds);
    return result;
}

int bench_measure_ops(bench *m, bench_stage stage, bench_profile *profile, swm_error *error)
{
    bench_run p = {.bench = m, .b = m->backend, .profile = profile};
    *profile = (bench_profile){0};
    return make_ready(m, stage, error) == 0 ? run_pass(&p, stage, error) : -1;
}

/* ---- serving ------------------------------------------------------------------------------------------------------------ */

int bench_serve(bench *m, void *in, void *out, swm_error *error)
{
    char line[64];
    while (fgets(line, sizeof line, in) != NULL) {
        unsigned stages;
        double seconds;
        line[strcspn(line, "\n")] = '\0';
        if (bench_stages_parse(line, &stages, error) != 0) return -1;
        for (int stage = 0; stage < BENCH_STAGE_COUNT; stage++) {
            if ((stages >> stage & 1) == 0) continue;
            if (!has(m, (bench_stage)stage))
                return swm_fail(error, "the stage \"%s\" was not opened", bench_stage_name((bench_stage)stage));
            if (bench_pass(m, (bench_stage)stage, &seconds, NULL, error) != 0) return -1;
            fprintf(out, "%.9f\n", seconds);
        }
        fflush(out);
    }
    return 0;
}
