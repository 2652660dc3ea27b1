/* Golden files of the video autoencoder: encoder, decoder whole and in tiles, streaming decoder. */
#include "golden.h"

#include "model/vae.h"

#include <stdlib.h>

typedef struct vae_job {
    const swm_vae *vae;
    const float *in; /* channels last, as `out` */
    int64_t shape[4];
    const swm_vae_tiling *tiling; /* NULL: whole */
    const int64_t *ends;          /* of the spans of a stream */
    int spans;
    float *out;
    int64_t out_count; /* room */
} vae_job;

static int run_encoder(void *user, swm_backend *b, swm_error *error)
{
    (void)error;
    vae_job *job = user;
    swm_mark mark = swm_mark_of(b);
    swm_tensor latent = swm_vae_encode(b, job->vae, swm_upload(b, b->compute, job->in, 4, job->shape), NULL);
    job->out_count = swm_min(job->out_count, swm_count(latent));
    swm_download(b, job->out,
                 SWM_RESHAPE(swm_rows(SWM_RESHAPE(latent, swm_count(latent)), 0, job->out_count), job->out_count));
    swm_release(b, mark);
    return 0;
}

static int keep_frames(void *user, swm_backend *b, int64_t first, swm_tensor frames)
{
    vae_job *job = user;
    int64_t start = first * swm_row_size(frames);
    if (start + swm_count(frames) > job->out_count) return -1;
    swm_download(b, job->out + start, frames);
    return 0;
}

static int run_decoder(void *user, swm_backend *b, swm_error *error)
{
    vae_job *job = user;
    swm_mark mark = swm_mark_of(b);
    swm_tensor latent = swm_upload(b, b->compute, job->in, 4, job->shape);
    int result = swm_vae_decode(b, job->vae, latent, job->tiling, keep_frames, job);
    swm_release(b, mark);
    return result == 0 ? 0 : swm_fail(error, "the decoder made more frames than the golden file has");
}

static int run_stream(void *user, swm_backend *b, swm_error *error)
{
    vae_job *job = user;
    swm_mark mark = swm_mark_of(b);
    swm_vae_state state;
    swm_vae_state_take(b, job->vae, &state, job->shape[1], job->shape[2]);
    swm_tensor latent = swm_upload(b, b->compute, job->in, 4, job->shape);
    int result = 0;
    for (int i = 0; result == 0 && i < job->spans; i++) {
        int64_t start = i > 0 ? job->ends[i - 1] : 0, first = state.frames;
        swm_mark span = swm_mark_of(b);
        swm_tensor frames = swm_vae_decode_next(b, job->vae, &state, swm_rows(latent, start, job->ends[i] - start));
        result = keep_frames(job, b, first, frames);
        swm_release(b, span);
    }
    swm_release(b, mark);
    return result == 0 ? 0 : swm_fail(error, "the decoder made more frames than the golden file has");
}

/* One input tensor of the file, one result, and what lies between: intermediates under <prefix>act. */
typedef struct vae_case {
    const char *in, *out, *prefix;
    golden_job job;
    bool first_latent, tiled, denormalise;
} vae_case;

static const vae_case cases[] = {
    {"in.image", "out.image_latent", "img.", run_encoder, false, false, false},
    {"in.video", "out.video_latent", "", run_encoder, false, false, false},
    {"in.z", "out.decoded", "dec.", run_decoder, false, false, false},
    {"in.z", "out.decoded_1frame", "", run_decoder, true, false, false},
    {"in.z_framewise", "out.decoded_framewise", "", run_decoder, false, true, false},
    {"in.z_tiled", "out.decoded_tiled", "", run_decoder, false, true, false},
    {"in.z_tiled_framewise", "out.decoded_tiled_framewise", "", run_decoder, false, true, false},
    {"in.z", "out.decoded_whole", "", run_decoder, false, false, false},
    {"in.z", "out.stream", "", run_stream, false, false, true},
};

static int check_shape(golden *g, const vae_case *c, const swm_vae *vae, const swm_tensor *in)
{
    const int64_t *s = in->shape;
    bool pixels = c->job == run_encoder;
    bool good = in->rank == 5 && s[0] == 1 && s[1] == (pixels ? 3 : vae->config.latent_channels) && s[2] > 0 &&
                s[3] > 0 && s[4] > 0 && (!pixels || (s[2] % 8 == 1 && s[3] % 32 == 0 && s[4] % 32 == 0)) &&
                (pixels || vae->config.decoder_padding != SWM_PAD_REFLECT || (s[3] > 1 && s[4] > 1));
    return good ? 0
                : swm_fail(&g->error, "%s: tensor %s has shape %s, which the weights do not fit", g->path, c->in,
                           swm_describe(*in).text);
}

static int run_case(golden *g, const swm_vae *vae, const vae_case *c, const swm_vae_tiling *tiling, const int64_t *ends,
                    int spans)
{
    const swm_tensor *in = golden_need(g, -1, "%s", c->in), *out = golden_need(g, -1, "%s", c->out);
    if (in == NULL || out == NULL || check_shape(g, c, vae, in) != 0) return -1;
    float *values = golden_read_channels_last(g, c->in), *results = golden_floats(g, swm_count(*out));
    golden_trace *trace = golden_allocate(g, 1, sizeof *trace);
    if (swm_failed(&g->error) || golden_trace_prepare(trace, g, c->prefix) != 0) return -1;
    if (c->denormalise) swm_vae_denormalise(vae, values, swm_count(*in) / vae->config.latent_channels);
    vae_job job = {.vae = vae,
                   .in = values,
                   .out = results,
                   .out_count = swm_count(*out),
                   .tiling = c->tiled ? tiling : NULL,
                   .shape = {c->first_latent ? 1 : in->shape[2], in->shape[3], in->shape[4], in->shape[1]},
                   .ends = ends,
                   .spans = spans};
    if (golden_run_planned(g->options, c->job, &job, golden_trace_function, trace, &g->error) != 0) return -1;
    golden_trace_compare(trace);
    golden_compare_channels_last(g, c->out, results, job.out_count);
    return 0;
}

/* The tiles of the file's tiled results; the reference's lag is part of them. */
static int read_tiling(golden *g, swm_vae_tiling *tiling)
{
    swm_json tiles;
    *tiling = (swm_vae_tiling){.reference_lag = true};
    if (swm_json_find(g->config, "tiles") == NULL) return 0;
    if (swm_json_section(g->config, "tiles", &tiles, &g->error) != 0 ||
        swm_json_integer(tiles, "height", 32, 1 << 16, &tiling->height, &g->error) != 0 ||
        swm_json_integer(tiles, "width", 32, 1 << 16, &tiling->width, &g->error) != 0 ||
        swm_json_integer(tiles, "stride", 32, 1 << 16, &tiling->stride, &g->error) != 0 ||
        swm_json_integer(tiles, "frames", 8, 1 << 16, &tiling->frames, &g->error) != 0 ||
        swm_json_integer(tiles, "frames_stride", 8, 1 << 16, &tiling->frame_stride, &g->error) != 0)
        return -1;
    return 0;
}

/* Ends of the spans in "chunks": [[0,4],[4,6]] -> 4, 6. */
static int read_spans(golden *g, int64_t ends[64], int *count)
{
    const cJSON *item;
    *count = 0;
    cJSON_ArrayForEach(item, swm_json_find(g->config, "chunks"))
    {
        const cJSON *end = cJSON_GetArrayItem(item, 1);
        double before = *count > 0 ? (double)ends[*count - 1] : 0;
        if (*count == 64 || !cJSON_IsNumber(end) || !(end->valuedouble > before) || end->valuedouble > 1 << 16)
            return swm_fail(&g->error, "%s: chunks are no list of up to 64 ascending [start,end]", g->path);
        ends[(*count)++] = (int64_t)end->valuedouble;
    }
    const swm_tensor *z = *count > 0 ? golden_need(g, 5, "in.z") : NULL;
    if (*count > 0 && (z == NULL || ends[*count - 1] > z->shape[2]))
        return swm_fail(&g->error, "%s: chunks go beyond in.z", g->path);
    return 0;
}

static int run_cases(golden *g, const swm_vae *vae)
{
    swm_vae_tiling tiling;
    int64_t ends[64];
    int spans;
    if (read_tiling(g, &tiling) != 0 || read_spans(g, ends, &spans) != 0) return -1;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        if (golden_wanted(g->options, cases[i].out) && golden_has(g, "%s", cases[i].in) &&
            golden_has(g, "%s", cases[i].out) && run_case(g, vae, &cases[i], &tiling, ends, spans) != 0)
            return -1;
    return 0;
}

static int run_vae(golden *g)
{
    swm_vae_config config;
    if (swm_vae_config_from_json(&config, g->path, g->object, &g->error) != 0) return -1;
    swm_weights *weights = swm_weights_open_prefixed(g->path, "weight.", &g->error);
    swm_vae *vae = weights != NULL ? swm_vae_bind(weights, &config, SWM_VAE_BOTH, &g->error) : NULL;
    int result = vae != NULL ? run_cases(g, vae) : -1;
    free(vae);
    swm_weights_close(weights);
    return result;
}

static bool is_vae(const golden *g) { return golden_has(g, "weight.decoder.conv_in.conv.weight") && g->object != NULL; }

const golden_kind golden_kind_vae = {"vae", is_vae, run_vae};
