/* Golden files of the text encoder. */
#include "golden.h"

#include "text/gemma.h"

#include <stdlib.h>
#include <string.h>

/* Rows of ids with a mask, padded on the right. Only tokens are run and compared: what a reference computes for padding
 * is seen by nobody. */
typedef struct text_job {
    const swm_gemma *gemma;
    int64_t rows, length, width;
    const int32_t *ids;   /* (rows,length) */
    const int64_t *valid; /* (rows) */
    float *hidden;        /* tokens of all rows */
} text_job;

static int run_rows(void *user, swm_backend *b, swm_error *error)
{
    (void)error;
    const text_job *job = user;
    float *out = job->hidden;
    for (int64_t row = 0; row < job->rows; row++) {
        swm_mark mark = swm_mark_of(b);
        swm_download(b, out, swm_gemma_forward(b, job->gemma, job->ids + row * job->length, job->valid[row]));
        out += job->valid[row] * job->width;
        swm_release(b, mark);
    }
    return 0;
}

static int read_rows(golden *g, text_job *job)
{
    const swm_tensor *ids = golden_need(g, 2, "in.ids"), *mask = golden_need(g, 2, "in.mask");
    if (ids == NULL || mask == NULL) return -1;
    if (swm_count(*ids) != swm_count(*mask) || swm_count(*ids) == 0)
        return swm_fail(&g->error, "%s: in.ids has shape %s but in.mask %s", g->path, swm_describe(*ids).text,
                        swm_describe(*mask).text);
    job->rows = ids->shape[0];
    job->length = ids->shape[1];
    const float *id_values = golden_read(g, "in.ids"), *mask_values = golden_read(g, "in.mask");
    int32_t *numbers = golden_allocate(g, swm_count(*ids), sizeof *numbers);
    int64_t *valid = golden_allocate(g, job->rows, sizeof *valid);
    if (swm_failed(&g->error)) return -1;
    for (int64_t i = 0; i < swm_count(*ids); i++) {
        if (!(id_values[i] >= 0 && id_values[i] < (float)job->gemma->config.vocab_size))
            return swm_fail(&g->error, "%s: in.ids has the token %g outside the vocabulary", g->path,
                            (double)id_values[i]);
        numbers[i] = (int32_t)id_values[i];
        int64_t row = i / job->length, column = i % job->length;
        if (mask_values[i] != 0 && valid[row]++ != column)
            return swm_fail(&g->error, "%s: row %lld of in.mask is padded on the left", g->path, (long long)row);
    }
    for (int64_t row = 0; row < job->rows; row++)
        if (valid[row] == 0) return swm_fail(&g->error, "%s: row %lld of in.mask is empty", g->path, (long long)row);
    job->ids = numbers;
    job->valid = valid;
    return 0;
}

/* The tokens' rows of a golden (rows,length,width) against results of the tokens alone. */
static int compare_tokens(golden *g, const text_job *job, const char *name, const float *got, int64_t count)
{
    const swm_tensor *t = golden_need(g, 3, "%s", name);
    float *want = golden_read(g, "%s", name), *end = want;
    if (want == NULL) return -1;
    int64_t tokens = 0;
    for (int64_t row = 0; row < job->rows; row++) tokens += job->valid[row];
    if (swm_count(*t) != job->rows * job->length * job->width || count != tokens * job->width)
        return swm_fail(&g->error, "%s: tensor %s has shape %s, which does not fit its ids", g->path, name,
                        swm_describe(*t).text);
    for (int64_t row = 0; row < job->rows; row++) {
        int64_t size = job->valid[row] * job->width;
        memmove(end, want + row * job->length * job->width, (size_t)size * sizeof *want);
        end += size;
    }
    golden_compare_values(g, name, t->dtype, got, want, count);
    return 0;
}

static int compare_rows(golden *g, const swm_gemma *gemma)
{
    text_job job = {.gemma = gemma, .width = gemma->config.hidden_size};
    if (read_rows(g, &job) != 0) return -1;
    job.hidden = golden_floats(g, job.rows * job.length * job.width);
    golden_trace *trace = golden_allocate(g, 1, sizeof *trace);
    if (swm_failed(&g->error) || golden_trace_prepare(trace, g, "") != 0 ||
        golden_run_planned(g->options, run_rows, &job, golden_trace_function, trace, &g->error) != 0)
        return -1;
    int64_t count = 0;
    for (int64_t row = 0; row < job.rows; row++) count += job.valid[row] * job.width;
    for (int i = 0; i < trace->tensor_count; i++)
        if (compare_tokens(g, &job, trace->tensors[i].name, trace->tensors[i].values, trace->tensors[i].count) != 0)
            return -1;
    return compare_tokens(g, &job, "out.last_hidden", job.hidden, count);
}

static int run_gemma2(golden *g)
{
    swm_gemma_config config;
    if (swm_gemma_config_from_json(&config, g->path, g->object, &g->error) != 0) return -1;
    swm_gemma gemma = {0};
    swm_weights *weights = swm_weights_open_prefixed(g->path, "weight.", &g->error);
    int result = weights != NULL ? swm_gemma_bind(&gemma, weights, &config, true, &g->error) : -1;
    if (result == 0) result = compare_rows(g, &gemma);
    swm_gemma_free(&gemma);
    swm_weights_close(weights);
    return result;
}

static bool is_gemma2(const golden *g)
{
    return golden_has(g, "weight.embed_tokens.weight") && golden_has(g, "out.last_hidden") && g->object != NULL;
}

const golden_kind golden_kind_gemma2 = {"gemma2", is_gemma2, run_gemma2};
