/* Implements sample/refine.h. Two ways to write the same step, which round differently: the reference does one shot in
 * its bf16 latents and blocks in float32. */
#include "sample/refine.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* Four levels of a distilled schedule, which the network was trained at. */
static const float distilled[] = {0.909375f, 0.725f, 0.421875f, 0};

swm_refinement swm_refinement_defaults(void)
{
    swm_refinement how = {.steps = 3};
    memcpy(how.sigmas, distilled, sizeof distilled);
    return how;
}

/* ---- sigmas ------------------------------------------------------------------------------------------------------- */

/* A decimal number at *text, which moves behind it. strtod alone would take names, hexadecimal and blanks too. */
static bool read_number(const char **text, double *value)
{
    char copy[32];
    size_t length = strspn(*text, "0123456789.eE+-");
    if (length == 0 || length >= sizeof copy) return false;
    memcpy(copy, *text, length);
    copy[length] = '\0';
    char *end;
    *value = strtod(copy, &end);
    *text += length;
    return *end == '\0';
}

int swm_refinement_parse_sigmas(swm_refinement *how, const char *text, swm_error *error)
{
    float sigmas[SWM_REFINE_MAX_STEPS + 1] = {0};
    int count = 0;
    double last = 0;
    const char *at = text;
    for (;;) {
        double value;
        at += strspn(at, " ");
        if (!read_number(&at, &value))
            return swm_fail(error, "sigmas \"%s\": expected numbers between commas, as in 0.9,0.7,0.4", text);
        if (!(value >= 0 && value <= 1))
            return swm_fail(error, "sigmas \"%s\": %g is not between 0 and 1", text, value);
        if (count > 0 && !((float)value < sigmas[count - 1]))
            return swm_fail(error, "sigmas \"%s\": %g does not fall below %g", text, value, last);
        if (count == SWM_REFINE_MAX_STEPS && value > 0)
            return swm_fail(error, "sigmas \"%s\": more than %d steps", text, SWM_REFINE_MAX_STEPS);
        sigmas[count++] = (float)value;
        last = value;
        at += strspn(at, " ");
        if (*at != ',') break;
        at++;
    }
    if (*at != '\0') return swm_fail(error, "sigmas \"%s\": expected a comma before \"%s\"", text, at);
    int steps = sigmas[count - 1] > 0 ? count : count - 1;
    if (steps == 0) return swm_fail(error, "sigmas \"%s\": no step before 0", text);
    how->steps = steps;
    memcpy(how->sigmas, sigmas, sizeof sigmas);
    return 0;
}

/* ---- steps -------------------------------------------------------------------------------------------------------- */

/* What a refinement holds while it runs. Buffers are (C,frames,h,w) of the span in work. */
typedef struct run {
    const swm_refinement *how;
    swm_latent_shape shape;
    float *latent;
    float *x, *other; /* noisy latent; noise, then velocity */
    int64_t done, passes;
    swm_error *error;
} run;

/* Frames of a span between the clip's latent and a packed buffer. */
static void read_span(run *r, int64_t first, int64_t frames)
{
    int64_t cells = r->shape.height * r->shape.width;
    for (int64_t c = 0; c < r->shape.channels; c++)
        memcpy(r->x + c * frames * cells, r->latent + (c * r->shape.frames + first) * cells,
               (size_t)(frames * cells) * sizeof(float));
}

static void write_span(run *r, int64_t first, int64_t frames)
{
    int64_t cells = r->shape.height * r->shape.width;
    for (int64_t c = 0; c < r->shape.channels; c++)
        memcpy(r->latent + (c * r->shape.frames + first) * cells, r->x + c * frames * cells,
               (size_t)(frames * cells) * sizeof(float));
}

static float rounded(const swm_refinement *how, float value)
{
    return how->round_to_bf16 ? swm_bf16_to_f32(swm_f32_to_bf16(value)) : value;
}

/* x from stage 1's latent to sigma 0's level of noise. */
static void add_noise(const swm_refinement *how, float *x, const float *noise, int64_t count)
{
    float sigma = how->sigmas[0], keep = 1 - sigma;
    for (int64_t i = 0; i < count; i++) {
        float clean = keep * rounded(how, x[i]), noisy = sigma * rounded(how, noise[i]);
        if (how->block == 0) clean = rounded(how, clean), noisy = rounded(how, noisy);
        x[i] = rounded(how, clean + noisy);
    }
}

/* x from one level of noise to the next. The way goes through the clean latent that the velocity points at, rounded. */
static void take_step(const swm_refinement *how, float *x, const float *velocity, int64_t count, float sigma,
                      float next)
{
    double ratio = (double)next / (double)sigma;
    float of_noisy = (float)ratio, of_clean = (float)(1 - ratio), distance = next - sigma;
    for (int64_t i = 0; i < count; i++) {
        float change = velocity[i] * sigma, clean = rounded(how, x[i] - change);
        if (how->block == 0) {
            float slope = (x[i] - clean) / sigma;
            change = slope * distance;
            x[i] = rounded(how, x[i] + change);
        } else {
            float noisy = of_noisy * x[i];
            clean *= of_clean;
            x[i] = rounded(how, noisy + clean);
        }
    }
}

/* ---- runs --------------------------------------------------------------------------------------------------------- */

static int forward(run *r, int64_t first, int64_t frames, float sigma, bool keep)
{
    const swm_refinement *how = r->how;
    return how->velocity(how->user, first, frames, r->x, sigma, keep, keep ? NULL : r->other, r->error);
}

static void report(run *r)
{
    r->done++;
    if (r->how->after_step != NULL) r->how->after_step(r->how->user, (int)r->done, (int)r->passes, r->latent);
}

static int refine_span(run *r, int64_t first, int64_t frames)
{
    const swm_refinement *how = r->how;
    int64_t count = r->shape.channels * frames * r->shape.height * r->shape.width;
    read_span(r, first, frames);
    how->noise(how->user, first, frames, r->other);
    add_noise(how, r->x, r->other, count);
    for (int i = 0; i < how->steps; i++) {
        if (forward(r, first, frames, how->sigmas[i], false) != 0) return -1;
        take_step(how, r->x, r->other, count, how->sigmas[i], how->sigmas[i + 1]);
        write_span(r, first, frames);
        report(r);
    }
    if (!how->history || how->block == 0 || first + frames == r->shape.frames) return 0;
    if (forward(r, first, frames, 0, true) != 0) return -1;
    report(r);
    return 0;
}

static int64_t block_of(const swm_refinement *how, int64_t frames)
{
    return how->block > 0 ? swm_min(how->block, frames - 1) : frames - 1;
}

int64_t swm_refinement_passes(const swm_refinement *how, int64_t frames)
{
    if (frames < 2) return 0;
    int64_t blocks = swm_divide_up(frames - 1, block_of(how, frames));
    return 1 + blocks * how->steps + (how->history ? blocks - 1 : 0);
}

static int check(const swm_refinement *how, swm_latent_shape shape, swm_error *error)
{
    if (shape.frames < 2)
        return swm_fail(error,
                        "a latent of %lld frames cannot be refined: the first one is the given picture, so 2 or more "
                        "are needed",
                        (long long)shape.frames);
    if (how->steps < 1 || how->steps > SWM_REFINE_MAX_STEPS)
        return swm_fail(error, "%d steps of refinement were asked for; 1 to %d are possible", how->steps,
                        SWM_REFINE_MAX_STEPS);
    if (how->block < 0)
        return swm_fail(error, "refinement in blocks of %lld frames; expected 1 or more, or 0 for all at once",
                        (long long)how->block);
    bool good = how->sigmas[0] <= 1 && !(how->sigmas[how->steps] > 0) && !(how->sigmas[how->steps] < 0);
    for (int i = 0; i < how->steps; i++) good = good && how->sigmas[i] > how->sigmas[i + 1];
    return good ? 0 : swm_fail(error, "the sigmas of a refinement must fall from at most 1 to 0");
}

int swm_refine(const swm_refinement *how, swm_latent_shape shape, float *latent, swm_error *error)
{
    if (check(how, shape, error) != 0) return -1;
    int64_t block = block_of(how, shape.frames);
    size_t count = (size_t)(shape.channels * block * shape.height * shape.width);
    run r = {.how = how, .shape = shape, .latent = latent, .error = error};
    r.x = swm_allocate(error, 2 * count, sizeof(float));
    if (r.x == NULL) return -1;
    r.other = r.x + count;
    r.passes = swm_refinement_passes(how, shape.frames);
    read_span(&r, 0, 1);
    for (size_t i = 0; i < count / (size_t)block; i++) r.x[i] = rounded(how, r.x[i]);
    int result = forward(&r, 0, 1, 0, true);
    if (result == 0) report(&r);
    for (int64_t first = 1; result == 0 && first < shape.frames; first += block)
        result = refine_span(&r, first, swm_min(block, shape.frames - first));
    free(r.x);
    return result;
}

/* ---- noise -------------------------------------------------------------------------------------------------------- */

void swm_refine_draw(swm_refine_source *source, int64_t first, int64_t frames, float *noise)
{
    int64_t cells = source->height * source->width;
    if (!source->by_frame) {
        swm_generator_normal(&source->generator, noise, source->channels * frames * cells);
        return;
    }
    for (int64_t f = 0; f < frames; f++)
        swm_frame_normal(source->generator.seed, first + f, noise + f * cells, source->channels, cells, frames * cells);
}
