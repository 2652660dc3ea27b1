/* The camera side of the DiT: positions, rays and Plucker embeddings of a span, and the branch of every block whose
 * heads live in the ray frame of their token (UCPE; spec of stage 1, sections 7, 8, 11). */
#include "camera/camera.h"
#include "model/dit.h"

#include <math.h>
#include <string.h>

/* ---- what a span sees --------------------------------------------------------------------------------------------- */

typedef struct rotation_fill {
    const swm_dit_cameras *cameras;
    int64_t head;
    bool camera; /* only the leading frequencies of each axis, for the rotary half of camera heads */
} rotation_fill;

/* cos and sin for one position of an axis whose full width is `width` reals. */
static float *fill_axis(float *out, int64_t position, int64_t width, int64_t pairs)
{
    for (int64_t i = 0; i < pairs; i++) {
        double angle = (double)position * pow(10000.0, -2.0 * (double)i / (double)width);
        *out++ = (float)cos(angle);
        *out++ = (float)sin(angle);
    }
    return out;
}

/* Axes time, row, column. Heads of D give 2*floor(D/6) reals each to row and column and the rest to time. */
static void fill_rotation(const void *user, float *values)
{
    const rotation_fill *r = user;
    const swm_dit_cameras *c = r->cameras;
    int64_t plane = 2 * (r->head / 6), time = r->head - 2 * plane;
    int64_t plane_pairs = r->camera ? r->head / 2 / 6 : plane / 2;
    int64_t time_pairs = r->camera ? r->head / 4 - 2 * plane_pairs : time / 2;
    for (int64_t f = 0; f < c->frames; f++)
        for (int64_t y = 0; y < c->height; y++)
            for (int64_t x = 0; x < c->width; x++) {
                values = fill_axis(values, c->first_frame + f, time, time_pairs);
                values = fill_axis(values, y, plane, plane_pairs);
                values = fill_axis(values, x, plane, plane_pairs);
            }
}

typedef struct ray_fill {
    const swm_dit_cameras *cameras;
    bool round_to_bf16, inverse;
} ray_fill;

static void fill_rays(const void *user, float *values)
{
    const ray_fill *r = user;
    const swm_dit_cameras *c = r->cameras;
    swm_ray_matrices(r->inverse ? NULL : values, r->inverse ? values : NULL, c->conditions, c->frames, c->height,
                     c->width, r->round_to_bf16);
}

void swm_dit_view_prepare(swm_backend *b, const swm_dit *dit, swm_dit_view *view, const swm_dit_cameras *cameras)
{
    int64_t tokens = cameras->frames * cameras->height * cameras->width, head = dit->size.head;
    *view = (swm_dit_view){.frames = cameras->frames, .height = cameras->height, .width = cameras->width};
    rotation_fill rotation = {cameras, head, false};
    view->rotation = swm_upload_computed(b, SWM_F32, fill_rotation, &rotation, 3, (int64_t[]){tokens, head / 2, 2});
    rotation.camera = true;
    view->camera_rotation =
        swm_upload_computed(b, SWM_F32, fill_rotation, &rotation, 3, (int64_t[]){tokens, head / 4, 2});
    ray_fill rays = {cameras, b->compute == SWM_BF16, false};
    view->rays = swm_upload_computed(b, SWM_F32, fill_rays, &rays, 2, (int64_t[]){tokens, 16});
    rays.inverse = true;
    view->rays_inverse = swm_upload_computed(b, SWM_F32, fill_rays, &rays, 2, (int64_t[]){tokens, 16});

    int64_t numbers = dit->size.plucker_channels;
    view->plucker = SWM_TAKE(b, b->compute, tokens, numbers);
    swm_mark mark = swm_mark_of(b);
    swm_tensor p = SWM_UPLOAD(b, b->compute, cameras->plucker, numbers, cameras->frames, cameras->height,
                              cameras->width);                                         /* (48,T,h,w) */
    swm_copy(b, view->plucker, SWM_RESHAPE(swm_channels_last(b, p), tokens, numbers)); /* (N,48) */
    swm_release(b, mark);
}

/* Unit vectors, and zero as the last. */
static void fill_basis(const void *user, float *values)
{
    int64_t numbers = *(const int64_t *)user;
    memset(values, 0, (size_t)((numbers + 1) * numbers) * sizeof *values);
    for (int64_t i = 0; i < numbers; i++) values[i * numbers + i] = 1;
}

/* W2 (W1 x + b1) + b2: the columns of W2 W1 are what becomes of unit vectors without the offsets. */
void swm_dit_plucker_prepare(swm_backend *b, const swm_dit *dit, swm_dit_plucker *plucker)
{
    int64_t channels = dit->size.channels, numbers = dit->size.plucker_channels;
    for (int64_t i = 0; i < dit->size.depth; i++) {
        plucker->weight[i] = SWM_TAKE(b, b->compute, channels, numbers);
        plucker->bias[i] = SWM_TAKE(b, b->compute, 1, channels);
    }
    swm_mark mark = swm_mark_of(b);
    swm_tensor basis =
        swm_upload_computed(b, b->compute, fill_basis, &numbers, 2, (int64_t[]){numbers + 1, numbers}); /* (49,48) */
    const swm_dit_outer *outer = swm_weights_use(b, &dit->outer, sizeof *outer);
    swm_affine first = outer->plucker_embedder;
    swm_tensor units =
        swm_linear(b, swm_rows(basis, 0, numbers), first.weight, (swm_tensor){0}, SWM_IDENTITY);          /* (48,C) */
    swm_tensor zero = swm_linear(b, swm_rows(basis, numbers, 1), first.weight, first.bias, SWM_IDENTITY); /* (1,C) */
    swm_weights_done(b, &dit->outer);
    for (int64_t i = 0; i < dit->size.depth; i++) {
        swm_mark block = swm_mark_of(b);
        const swm_dit_block *w = swm_weights_use(b, &dit->blocks[i], sizeof *w);
        swm_tensor columns = swm_linear(b, units, w->plucker.weight, (swm_tensor){0}, SWM_IDENTITY); /* (48,C) */
        swm_copy(b, plucker->weight[i], swm_channels_last(b, columns));                              /* (C,48) */
        swm_linear_to(b, plucker->bias[i], zero, w->plucker.weight, w->plucker.bias, SWM_IDENTITY);  /* (1,C) */
        plucker->bias[i] = SWM_RESHAPE(plucker->bias[i], channels);
        swm_weights_done(b, &dit->blocks[i]);
        swm_release(b, block);
    }
    swm_release(b, mark);
}

/* ---- the branch --------------------------------------------------------------------------------------------------- */

static swm_tensor linear(swm_backend *b, swm_tensor x, swm_affine w)
{
    return swm_linear(b, x, w.weight, w.bias, SWM_IDENTITY);
}

/* Into the ray frame: queries by P^T, keys and values by P^-1; the second half of the head turns forward. */
static swm_head_transform into_rays(const swm_dit *dit, const swm_dit_view *view, bool query)
{
    return (swm_head_transform){
        .heads = dit->size.heads,
        .epsilon = 1e-5f,
        .rotation = view->camera_rotation,
        .rays = query ? view->rays : view->rays_inverse,
        .transpose = query,
    };
}

static swm_tensor softmax_branch(swm_backend *b, const swm_dit *dit, const swm_dit_block *w, const swm_dit_step *step,
                                 swm_dit_memory *memory, swm_tensor a)
{
    swm_head_transform how = into_rays(dit, step->view, true);
    how.norm = w->q_norm_camera;
    swm_tensor q = swm_transform_heads(b, linear(b, a, w->q_camera), &how); /* (N,C) */
    how = into_rays(dit, step->view, false);
    how.norm = w->k_norm_camera;
    swm_tensor k = swm_transform_heads(b, linear(b, a, w->k_camera), &how); /* (N,C) */
    how.norm = (swm_tensor){0};
    swm_tensor v = swm_transform_heads(b, linear(b, a, w->v_camera), &how); /* (N,C) */
    return swm_dit_attend(b, dit, step, memory != NULL ? memory->camera_keys : (swm_tensor){0},
                          memory != NULL ? memory->camera_values : (swm_tensor){0}, q, k, v);
}

static swm_tensor gdn_branch(swm_backend *b, const swm_dit *dit, const swm_dit_block *w, const swm_dit_step *step,
                             swm_dit_memory *memory, swm_tensor a, const swm_dit_gates *gates)
{
    int64_t starts[SWM_MAX_CHUNKS];
    swm_tensor tail = memory != NULL ? memory->camera_key_tail : (swm_tensor){0};
    swm_head_transform how = into_rays(dit, step->view, true);
    how.norm = w->q_norm_camera;
    how.relu = true;
    swm_tensor q = swm_transform_heads(b, linear(b, a, w->q_camera), &how); /* (N,C) */
    swm_tensor k = swm_key_conv(b, linear(b, a, w->k_camera), w->conv_k_camera, step->view->frames,
                                swm_dit_key_chunks(step, starts), tail, step->keep); /* (N,C) */
    how = into_rays(dit, step->view, false);
    how.norm = w->k_norm_camera;
    how.relu = true;
    how.scale = swm_dit_key_scale(dit, step->view);
    how.inflation = SWM_TAKE(b, SWM_F32, swm_row_count(k), dit->size.heads);
    k = swm_transform_heads(b, k, &how); /* (N,C) */
    swm_tensor inflation = how.inflation;
    how = into_rays(dit, step->view, false);
    swm_tensor v = swm_transform_heads(b, linear(b, a, w->v_camera), &how); /* (N,C) */
    swm_gdn scan = {
        .q = q,
        .k = k,
        .v = v,
        .decay = gates->decay,
        .chunks = step->chunks,
        .keep_state = step->keep,
        .beta = swm_gdn_camera_beta(b, gates->beta, inflation, step->view->frames), /* (N,H) */
    };
    if (memory != NULL) scan.state = memory->camera_state;
    return swm_gdn_scan(b, &scan); /* (N,C) */
}

swm_tensor swm_dit_camera_branch(swm_backend *b, const swm_dit *dit, const swm_dit_block *w, const swm_dit_step *step,
                                 swm_dit_memory *memory, bool softmax, swm_tensor a, const swm_dit_gates *gates)
{
    swm_tensor o = softmax ? softmax_branch(b, dit, w, step, memory, a)
                           : gdn_branch(b, dit, w, step, memory, a, gates); /* (N,C) */
    swm_head_transform out = {
        .heads = dit->size.heads, .rotation = step->view->camera_rotation, .rays = step->view->rays, .conjugate = true};
    return swm_transform_heads(b, o, &out); /* (N,C), back in the world */
}
