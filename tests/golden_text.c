/* Golden files of the text encoders. */
#include "golden.h"

#include "text/gemma.h"

#include <stdlib.h>
#include <string.h>

/* Rows of ids with a mask, padded on either side. Only tokens are run and compared: what a reference computes for
 * padding is seen by nobody. */
typedef struct text_job {
    const swm_gemma *gemma;
    int64_t rows, length, width, layers;
    const int32_t *ids;           /* (rows,length) */
    const int64_t *first, *valid; /* (rows): the first token and how many there are */
    float *hidden;                /* tokens of all rows */
    float *states;                /* (layers+1,tokens,width) of row after row; NULL: not wanted */
} text_job;

static int run_rows(void *user, swm_backend *b, swm_error *error)
{
    (void)error;
    const text_job *job = user;
    float *out = job->hidden, *states_out = job->states;
    for (int64_t row = 0; row < job->rows; row++) {
        swm_mark mark = swm_mark_of(b);
        int64_t first = job->first[row], valid = job->valid[row], size = valid * job->width;
        swm_tensor states = {0};
        if (states_out != NULL) states = SWM_TAKE(b, b->compute, job->layers + 1, valid, job->width);
        swm_download(b, out,
                     swm_gemma_forward(b, job->gemma, job->ids + row * job->length + first, valid, first,
                                       states_out != NULL ? &states : NULL));
        out += size;
        if (states_out != NULL) {
            swm_download(b, states_out, states);
            states_out += (job->layers + 1) * size;
        }
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
    int64_t *first = golden_allocate(g, job->rows, sizeof *first);
    int64_t *valid = golden_allocate(g, job->rows, sizeof *valid);
    if (swm_failed(&g->error)) return -1;
    for (int64_t i = 0; i < swm_count(*ids); i++) {
        if (!(id_values[i] >= 0 && id_values[i] < (float)job->gemma->config.vocab_size))
            return swm_fail(&g->error, "%s: in.ids has the token %g outside the vocabulary", g->path,
                            (double)id_values[i]);
        numbers[i] = (int32_t)id_values[i];
        int64_t row = i / job->length, column = i % job->length;
        if (mask_values[i] == 0) continue;
        if (valid[row] == 0) first[row] = column;
        if (first[row] + valid[row]++ != column)
            return swm_fail(&g->error, "%s: row %lld of in.mask has padding inside", g->path, (long long)row);
    }
    for (int64_t row = 0; row < job->rows; row++)
        if (valid[row] == 0) return swm_fail(&g->error, "%s: row %lld of in.mask is empty", g->path, (long long)row);
    job->ids = numbers;
    job->first = first;
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
        memmove(end, want + (row * job->length + job->first[row]) * job->width, (size_t)size * sizeof *want);
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

/* Bind the weights of a file and run `compare` with them. */
static int with_gemma(golden *g, const cJSON *object, int (*compare)(golden *g, const swm_gemma *gemma))
{
    swm_gemma_config config;
    if (swm_gemma_config_from_json(&config, g->path, object, &g->error) != 0) return -1;
    swm_gemma gemma = {0};
    swm_weights *weights = swm_weights_open_prefixed(g->path, "weight.", &g->error);
    int result = weights != NULL ? swm_gemma_bind(&gemma, weights, &config, true, &g->error) : -1;
    if (result == 0) result = compare(g, &gemma);
    swm_gemma_free(&gemma);
    swm_weights_close(weights);
    return result;
}

static int run_gemma2(golden *g) { return with_gemma(g, g->object, compare_rows); }

static bool is_gemma2(const golden *g)
{
    return golden_has(g, "weight.embed_tokens.weight") && golden_has(g, "out.last_hidden") && g->object != NULL;
}

const golden_kind golden_kind_gemma2 = {"gemma2", is_gemma2, run_gemma2};

/* ---- all hidden states --------------------------------------------------------------------------------------------- */

/* The golden lies as (rows,length,width,layers + 1). */
static int compare_states(golden *g, const swm_gemma *gemma)
{
    static const char name[] = "out.hidden_states";
    text_job job = {.gemma = gemma, .width = gemma->config.hidden_size, .layers = gemma->config.layers};
    if (read_rows(g, &job) != 0) return -1;
    const swm_tensor *t = golden_need(g, 4, name);
    const float *golden_values = golden_read(g, name);
    int64_t cells = job.rows * job.length * job.width, layers = job.layers + 1;
    job.hidden = golden_floats(g, cells);
    job.states = golden_floats(g, cells * layers);
    float *got = golden_floats(g, cells), *want = golden_floats(g, cells);
    if (swm_failed(&g->error) || golden_run_planned(g->options, run_rows, &job, NULL, NULL, &g->error) != 0) return -1;
    if (t->shape[3] != layers || swm_count(*t) != cells * layers)
        return swm_fail(&g->error, "%s: tensor %s has shape %s, which does not fit its ids and its %lld layers",
                        g->path, name, swm_describe(*t).text, (long long)job.layers);
    for (int64_t layer = 0; layer < layers; layer++) {
        const float *states = job.states;
        int64_t count = 0;
        for (int64_t row = 0; row < job.rows; row++) {
            int64_t size = job.valid[row] * job.width, start = (row * job.length + job.first[row]) * job.width;
            memcpy(got + count, states + layer * size, (size_t)size * sizeof *got);
            for (int64_t i = 0; i < size; i++) want[count + i] = golden_values[(start + i) * layers + layer];
            states += layers * size;
            count += size;
        }
        char line[64];
        snprintf(line, sizeof line, "%s[%lld]", name, (long long)layer);
        golden_compare_values(g, line, t->dtype, got, want, count);
    }
    return 0;
}

/* The file tells its rotation as a dictionary in the spelling of Python, and no model_type. */
static int run_gemma3(golden *g)
{
    const char *rope;
    if (swm_json_string(g->config, "rope", &rope, &g->error) != 0) return -1;
    char *text = swm_copy_string(&g->error, rope);
    if (text == NULL) return -1;
    for (char *c = text; *c != '\0'; c++)
        if (*c == '\'') *c = '"';
    cJSON *object = cJSON_Duplicate(g->object, true);
    cJSON *parameters = swm_json_parse(g->path, text, strlen(text), &g->error);
    free(text);
    int result = -1;
    if (parameters != NULL && cJSON_AddItemToObject(object, "rope_parameters", parameters) &&
        cJSON_AddStringToObject(object, "model_type", "gemma3_text") != NULL)
        result = with_gemma(g, object, compare_states);
    cJSON_Delete(object);
    return result;
}

static bool is_gemma3(const golden *g)
{
    return golden_has(g, "weight.layers.0.self_attn.q_norm.weight") && golden_has(g, "out.hidden_states") &&
           g->object != NULL;
}

const golden_kind golden_kind_gemma3 = {"gemma3", is_gemma3, run_gemma3};
