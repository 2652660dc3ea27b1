/* The part of model/vae.h that belongs to neither direction: names and binding of tensors, statistics, resnets, tiles. */
#include "model/vae_internal.h"

#include <math.h>
#include <stdlib.h>

const swm_vae_tiling swm_vae_reference_tiling = {
    .height = 512, .width = 512, .stride = 448, .frames = 96, .frame_stride = 64};

/* ---- binding ------------------------------------------------------------------------------------------------------ */

/* A walk over every convolution of a model by name: looks it up in `source`, or declares it in `target`. */
typedef struct visitor {
    const swm_weights *source;
    swm_weights *target;
    swm_dtype dtype; /* of declared tensors */
    swm_error *error;
} visitor;

static int visit(const visitor *v, swm_tensor *tensor, int rank, const int64_t *shape, const char *module,
                 const char *name)
{
    if (v->source != NULL) return swm_weights_bind(v->source, tensor, v->error, rank, shape, "%s%s", module, name);
    char *full = swm_format(v->error, "%s%s", module, name);
    int result = full == NULL ? -1 : swm_weights_declare(v->target, full, v->dtype, rank, shape, v->error);
    free(full);
    return result;
}

static int visit_conv(const visitor *v, swm_vae_conv *conv, int64_t out, int64_t in, const char *module)
{
    if (module == NULL) return -1;
    if (visit(v, &conv->weight, 5, (int64_t[]){out, in, 3, 3, 3}, module, ".conv.weight") != 0) return -1;
    return visit(v, &conv->bias, 1, &out, module, ".conv.bias");
}

static int visit_stage(const visitor *v, swm_vae_stage *stage, int64_t layers, int64_t width, const char *module)
{
    int result = 0;
    for (int64_t i = 0; result == 0 && i < 2 * layers; i++) {
        swm_vae_resnet *resnet = &stage->resnets[i / 2];
        char *name = swm_format(v->error, "%s.resnets.%lld.conv%d", module, (long long)(i / 2), (int)(i % 2) + 1);
        result = visit_conv(v, i % 2 == 0 ? &resnet->conv1 : &resnet->conv2, width, width, name);
        free(name);
    }
    return result;
}

/* The sampler's wrapper owns the convolution's wrapper, hence a second "conv" in the name. */
static int visit_sampler(const visitor *v, swm_vae_stage *stage, int64_t out, int64_t in, const char *kind, int block)
{
    bool down = kind[0] == 'd';
    char *name = swm_format(v->error, "%scoder.%s_blocks.%d.%ssamplers.0.conv", down ? "en" : "de", kind, block, kind);
    int result = visit_conv(v, &stage->sampler, out, in, name);
    free(name);
    return result;
}

static int visit_encoder(const visitor *v, swm_vae *vae)
{
    const swm_vae_config *config = &vae->config;
    int64_t width = config->latent_channels;
    int result = visit_conv(v, &vae->encoder_in, width, 48, "encoder.conv_in");
    for (int i = 0; result == 0 && i < config->encoder_blocks; i++) {
        swm_vae_stride stride = config->encoder_stride[i];
        int64_t out = config->encoder_channels[i] / (stride.time * stride.height * stride.width);
        char *name = swm_format(v->error, "encoder.down_blocks.%d", i);
        result = visit_stage(v, &vae->encoder[i], config->encoder_layers[i], width, name);
        free(name);
        if (result == 0) result = visit_sampler(v, &vae->encoder[i], out, width, "down", i);
        width = config->encoder_channels[i];
    }
    if (result != 0 || visit_stage(v, &vae->encoder[config->encoder_blocks],
                                   config->encoder_layers[config->encoder_blocks], width, "encoder.mid_block") != 0)
        return -1;
    return visit_conv(v, &vae->encoder_out, config->latent_channels + 1, width, "encoder.conv_out");
}

static int visit_decoder(const visitor *v, swm_vae *vae)
{
    const swm_vae_config *config = &vae->config;
    int64_t width = config->decoder_channels[0];
    int result = visit_conv(v, &vae->decoder_in, width, config->latent_channels, "decoder.conv_in");
    if (result == 0) result = visit_stage(v, &vae->decoder[0], config->decoder_layers[0], width, "decoder.mid_block");
    for (int i = 0; result == 0 && i < config->decoder_blocks; i++) {
        swm_vae_stage *stage = &vae->decoder[i + 1];
        result = visit_sampler(v, stage, 4 * width, width, "up", i);
        width /= 2;
        char *name = swm_format(v->error, "decoder.up_blocks.%d", i);
        if (result == 0) result = visit_stage(v, stage, config->decoder_layers[i + 1], width, name);
        free(name);
    }
    return result != 0 ? -1 : visit_conv(v, &vae->decoder_out, 48, width, "decoder.conv_out");
}

static int visit_statistics(const visitor *v, swm_vae *vae)
{
    int64_t channels = vae->config.latent_channels;
    swm_tensor mean = {0}, deviation = {0};
    if (visit(v, &mean, 1, &channels, "latents_", "mean") != 0 || visit(v, &deviation, 1, &channels, "latents_", "std"))
        return -1;
    for (int64_t i = 0; i < channels; i++) vae->deviation[i] = 1.0f;
    if (mean.data == NULL || deviation.data == NULL) return 0;
    swm_to_f32(vae->mean, mean.data, mean.dtype, (size_t)channels);
    swm_to_f32(vae->deviation, deviation.data, deviation.dtype, (size_t)channels);
    for (int64_t i = 0; i < channels; i++)
        if (!isfinite(vae->mean[i]) || !isfinite(vae->deviation[i]) || vae->deviation[i] <= 0.0f)
            return swm_fail(v->error,
                            "%s: latents_mean and latents_std hold %g and %g at %lld, expected finite "
                            "numbers, the second above 0",
                            swm_weights_path(v->source), (double)vae->mean[i], (double)vae->deviation[i], (long long)i);
    return 0;
}

/* A config that io/config.h has read is within these bounds, but for the width of the last up-sampler. */
static int check_config(const swm_vae_config *config, swm_error *error)
{
    SWM_REQUIRE(config->latent_channels >= 1 && config->latent_channels <= SWM_VAE_MAX_LATENTS, "%lld latent channels",
                (long long)config->latent_channels);
    SWM_REQUIRE(config->encoder_blocks <= SWM_VAE_MAX_BLOCKS && config->decoder_blocks <= SWM_VAE_MAX_BLOCKS,
                "%d and %d blocks", config->encoder_blocks, config->decoder_blocks);
    for (int i = 0; i <= SWM_VAE_MAX_BLOCKS; i++)
        SWM_REQUIRE(config->encoder_layers[i] <= SWM_VAE_MAX_LAYERS && config->decoder_layers[i] <= SWM_VAE_MAX_LAYERS,
                    "%lld and %lld layers in stage %d", (long long)config->encoder_layers[i],
                    (long long)config->decoder_layers[i], i);
    for (int i = 0; i < config->decoder_blocks; i++)
        if (config->decoder_channels[i] % 8 != 0)
            return swm_fail(error, "the autoencoder's decoder_block_out_channels contain %lld, expected multiples of 8",
                            (long long)config->decoder_channels[i]);
    return 0;
}

static int visit_parts(const visitor *v, swm_vae *vae, swm_vae_parts parts)
{
    if (check_config(&vae->config, v->error) != 0 || visit_statistics(v, vae) != 0) return -1;
    vae->has_encoder = (parts & SWM_VAE_ENCODER) != 0;
    vae->has_decoder = (parts & SWM_VAE_DECODER) != 0;
    if (vae->has_encoder && visit_encoder(v, vae) != 0) return -1;
    return vae->has_decoder ? visit_decoder(v, vae) : 0;
}

swm_vae *swm_vae_bind(const swm_weights *weights, const swm_vae_config *config, swm_vae_parts parts, swm_error *error)
{
    swm_vae *vae = swm_allocate(error, 1, sizeof *vae);
    if (vae == NULL) return NULL;
    vae->config = *config;
    visitor v = {.source = weights, .error = error};
    if (visit_parts(&v, vae, parts) == 0) return vae;
    free(vae);
    return NULL;
}

int swm_vae_declare(swm_weights *weights, const swm_vae_config *config, swm_dtype dtype, swm_error *error)
{
    swm_vae *vae = swm_allocate(error, 1, sizeof *vae);
    if (vae == NULL) return -1;
    vae->config = *config;
    visitor v = {.target = weights, .dtype = dtype, .error = error};
    int result = visit_parts(&v, vae, SWM_VAE_BOTH);
    free(vae);
    return result;
}

/* ---- statistics --------------------------------------------------------------------------------------------------- */

void swm_vae_normalise(const swm_vae *vae, float *latent, int64_t positions)
{
    int64_t channels = vae->config.latent_channels;
    float scaling = (float)vae->config.scaling_factor;
    for (int64_t i = 0; i < positions * channels; i++)
        latent[i] = (latent[i] - vae->mean[i % channels]) * scaling / vae->deviation[i % channels];
}

void swm_vae_denormalise(const swm_vae *vae, float *latent, int64_t positions)
{
    int64_t channels = vae->config.latent_channels;
    float scaling = (float)vae->config.scaling_factor;
    for (int64_t i = 0; i < positions * channels; i++)
        latent[i] = latent[i] * vae->deviation[i % channels] / scaling + vae->mean[i % channels];
}

/* ---- layers ------------------------------------------------------------------------------------------------------- */

/* `conv` as swm_weights_use gave it. */
static swm_conv3d describe_conv(swm_vae_run *run, const swm_vae_conv *conv, swm_vae_conv_options options)
{
    swm_conv3d how = {.weight = conv->weight,
                      .bias = conv->bias,
                      .causal = run->causal,
                      .reflect = run->reflect,
                      .norm_silu = options.norm_silu,
                      .residual = options.residual};
    if (run->state == NULL) return how;
    int i = run->next_cache++;
    how.cache = run->state->caches[i];
    how.cache_filled = run->state->filled[i];
    how.open = !run->causal && !run->last;
    run->state->filled[i] = true;
    return how;
}

swm_tensor swm_vae_single(swm_vae_run *run, swm_tensor x, const swm_vae_conv *conv, swm_vae_conv_options options)
{
    const swm_vae_conv *used = swm_weights_use(run->b, conv, sizeof *conv);
    swm_conv3d how = describe_conv(run, used, options);
    int64_t frames = swm_conv_frames(&how, x.shape[0]);
    swm_tensor y =
        SWM_TAKE(run->b, run->b->compute, options.front + frames, x.shape[1], x.shape[2], used->weight.shape[0]);
    swm_conv_to(run->b, swm_rows(y, options.front, frames), x, &how);
    swm_weights_done(run->b, conv);
    return y;
}

void swm_vae_branch(swm_vae_run *run, swm_vae_span *x, int64_t lag)
{
    if (run->state == NULL || run->causal) return;
    int i = run->next_branch++;
    int64_t *owed = &run->state->late_count[i];
    swm_tensor late = run->state->late[i];
    x->first -= *owed;
    x->count += *owed;
    if (*owed > 0) swm_copy(run->b, swm_rows(x->room, x->first, *owed), swm_rows(late, 0, *owed));
    *owed = run->last ? 0 : swm_min(lag, x->count);
    x->count -= *owed;
    if (*owed > 0) swm_copy(run->b, swm_rows(late, 0, *owed), swm_rows(x->room, x->first + x->count, *owed));
}

/* A span of which the first convolutions have left nothing yet ends there. */
void swm_vae_resnets(swm_vae_run *run, swm_vae_span *x, const swm_vae_stage *stage, int64_t layers)
{
    swm_backend *b = run->b;
    for (int64_t i = 0; i < layers && x->count > 0; i++) {
        const swm_vae_resnet *resnet = swm_weights_use(b, &stage->resnets[i], sizeof *resnet);
        swm_mark mark = swm_mark_of(b);
        swm_tensor in = swm_vae_frames(*x);
        swm_vae_branch(run, x, 2);
        swm_tensor sum = swm_vae_frames(*x);
        swm_conv3d how = describe_conv(run, &resnet->conv1, (swm_vae_conv_options){.norm_silu = true});
        swm_tensor r = swm_conv(b, in, &how);
        if (r.shape[0] > 0) {
            how = describe_conv(run, &resnet->conv2, (swm_vae_conv_options){.norm_silu = true, .residual = sum});
            swm_conv_to(b, sum, r, &how);
        }
        swm_release(b, mark);
        swm_weights_done(b, &stage->resnets[i]);
    }
}

/* ---- spatial tiles ------------------------------------------------------------------------------------------------ */

/* Tiles along an axis start at every multiple of the stride. Where that would leave a last tile of one latent, at which
 * nothing can be reflected, the tile before it takes that latent too. */
static int64_t count_tiles(int64_t size, int64_t stride)
{
    int64_t count = swm_divide_up(size, stride);
    return count > 1 && size - (count - 1) * stride == 1 ? count - 1 : count;
}

typedef struct extent {
    int64_t start, size, kept; /* latents: of the tile, and how many of them reach the result */
} extent;

static extent tile_extent(int64_t index, int64_t count, int64_t size, int64_t tile, int64_t stride)
{
    int64_t start = index * stride, rest = size - start;
    if (index == count - 1) return (extent){start, rest, rest};
    return (extent){start, swm_min(tile, rest), stride};
}

/* The last steps of a tile along an axis, at most `most`, kept in `memory` for the neighbour that comes there. */
static swm_tensor keep_strip(swm_backend *b, void *memory, swm_tensor tile, int axis, int64_t most)
{
    swm_tensor strip = tile;
    strip.data = memory;
    strip.shape[axis] = swm_min(most, tile.shape[axis]);
    int64_t from[4] = {0}, zero[4] = {0};
    from[axis] = tile.shape[axis] - strip.shape[axis];
    swm_paste(b, strip, zero, tile, from, strip.shape);
    return strip;
}

static void blend_strip(swm_backend *b, swm_tensor tile, swm_tensor strip, int axis)
{
    swm_blend(b, tile, strip, axis, swm_min(tile.shape[axis], strip.shape[axis]));
}

/* A strip that was kept in `slot` by a tile of another height, as blending this tile along the height needs it. */
static swm_tensor strip_above(swm_tensor slot, swm_tensor tile, int64_t height)
{
    return SWM_TENSOR(tile.dtype, slot.data, tile.shape[0], height, tile.shape[2], tile.shape[3]);
}

/* A row of tiles from left to right. Slot j of `above` (columns,F,overlap,width,C) holds the strip of the tile over tile
 * j, `above_height` high, and gets this row's. A tile is blended with its neighbours as these are after their own
 * blending: first with the one above, then with the one to the left. Returns the height of the strips left. */
static int64_t run_tile_row(swm_backend *b, const swm_vae *vae, swm_tensor x, const swm_vae_tiles *how, swm_tensor out,
                            extent rows, swm_tensor above, int64_t above_height)
{
    int64_t width = x.shape[2] / how->in, columns = above.shape[0], zero[4] = {0};
    int64_t overlap_down = above.shape[2], overlap_across = (how->width - how->stride) * how->out;
    swm_mark mark = swm_mark_of(b);
    swm_tensor left_memory =
        SWM_TAKE(b, b->compute, how->out_frames, rows.size * how->out, overlap_across, how->out_channels);
    swm_tensor left = {0};
    swm_mark tile_mark = swm_mark_of(b);
    for (int64_t j = 0; j < columns; j++) {
        extent across = tile_extent(j, columns, width, how->width, how->stride);
        swm_tensor part = SWM_TAKE(b, b->compute, x.shape[0], rows.size * how->in, across.size * how->in, x.shape[3]);
        int64_t from[4] = {0, rows.start * how->in, across.start * how->in, 0};
        swm_paste(b, part, zero, x, from, part.shape);
        swm_tensor tile = how->network(b, vae, part, how->user), slot = swm_rows(above, j, 1);
        if (rows.start > 0) blend_strip(b, tile, strip_above(slot, tile, above_height), 1);
        if (across.start > 0) blend_strip(b, tile, left, 2);
        keep_strip(b, slot.data, tile, 1, overlap_down);
        left = keep_strip(b, left_memory.data, tile, 2, overlap_across);
        int64_t at[4] = {0, rows.start * how->out, across.start * how->out, 0};
        int64_t box[4] = {how->out_frames, rows.kept * how->out, across.kept * how->out, how->out_channels};
        swm_paste(b, out, at, tile, zero, box);
        swm_release(b, tile_mark);
    }
    swm_release(b, mark);
    return swm_min(overlap_down, rows.size * how->out);
}

swm_tensor swm_vae_run_tiles(swm_backend *b, const swm_vae *vae, swm_tensor x, const swm_vae_tiles *how)
{
    int64_t height = x.shape[1] / how->in, width = x.shape[2] / how->in;
    if (how->stride == 0 || (height <= how->height && width <= how->width)) return how->network(b, vae, x, how->user);
    SWM_REQUIRE(how->stride > 0 && how->stride <= how->height && how->stride <= how->width,
                "tiles of %lld x %lld latents every %lld", (long long)how->height, (long long)how->width,
                (long long)how->stride);
    swm_tensor out = SWM_TAKE(b, b->compute, how->out_frames, height * how->out, width * how->out, how->out_channels);
    swm_mark mark = swm_mark_of(b);
    int64_t rows = count_tiles(height, how->stride), columns = count_tiles(width, how->stride);
    int64_t overlap = (how->height - how->stride) * how->out, widest = swm_max(how->width, how->stride + 1) * how->out;
    swm_tensor above = SWM_TAKE(b, b->compute, columns, how->out_frames, overlap, widest, how->out_channels);
    int64_t above_height = 0;
    for (int64_t i = 0; i < rows; i++)
        above_height = run_tile_row(b, vae, x, how, out, tile_extent(i, rows, height, how->height, how->stride), above,
                                    above_height);
    swm_release(b, mark);
    return out;
}
