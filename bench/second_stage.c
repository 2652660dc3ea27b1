/* The refiner's part of stages.h. */
#include "second_stage.h"

/* The release: 3 frames at a time behind the sink and 10 frames, three steps, one more pass to keep the result. */
enum { BLOCK = 3, HISTORY = 10, STEPS = 3 };
static const double fps = 16;
static const float sigmas[STEPS] = {0.909375f, 0.725f, 0.421875f};

/* Frames `first` .. of the video; their latents come from the start of the clip's inputs. */
static void forward(bench *m, swm_backend *b, int64_t first, int64_t frames, float sigma, swm_refiner_keep keep)
{
    swm_latent_shape s = bench_latent_shape(m);
    swm_mark mark = swm_mark_of(b);
    swm_refiner_step step = {
        .latent = SWM_UPLOAD(b, b->compute, m->inputs.latent, s.channels, frames, s.height, s.width),
        .first = first,
        .fps = fps,
        .sigma = sigma,
        .text = &m->text,
        .window = &m->window,
        .keep = keep,
    };
    swm_refiner_forward(b, m->model->checkpoint.refiner.transformer, &step);
    swm_release(b, mark);
}

void bench_refine_prepare(bench *m, bench_stage stage, swm_backend *b)
{
    swm_latent_shape s = bench_latent_shape(m);
    int64_t history = stage == BENCH_REFINE_BLOCK ? HISTORY : 0;
    swm_refiner_text_prepare(b, m->model->checkpoint.refiner.transformer, &m->text, SWM_REFINER_PROMPT_SLOTS,
                             m->inputs.text);
    swm_refiner_window_take(b, m->model->checkpoint.refiner.transformer, &m->window, history, s.height, s.width);
    forward(m, b, 0, 1, 0, SWM_REFINER_KEEP_SINK);
    for (m->first = 1; m->first <= history; m->first += BLOCK)
        forward(m, b, m->first, BLOCK, 0, SWM_REFINER_KEEP_HISTORY);
}

void bench_refine_run(bench_run *p)
{
    bench_start_clock(p);
    forward(p->bench, p->b, 1, bench_latent_shape(p->bench).frames - 1, sigmas[0], SWM_REFINER_KEEP_NOTHING);
    bench_stop_clock(p);
}

/* Every pass is the next block of the video. */
void bench_refine_block_run(bench_run *p)
{
    bench *m = p->bench;
    bench_start_clock(p);
    for (int i = 0; i < STEPS; i++) forward(m, p->b, m->first, BLOCK, sigmas[i], SWM_REFINER_KEEP_NOTHING);
    forward(m, p->b, m->first, BLOCK, 0, SWM_REFINER_KEEP_HISTORY);
    m->first += BLOCK;
    bench_stop_clock(p);
}

/* Padding stands on the left, as many slots as the text leaves. */
void bench_refiner_prompt_run(bench_run *p)
{
    const bench *m = p->bench;
    const swm_refiner_parts *r = &m->model->checkpoint.refiner;
    int64_t tokens = m->shape.prompt_tokens;
    bench_start_clock(p);
    swm_tensor states = SWM_TAKE(p->b, p->b->compute, r->gemma.config.layers + 1, tokens, r->gemma.config.hidden_size);
    swm_gemma_forward(p->b, &r->gemma, m->inputs.ids, tokens, SWM_REFINER_PROMPT_SLOTS - tokens, &states);
    swm_connectors_forward(p->b, r->connectors, states, SWM_REFINER_PROMPT_SLOTS);
    bench_stop_clock(p);
}
