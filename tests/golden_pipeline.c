/* Golden files of whole generations: the small random model (text, picture and action string to frames) and the toy
 * world's reference. The stages are put together here, so that each intermediate can be looked at. */
#include "golden.h"

#include "camera/action.h"
#include "checkpoint.h"
#include "core/file.h"
#include "sample/refine.h"
#include "sample/sampler.h"
#include "text/prompt.h"
#include "text/refiner_prompt.h"

#include <stdlib.h>
#include <string.h>

/* ---- a generation ------------------------------------------------------------------------------------------------- */

typedef struct world {
    golden *g;
    swm_checkpoint model;
    swm_latent_shape shape;
    int width, height;
    const uint8_t *picture; /* (height,width,3) */
    const char *text, *negative_text;
    swm_prompt prompt, negative; /* negative unused without guidance */
    float *conditions, *plucker; /* (T,20), (48,T,h,w) */
    int64_t steps;
    double shift, guidance;
    float *first_latent;   /* (h,w,C), normalised */
    float *noise, *latent; /* (C,T,h,w) */
    float *first_velocity; /* (C,T,h,w) of the first step; NULL: not kept */
    float *frames;         /* (F,height,width,3), bytes as floats */
    int64_t slots;         /* of the refiner's prompt */
    double fps;
    swm_refiner_prompt refiner_prompt;
    float *refiner_noise; /* (C,T-1,h,w) */
    swm_backend *b;       /* while sampling */
    const swm_dit_caption *caption, *negative_caption;
    const swm_dit_view *view;
    const swm_dit_plucker *maps;
} world;

static int64_t cells_of(const world *w) { return w->shape.height * w->shape.width; }
static int64_t frames_of(const world *w) { return 8 * w->shape.frames - 7; }

static void close_world(world *w)
{
    swm_prompt_free(&w->prompt);
    swm_prompt_free(&w->negative);
    swm_refiner_prompt_free(&w->refiner_prompt);
    swm_checkpoint_close(&w->model);
}

/* Sizes from the noise (1,C,T,h,w) and the picture (H,W,3), which must fit each other and the model. */
static int open_world(world *w, golden *g, const char *directory, const char *noise, const char *picture)
{
    *w = (world){.g = g};
    const swm_tensor *z = golden_need(g, 5, "%s", noise), *p = golden_need(g, 3, "%s", picture);
    if (z == NULL || p == NULL) return -1;
    w->shape = (swm_latent_shape){z->shape[1], z->shape[2], z->shape[3], z->shape[4]};
    if (p->dtype != SWM_U8 || p->shape[0] != 32 * w->shape.height || p->shape[1] != 32 * w->shape.width ||
        p->shape[2] != 3 || z->shape[0] != 1 || w->shape.frames < 1)
        return swm_fail(&g->error, "%s: picture %s and noise %s do not fit", g->path, swm_describe(*p).text,
                        swm_describe(*z).text);
    w->width = (int)p->shape[1];
    w->height = (int)p->shape[0];
    w->picture = p->data;
    w->noise = golden_read(g, "%s", noise);
    int64_t cells = cells_of(w), latents = w->shape.frames;
    w->conditions = golden_floats(g, latents * SWM_RAYMAP_CHANNELS);
    w->plucker = golden_floats(g, latents * SWM_PLUCKER_CHANNELS * cells);
    w->first_latent = golden_floats(g, w->shape.channels * cells);
    w->latent = golden_floats(g, swm_latent_count(w->shape));
    w->frames = golden_floats(g, frames_of(w) * w->height * w->width * 3);
    const swm_checkpoint_options options = {.softcap = true, .with_refiner = true};
    if (swm_failed(&g->error) || swm_checkpoint_open(&w->model, directory, &options, &g->error) != 0) return -1;
    if (w->model.vae->config.latent_channels == w->shape.channels) return 0;
    return swm_fail(&g->error, "%s: noise of %lld channels, the model has %lld", g->path, (long long)w->shape.channels,
                    (long long)w->model.vae->config.latent_channels);
}

/* Conditions from an action string; c2w receives the relative poses (F,4,4) if it is not NULL. */
static int make_cameras(world *w, const char *action, const swm_motion_options *motion, const float k[4], float *c2w)
{
    swm_poses poses;
    swm_intrinsics intrinsics;
    swm_error *error = &w->g->error;
    if (swm_action_rollout(action, motion, &poses, error) != 0) return -1;
    int64_t frames = frames_of(w);
    int result = poses.count >= frames ? 0
                                       : swm_fail(error, "%s: %lld poses for %lld frames", w->g->path,
                                                  (long long)poses.count, (long long)frames);
    if (result == 0) result = swm_intrinsics_create(&intrinsics, frames, error);
    if (result == 0) {
        poses.count = frames;
        for (int64_t i = 0; i < 4 * frames; i++) intrinsics.values[i] = k[i % 4];
        swm_poses_relativise(&poses);
        swm_intrinsics_to_latent(&intrinsics, w->width, w->height, w->shape.width, w->shape.height);
        swm_raymap(w->conditions, &poses, &intrinsics, 0, w->shape.frames);
        swm_chunk_plucker(w->plucker, &poses, &intrinsics, 0, w->shape.frames, w->shape.height, w->shape.width);
        if (c2w != NULL) memcpy(c2w, poses.c2w, (size_t)(16 * frames) * sizeof *c2w);
        swm_intrinsics_free(&intrinsics);
    }
    swm_poses_free(&poses);
    return result;
}

/* ---- its stages, as jobs ------------------------------------------------------------------------------------------ */

static int encode_text(void *user, swm_backend *b, swm_error *error)
{
    world *w = user;
    swm_prompt_free(&w->prompt);
    swm_prompt_free(&w->negative);
    const swm_pipeline_config *config = &w->model.config;
    swm_prompt_encoder encoder = {.gemma = &w->model.gemma,
                                  .tokenizer = w->model.tokenizer,
                                  .instruction = config->chi_prompt,
                                  .instruction_count = config->chi_prompt_count,
                                  .tokens = config->model_max_length};
    return swm_prompt_encode(&w->prompt, &w->negative, &encoder, b, w->text, w->negative_text, error);
}

static int encode_picture(void *user, swm_backend *b, swm_error *error)
{
    world *w = user;
    int64_t count = (int64_t)w->width * w->height * 3;
    float *pixels = swm_allocate(error, (size_t)count, sizeof *pixels);
    if (pixels == NULL) return -1;
    for (int64_t i = 0; i < count; i++) pixels[i] = (float)w->picture[i] / 127.5f - 1;
    swm_mark mark = swm_mark_of(b);
    swm_tensor video = SWM_UPLOAD(b, b->compute, pixels, 1, w->height, w->width, 3);
    swm_download(b, w->first_latent, swm_vae_encode(b, w->model.vae, video, NULL));
    swm_release(b, mark);
    free(pixels);
    return 0;
}

static int velocity(void *user, const float *latent, int64_t frames, const float *timesteps, swm_chunks chunks,
                    float *out, swm_error *error)
{
    (void)error;
    world *w = user;
    swm_backend *b = w->b;
    int64_t count = swm_latent_count(w->shape);
    swm_mark mark = swm_mark_of(b);
    swm_dit_step step = {
        .latent = SWM_UPLOAD(b, b->compute, latent, w->shape.channels, frames, w->shape.height, w->shape.width),
        .timesteps = timesteps,
        .caption = w->caption,
        .view = w->view,
        .plucker = w->maps,
        .chunks = chunks};
    swm_download(b, out, swm_dit_forward(b, w->model.dit, &step));
    if (w->guidance != 1) {
        float *negative = swm_allocate(error, (size_t)count, sizeof *negative);
        if (negative == NULL) return -1;
        step.caption = w->negative_caption;
        swm_download(b, negative, swm_dit_forward(b, w->model.dit, &step));
        for (int64_t i = 0; i < count; i++) out[i] = negative[i] + (float)w->guidance * (out[i] - negative[i]);
        free(negative);
    }
    swm_release(b, mark);
    if (w->first_velocity != NULL && timesteps[frames - 1] == 1000)
        memcpy(w->first_velocity, out, (size_t)count * sizeof *out);
    return 0;
}

static int denoise(void *user, swm_backend *b, swm_error *error)
{
    world *w = user;
    swm_latent_shape s = w->shape;
    int64_t cells = cells_of(w);
    memcpy(w->latent, w->noise, (size_t)swm_latent_count(s) * sizeof *w->latent);
    for (int64_t c = 0; c < s.channels; c++)
        for (int64_t i = 0; i < cells; i++) w->latent[c * s.frames * cells + i] = w->first_latent[i * s.channels + c];
    swm_mark mark = swm_mark_of(b);
    swm_dit_caption caption, negative;
    swm_dit_view view;
    swm_dit_plucker plucker;
    swm_dit_caption_prepare(b, w->model.dit, &caption, w->prompt.tokens, w->prompt.states, w->prompt.mask);
    if (w->guidance != 1)
        swm_dit_caption_prepare(b, w->model.dit, &negative, w->negative.tokens, w->negative.states, w->negative.mask);
    swm_dit_cameras cameras = {
        .frames = s.frames, .height = s.height, .width = s.width, .conditions = w->conditions, .plucker = w->plucker};
    swm_dit_view_prepare(b, w->model.dit, &view, &cameras);
    swm_dit_plucker_prepare(b, w->model.dit, &plucker);
    w->b = b;
    w->caption = &caption;
    w->negative_caption = &negative;
    w->view = &view;
    w->maps = &plucker;
    swm_sampling how = {.sampler = SWM_FLOW_EULER_LTX,
                        .steps = (int)w->steps,
                        .shift = w->shift,
                        .chunks = {1, (int64_t[]){0}},
                        .round_to_bf16 = b->compute == SWM_BF16,
                        .velocity = velocity,
                        .user = w};
    int result = swm_sample(&how, s, w->latent, error);
    swm_release(b, mark);
    return result;
}

static int keep_frames(void *user, swm_backend *b, int64_t first, swm_tensor frames)
{
    world *w = user;
    int64_t count = swm_count(frames), start = first * swm_row_size(frames);
    if (first + frames.shape[0] > frames_of(w)) return -1;
    swm_mark mark = swm_mark_of(b);
    swm_tensor bytes = swm_pixels(b, frames, true);
    uint8_t *values = calloc((size_t)count, 1);
    if (values == NULL) return -1;
    swm_download_bytes(b, values, bytes);
    swm_to_f32(w->frames + start, values, SWM_U8, (size_t)count);
    free(values);
    swm_release(b, mark);
    return 0;
}

static int decode(void *user, swm_backend *b, swm_error *error)
{
    world *w = user;
    swm_latent_shape s = w->shape;
    int64_t positions = s.frames * cells_of(w);
    float *latent = swm_allocate(error, (size_t)swm_latent_count(s), sizeof *latent);
    if (latent == NULL) return -1;
    for (int64_t c = 0; c < s.channels; c++)
        for (int64_t i = 0; i < positions; i++) latent[i * s.channels + c] = w->latent[c * positions + i];
    swm_vae_denormalise(w->model.vae, latent, positions);
    swm_mark mark = swm_mark_of(b);
    swm_tensor z = SWM_UPLOAD(b, b->compute, latent, s.frames, s.height, s.width, s.channels);
    int result = swm_vae_decode(b, w->model.vae, z, NULL, keep_frames, w);
    swm_release(b, mark);
    free(latent);
    return result == 0 ? 0 : swm_fail(error, "the decoder's frames could not be kept");
}

/* Picture, prompts and cameras to frames; the results stay in the world. */
static int generate(world *w)
{
    golden *g = w->g;
    if (golden_run_planned(g->options, encode_picture, w, NULL, NULL, &g->error) != 0) return -1;
    swm_vae_normalise(w->model.vae, w->first_latent, cells_of(w));
    if (golden_run_planned(g->options, denoise, w, NULL, NULL, &g->error) != 0) return -1;
    return golden_run_planned(g->options, decode, w, NULL, NULL, &g->error);
}

/* ---- the second stage --------------------------------------------------------------------------------------------- */

static swm_refiner_encoder refiner_encoder(const world *w)
{
    const swm_refiner_parts *parts = &w->model.refiner;
    return (swm_refiner_encoder){
        .gemma = &parts->gemma, .tokenizer = parts->tokenizer, .connectors = parts->connectors, .slots = w->slots};
}

static int encode_refiner_text(void *user, swm_backend *b, swm_error *error)
{
    world *w = user;
    const swm_refiner_encoder encoder = refiner_encoder(w);
    swm_refiner_prompt_free(&w->refiner_prompt);
    return swm_refiner_prompt_encode(&w->refiner_prompt, &encoder, b, &w->text, 1, error);
}

/* What a pass of the refiner needs. */
typedef struct refining {
    world *w;
    swm_backend *b;
    swm_refiner_text text;
    swm_refiner_window window;
} refining;

static int refiner_velocity(void *user, int64_t first, int64_t frames, const float *latent, float sigma, bool keep,
                            float *out, swm_error *error)
{
    (void)error;
    refining *r = user;
    const world *w = r->w;
    swm_mark mark = swm_mark_of(r->b);
    swm_refiner_step step = {
        .latent = SWM_UPLOAD(r->b, r->b->compute, latent, w->shape.channels, frames, w->shape.height, w->shape.width),
        .first = first,
        .fps = w->fps,
        .sigma = sigma,
        .text = &r->text,
        .window = &r->window,
        .keep = keep ? SWM_REFINER_KEEP_SINK : SWM_REFINER_KEEP_NOTHING};
    swm_tensor v = swm_refiner_forward(r->b, w->model.refiner.transformer, &step);
    if (!keep) swm_download(r->b, out, v);
    swm_release(r->b, mark);
    return 0;
}

static void given_noise(void *user, int64_t first, int64_t frames, float *noise)
{
    const world *w = ((refining *)user)->w;
    SWM_REQUIRE(first == 1 && frames == w->shape.frames - 1, "noise of frames %lld+%lld", (long long)first,
                (long long)frames);
    memcpy(noise, w->refiner_noise, (size_t)(w->shape.channels * frames * cells_of(w)) * sizeof *noise);
}

static int refine(void *user, swm_backend *b, swm_error *error)
{
    world *w = user;
    const swm_refiner *network = w->model.refiner.transformer;
    refining r = {.w = w, .b = b};
    swm_mark mark = swm_mark_of(b);
    swm_refiner_text_prepare(b, network, &r.text, w->slots, w->refiner_prompt.states);
    swm_refiner_window_take(b, network, &r.window, 0, w->shape.height, w->shape.width);
    swm_refinement how = swm_refinement_defaults();
    how.round_to_bf16 = b->compute == SWM_BF16;
    how.velocity = refiner_velocity;
    how.noise = given_noise;
    how.user = &r;
    /* Under plan the latent is to stay what stage 1 has made of it. */
    size_t count = (size_t)swm_latent_count(w->shape);
    float *latent = swm_allocate(error, count, sizeof *latent);
    if (latent == NULL) return -1;
    memcpy(latent, w->latent, count * sizeof *latent);
    int result = swm_refine(&how, w->shape, latent, error);
    if (b->kernels != NULL) memcpy(w->latent, latent, count * sizeof *latent);
    free(latent);
    swm_release(b, mark);
    return result;
}

/* Ids with <pad> (0) before them. */
static int compare_refiner_ids(world *w)
{
    golden *g = w->g;
    const swm_refiner_encoder encoder = refiner_encoder(w);
    int64_t count, dropped;
    float *got = golden_floats(g, w->slots);
    int32_t *ids = swm_refiner_prompt_tokens(&encoder, w->text, &count, &dropped, &g->error);
    for (int64_t i = 0; got != NULL && ids != NULL && i < count; i++) got[w->slots - count + i] = (float)ids[i];
    free(ids);
    if (swm_failed(&g->error)) return -1;
    golden_compare(g, "act.refiner_ids", got, w->slots);
    return 0;
}

/* From stage 1's latent, which is still in the world, to the refined frames, which lack the first. */
static int compare_refined(world *w)
{
    golden *g = w->g;
    if (w->model.refiner.tokenizer == NULL) return swm_fail(&g->error, "%s: the model has no refiner", g->path);
    const swm_tensor *noise = golden_need(g, 5, "in.refiner_noise");
    if (noise == NULL ||
        swm_json_integer(g->config, "refiner_text_length", 1, SWM_REFINER_PROMPT_MOST, &w->slots, &g->error) != 0 ||
        swm_json_number(g->config, "fps", 1, 1000, &w->fps, &g->error) != 0)
        return -1;
    if (swm_count(*noise) != w->shape.channels * (w->shape.frames - 1) * cells_of(w))
        return swm_fail(&g->error, "%s: in.refiner_noise is %s, which does not fit in.noise", g->path,
                        swm_describe(*noise).text);
    w->refiner_noise = golden_read(g, "in.refiner_noise");
    if (w->refiner_noise == NULL || compare_refiner_ids(w) != 0 ||
        golden_run_planned(g->options, encode_refiner_text, w, NULL, NULL, &g->error) != 0 ||
        golden_run_planned(g->options, refine, w, NULL, NULL, &g->error) != 0 ||
        golden_run_planned(g->options, decode, w, NULL, NULL, &g->error) != 0)
        return -1;
    int64_t frame = (int64_t)w->height * w->width * 3;
    golden_compare(g, "act.refined", w->latent, swm_latent_count(w->shape));
    golden_compare(g, "out.frames_refined", w->frames + frame, (frames_of(w) - 1) * frame);
    return 0;
}

/* ---- the small random model --------------------------------------------------------------------------------------- */

/* Ids of a text, padded with zeros to `length`, against the file's; a length of 0 means what the tokenizer gives. */
static int compare_ids(golden *g, const swm_tokenizer *tokenizer, const char *text, const char *name, const float *want,
                       int64_t length)
{
    int32_t *ids;
    size_t count;
    if (swm_tokenizer_encode(tokenizer, text, strlen(text), &ids, &count, &g->error) != 0) return -1;
    float *got = golden_floats(g, swm_max(length, (int64_t)count));
    for (size_t i = 0; got != NULL && i < count; i++) got[i] = (float)ids[i];
    free(ids);
    if (got == NULL) return -1;
    golden_compare_values(g, name, SWM_I64, got, want, length);
    return 0;
}

static int compare_tokenizer_case(golden *g, const swm_tokenizer *tokenizer, const cJSON *item, int index)
{
    swm_json one;
    const char *text;
    const cJSON *ids = cJSON_GetObjectItemCaseSensitive(item, "ids");
    if (swm_json_root(&one, g->path, item, &g->error) != 0 || swm_json_string(one, "text", &text, &g->error) != 0)
        return -1;
    /* One more than there are, so that surplus tokens of ours meet a number that no token has. */
    int count = cJSON_GetArraySize(ids);
    float *want = golden_floats(g, count + 1);
    if (want == NULL) return -1;
    for (int i = 0; i < count; i++) want[i] = (float)cJSON_GetNumberValue(cJSON_GetArrayItem(ids, i));
    char name[64];
    snprintf(name, sizeof name, "tokenizer_cases.%d", index);
    return compare_ids(g, tokenizer, text, name, want, count + 1);
}

/* The instruction's lines joined by newlines, and the prompt behind it. */
static char *join_prompt(const swm_pipeline_config *config, const char *prompt, swm_error *error)
{
    char *text = swm_copy_string(error, "");
    for (int i = 0; text != NULL && i < config->chi_prompt_count; i++) {
        char *longer = swm_format(error, "%s%s%s", text, i > 0 ? "\n" : "", config->chi_prompt[i]);
        free(text);
        text = longer;
    }
    char *joined = text != NULL ? swm_format(error, "%s%s", text, prompt) : NULL;
    free(text);
    return joined;
}

static int compare_tokenizer(golden *g, const swm_checkpoint *model, const char *prompt)
{
    int index = 0;
    const cJSON *item;
    cJSON_ArrayForEach(item, swm_json_find(g->config, "tokenizer_cases"))
    {
        if (compare_tokenizer_case(g, model->tokenizer, item, index++) != 0) return -1;
    }
    const swm_tensor *ids = golden_need(g, 2, "act.cond_ids");
    float *want = golden_read(g, "act.cond_ids");
    char *text = join_prompt(&model->config, prompt, &g->error);
    int result = ids != NULL && want != NULL && text != NULL
                     ? compare_ids(g, model->tokenizer, text, "act.cond_ids", want, swm_count(*ids))
                     : -1;
    free(text);
    return result;
}

/* The mask, and the states of what it lets through. */
static int compare_prompt(golden *g, const swm_prompt *prompt, const char *states, const char *mask)
{
    const swm_tensor *t = golden_need(g, 4, "%s", states);
    float *want = golden_read(g, "%s", states), *bits = golden_floats(g, prompt->tokens);
    if (t == NULL || want == NULL || bits == NULL) return -1;
    for (int64_t i = 0; i < prompt->tokens; i++) bits[i] = (float)prompt->mask[i];
    golden_compare(g, mask, bits, prompt->tokens);
    if (swm_count(*t) != prompt->tokens * prompt->width)
        return swm_fail(&g->error, "%s: tensor %s has shape %s, the encoder made (%lld,%lld)", g->path, states,
                        swm_describe(*t).text, (long long)prompt->tokens, (long long)prompt->width);
    for (int64_t i = 0; i < prompt->tokens * prompt->width; i++)
        if (!prompt->mask[i / prompt->width]) want[i] = 0;
    golden_compare_values(g, states, t->dtype, prompt->states, want, swm_count(*t));
    return 0;
}

static int compare_pipeline(world *w)
{
    golden *g = w->g;
    const char *action;
    int64_t k[4];
    int count = 0;
    if (swm_json_string(g->config, "prompt", &w->text, &g->error) != 0 ||
        swm_json_string(g->config, "negative", &w->negative_text, &g->error) != 0 ||
        swm_json_string(g->config, "action", &action, &g->error) != 0 ||
        swm_json_integers(g->config, "intrinsics", 1, 1 << 20, k, 4, &count, &g->error) != 0 ||
        swm_json_integer(g->config, "steps", 2, SWM_MAX_STEPS, &w->steps, &g->error) != 0 ||
        swm_json_number(g->config, "cfg_scale", 0, 100, &w->guidance, &g->error) != 0 ||
        swm_json_number(g->config, "flow_shift", 0.01, 100, &w->shift, &g->error) != 0)
        return -1;
    if (count != 4) return swm_fail(&g->error, "%s: intrinsics are not four numbers", g->path);
    if (w->model.tokenizer == NULL) return swm_fail(&g->error, "%s: the model has no text encoder", g->path);
    const float intrinsics[4] = {(float)k[0], (float)k[1], (float)k[2], (float)k[3]};
    if (compare_tokenizer(g, &w->model, w->text) != 0 || make_cameras(w, action, NULL, intrinsics, NULL) != 0 ||
        golden_run_planned(g->options, encode_text, w, NULL, NULL, &g->error) != 0 || generate(w) != 0 ||
        compare_prompt(g, &w->prompt, "act.cond", "act.cond_mask") != 0 ||
        compare_prompt(g, &w->negative, "act.neg", "act.neg_mask") != 0)
        return -1;
    golden_compare_channels_last(g, "act.first_latent", w->first_latent, w->shape.channels * cells_of(w));
    golden_compare(g, "act.latent", w->latent, swm_latent_count(w->shape));
    golden_compare(g, "out.frames", w->frames, frames_of(w) * w->height * w->width * 3);
    return golden_has(g, "act.refined") ? compare_refined(w) : 0;
}

static int run_pipeline(golden *g)
{
    world w;
    char *directory = swm_path_join(&g->error, g->directory, "tiny_random_model");
    int result = directory != NULL ? open_world(&w, g, directory, "in.noise", "in.image_u8") : -1;
    if (result == 0) result = compare_pipeline(&w);
    if (directory != NULL) close_world(&w);
    free(directory);
    return result;
}

static bool is_pipeline(const golden *g) { return golden_has(g, "act.cond_ids") && g->object != NULL; }

const golden_kind golden_kind_pipeline = {"pipeline", is_pipeline, run_pipeline};

/* ---- the toy world ------------------------------------------------------------------------------------------------ */

/* A number from the metadata. */
static int metadata_number(golden *g, const char *key, double otherwise, double *value)
{
    const char *text = swm_safetensors_metadata(g->tensors, key);
    char *end;
    *value = text != NULL ? strtod(text, &end) : otherwise;
    if (text == NULL || (end != text && *end == '\0' && *value > 0 && *value <= 1000)) return 0;
    return swm_fail(&g->error, "%s: metadata %s is \"%s\", no number that is expected there", g->path, key, text);
}

static int compare_toyworld(world *w)
{
    golden *g = w->g;
    const char *action = swm_safetensors_metadata(g->tensors, "action");
    const swm_tensor *k = golden_need(g, 1, "intrinsics");
    const float *intrinsics = golden_read(g, "intrinsics");
    swm_motion_options motion = swm_motion_defaults(NULL);
    double steps;
    if (action == NULL) return swm_fail(&g->error, "%s: its metadata has no action", g->path);
    if (k == NULL || intrinsics == NULL || metadata_number(g, "steps", 20, &steps) != 0 ||
        metadata_number(g, "flow_shift", 3, &w->shift) != 0 || metadata_number(g, "cfg_scale", 1, &w->guidance) != 0 ||
        metadata_number(g, "translation_speed", 0.06, &motion.translation_speed) != 0 ||
        metadata_number(g, "rotation_speed_deg", 1.2, &motion.rotation_speed_degrees) != 0)
        return -1;
    if (k->shape[0] != 4 || w->guidance != 1) /* the null caption has no opposite */
        return swm_fail(&g->error, "%s: four intrinsics and cfg_scale 1 are expected", g->path);
    w->steps = (int64_t)steps;
    int64_t frames = frames_of(w), cells = cells_of(w), latent = swm_latent_count(w->shape);
    float *c2w = golden_floats(g, 16 * frames);
    w->first_velocity = golden_floats(g, latent);
    if (swm_failed(&g->error) || make_cameras(w, action, &motion, intrinsics, c2w) != 0 ||
        swm_prompt_null(&w->prompt, w->model.config.model_max_length, w->model.dit->size.caption_channels, &g->error) !=
            0 ||
        generate(w) != 0)
        return -1;
    golden_compare(g, "c2w", c2w, 16 * frames);
    golden_compare(g, "camera_conditions", w->conditions, w->shape.frames * SWM_RAYMAP_CHANNELS);
    golden_compare(g, "chunk_plucker", w->plucker, w->shape.frames * SWM_PLUCKER_CHANNELS * cells);
    golden_compare_channels_last(g, "first_latent", w->first_latent, w->shape.channels * cells);
    golden_compare(g, "velocity_first_step", w->first_velocity, latent);
    golden_compare(g, "latent", w->latent, latent);
    golden_compare(g, "frames", w->frames, frames * w->height * w->width * 3);
    return 0;
}

static int run_toyworld(golden *g)
{
    world w;
    char *directory = swm_path_join(&g->error, g->directory, "..");
    int result = directory != NULL ? open_world(&w, g, directory, "noise", "image") : -1;
    if (result == 0) result = compare_toyworld(&w);
    if (directory != NULL) close_world(&w);
    free(directory);
    return result;
}

static bool is_toyworld(const golden *g) { return golden_has(g, "velocity_first_step"); }

const golden_kind golden_kind_toyworld = {"toyworld", is_toyworld, run_toyworld};
