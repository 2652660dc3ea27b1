/* The part of a refiner's golden file that is about text: hidden states of an encoder, packed and through the connectors. */
#include "golden.h"

#include "text/connectors.h"

#include <stdlib.h>
#include <string.h>

typedef struct connectors_job {
    const swm_connectors *connectors;
    int64_t slots, first, tokens, layers, width; /* the text lies behind `first` slots of padding */
    const float *states;                         /* (layers,tokens,width) */
    float *packed, *out;                         /* (tokens,width*layers), (slots,width) */
} connectors_job;

static void keep_packed(void *user, swm_backend *b, const char *name, swm_tensor value)
{
    const connectors_job *job = user;
    if (strcmp(name, "packed") == 0) swm_download(b, job->packed, value);
}

static int run_connectors(void *user, swm_backend *b, swm_error *error)
{
    (void)error;
    const connectors_job *job = user;
    swm_mark mark = swm_mark_of(b);
    swm_tensor states = SWM_UPLOAD(b, b->compute, job->states, job->layers, job->tokens, job->width);
    swm_download(b, job->out, swm_connectors_forward(b, job->connectors, states, job->slots));
    swm_release(b, mark);
    return 0;
}

/* The tokens' states, the golden's (1,slots,width,layers) turned to (layers,tokens,width). */
static int read_text(golden *g, connectors_job *job)
{
    const swm_tensor *t = golden_need(g, 4, "in.hidden_states"), *m = golden_need(g, 2, "in.mask");
    const float *values = golden_read(g, "in.hidden_states"), *mask = golden_read(g, "in.mask");
    if (values == NULL || mask == NULL) return -1;
    job->slots = m->shape[1];
    if (m->shape[0] != 1 || t->shape[0] != 1 || t->shape[1] != job->slots || t->shape[2] != job->width ||
        t->shape[3] != job->layers)
        return swm_fail(
            &g->error, "%s: in.hidden_states is %s and in.mask %s, expected (1,slots,%lld,%lld) and (1,slots)", g->path,
            swm_describe(*t).text, swm_describe(*m).text, (long long)job->width, (long long)job->layers);
    while (job->first < job->slots && mask[job->first] == 0) job->first++;
    job->tokens = job->slots - job->first;
    for (int64_t i = job->first; i < job->slots; i++)
        if (mask[i] == 0) job->tokens = 0;
    if (job->tokens == 0) return swm_fail(&g->error, "%s: in.mask is empty or not padded on the left", g->path);
    int64_t cells = job->tokens * job->width;
    float *states = golden_floats(g, cells * job->layers);
    job->states = states;
    job->packed = golden_floats(g, cells * job->layers);
    job->out = golden_floats(g, job->slots * job->width);
    if (swm_failed(&g->error)) return -1;
    for (int64_t i = 0; i < cells; i++)
        for (int64_t layer = 0; layer < job->layers; layer++)
            states[layer * cells + i] = values[(job->first * job->width + i) * job->layers + layer];
    return 0;
}

static int compare(golden *g, const swm_connectors *connectors)
{
    connectors_job job = {
        .connectors = connectors, .layers = connectors->config.layers, .width = connectors->config.caption_channels};
    if (read_text(g, &job) != 0 ||
        golden_run_planned(g->options, run_connectors, &job, keep_packed, &job, &g->error) != 0)
        return -1;
    const swm_tensor *t = golden_need(g, 3, "act.packed");
    const float *want = golden_read(g, "act.packed");
    int64_t row = job.width * job.layers;
    if (want == NULL || swm_count(*t) != job.slots * row)
        return swm_fail(&g->error, "%s: act.packed does not fit in.hidden_states", g->path);
    golden_compare_values(g, "act.packed", t->dtype, job.packed, want + job.first * row, job.tokens * row);
    golden_compare(g, "act.prompt_embeds", job.out, job.slots * job.width);
    return 0;
}

int golden_compare_connectors(golden *g)
{
    swm_json section;
    swm_connectors_config config;
    if (swm_json_section(g->config, "connectors", &section, &g->error) != 0 ||
        swm_connectors_config_from_json(&config, g->path, section.object, &g->error) != 0)
        return -1;
    swm_weights *weights = swm_weights_open_prefixed(g->path, "weight.connectors.", &g->error);
    swm_connectors *connectors = weights != NULL ? swm_connectors_bind(weights, &config, &g->error) : NULL;
    int result = connectors != NULL ? compare(g, connectors) : -1;
    free(connectors);
    swm_weights_close(weights);
    return result;
}
