/* Low-rank adapters: a file of pairs B (out,r), A (r,in) that say how a trained weight W (out,in) differs from the base
 * that lies on disk, W = base + strength * alpha/r * B A. Owns the names, the checks and the product. The merged weights
 * belong to the swm_weights that they are merged into.
 *
 * A file is safetensors with the keys
 *   <prefix><module>.lora_A.weight, <prefix><module>.lora_B.weight, and if the factor is not 1, <prefix><module>.alpha
 * where <prefix> is "diffusion_model." (modules as the LTX files name them, e.g. patchify_proj) or "transformer." or
 * nothing (modules as diffusers names them, e.g. proj_in). Without alpha, alpha is the rank. */
#ifndef SWM_LORA_H
#define SWM_LORA_H

#include "io/weights.h"

typedef struct swm_lora_summary {
    size_t merged;      /* weights that are different now */
    size_t skipped;     /* pairs for modules that the base lacks or `only` does not ask for */
    int64_t parameters; /* of the merged weights: what they take in memory, times the size of an element */
    int64_t rank;       /* the largest of the merged pairs */
} swm_lora_summary;

/* Merge the adapter at `path` into `weights`, in place. The sum is taken in float32 and rounded once to the type of the
 * file's weight. Call it between opening and binding: tensors that were bound or found before keep seeing the base.
 *
 * `only`, if not NULL, names the weights that the model will bind (as swm_refiner_declare fills them in); other pairs are
 * skipped, and cost neither time nor memory. Merged weights are no longer the mapped file but memory of their own: the
 * video stream's linear layers of LTX-2 take 26 GB of it, until swm_weights_close.
 *
 * `strength` is any finite number, 1 as a rule. `threads` 0: as many as the machine has; the result does not depend on
 * it. `summary` may be NULL. From here on the fingerprint of `weights` covers the adapter and its strength. Adapters may
 * be merged one after the other.
 *
 * Failures: a file that is no adapter, half a pair, sizes that do not fit each other or the base's weight, and an adapter
 * of which nothing fits; all this is found before anything is merged. Results that are not finite. `weights` are as they
 * were. */
int swm_lora_merge(swm_weights *weights, const char *path, double strength, const swm_weights *only, int threads,
                   swm_lora_summary *summary, swm_error *error);

#endif
