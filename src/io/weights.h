/* The tensors of one model by name, wherever they come from: safetensors (whole or in shards), torch checkpoints, or
 * mere declarations of shapes for planning. Owns the open files and the lookup; what a name means, the models know.
 *
 * Usage: open once, bind every tensor into a typed struct, keep the swm_weights open as long as the struct is used. */
#ifndef SWM_WEIGHTS_H
#define SWM_WEIGHTS_H

#include "core/tensor.h"

typedef struct swm_weights swm_weights;

/* Open `path`, which is one of
 *   a .safetensors file;
 *   a .safetensors.index.json file whose weight_map names shards beside it: exactly the tensors listed there are seen;
 *   a directory with diffusion_pytorch_model.safetensors or model.safetensors (or either with .index.json), or else
 *   with exactly one .safetensors file;
 *   a .pt or .pth checkpoint (io/torch_pt.h says which tensors of it are seen).
 * Files are mapped, so this is quick for files of any size. Links are followed. NULL on failure. */
swm_weights *swm_weights_open(const char *path, swm_error *error);
/* The same, seeing only tensors whose name begins with `prefix`, and those without it. None is a failure. */
swm_weights *swm_weights_open_prefixed(const char *path, const char *prefix, swm_error *error);

/* No tensors yet; declare them one by one. Declared tensors have NULL data. A name may be declared once, with rank 1 to
 * SWM_MAX_RANK and sizes >= 0. Declaring invalidates the pointers that at and find have handed out. */
swm_weights *swm_weights_declared(swm_error *error);
int swm_weights_declare(swm_weights *weights, const char *name, swm_dtype dtype, int rank, const int64_t *shape,
                        swm_error *error);

void swm_weights_close(swm_weights *weights); /* NULL is fine; invalidates every tensor and name handed out */

const char *swm_weights_path(const swm_weights *weights); /* the file that was opened; "(declared)" without one */
size_t swm_weights_count(const swm_weights *weights);
int64_t swm_weights_parameters(const swm_weights *weights); /* elements over all tensors */

/* Tensors in the order of their names (strcmp), index < count. The data is read-only, contiguous, aligned to the size
 * of its element and valid until close. `name` may be NULL. */
const swm_tensor *swm_weights_at(const swm_weights *weights, size_t index, const char **name);
const swm_tensor *swm_weights_find(const swm_weights *weights, const char *name); /* NULL if absent */

/* Look up a tensor that a model needs: name_format and what follows make its name, the element type must be F32, F16 or
 * BF16, and the shape must be `shape`, where -1 accepts any size. Dimensions of size 1 may be there or not: a stored
 * (2240,128,1,1,1) binds as (2240,128). *out has the requested rank and keeps the file's element type. The message of a
 * failure names file, tensor, what was found and what was expected. */
int swm_weights_bind(const swm_weights *weights, swm_tensor *out, swm_error *error, int rank, const int64_t *shape,
                     const char *name_format, ...) __attribute__((format(printf, 6, 7)));

/* Weights that are computed once from those of a file (io/lora.h) take their place in two calls, before anything is bound
 * or found: sign with a line of text that tells their origin, which becomes part of the fingerprint, then replace each
 * tensor's data by memory from swm_allocate of the same type and shape. The memory becomes the weights'. The name must
 * be there. Signing fails for want of memory only. */
int swm_weights_sign(swm_weights *weights, const char *text, swm_error *error);
void swm_weights_replace(swm_weights *weights, const char *name, void *data);

/* SHA-256 in hexadecimal, quick to make: over every file, the index included, in the order of their names: its size as
 * 8 little-endian bytes, then its header if it is a safetensors file or its first MiB, then its last MiB; then the lines
 * that the weights were signed with. It tells versions of a model apart; it is no checksum of all bytes. Fails for
 * declared weights. */
int swm_weights_fingerprint(const swm_weights *weights, char hex[65], swm_error *error);

#endif
