/* Checkpoints of torch.save (.pt, .pth): a zip archive of stored entries, one pickle that describes the
 * objects and one entry per storage. Owns the mapping of one file and a data-only reading of the pickle.
 *
 * The pickle is never executed: opcodes and globals come from closed lists (dicts, OrderedDict, lists, tuples, numbers,
 * strings, tensors, parameters and torch.Size), and anything else is an error that names it. */
#ifndef SWM_TORCH_PT_H
#define SWM_TORCH_PT_H

#include "core/tensor.h"

typedef struct swm_torch_pt swm_torch_pt;

/* Map a file read-only and list its tensors. Names are the keys of nested dicts joined by dots. Of the top level, the
 * dict under `generator` is taken if there is one; of that, the dict under `state_dict` as it is, or else everything
 * with one leading "model." taken off the names that have it. Whatever is no tensor is skipped. Checksums are not
 * verified: that would read the whole file. NULL on failure. */
swm_torch_pt *swm_torch_pt_open(const char *path, swm_error *error);

/* The same over memory, which stays the caller's and must outlive the result. Messages say `label` for the path. */
swm_torch_pt *swm_torch_pt_open_memory(const void *data, size_t size, const char *label, swm_error *error);

void swm_torch_pt_close(swm_torch_pt *file); /* NULL is fine; invalidates every tensor and name handed out */

size_t swm_torch_pt_count(const swm_torch_pt *file);

/* Tensors in the order of their names (strcmp), index < count. A scalar has shape {1}. The data is
 * read-only, valid until close, contiguous and aligned to the size of its element: what is not so in the file is
 * copied. `name` may be NULL. */
const swm_tensor *swm_torch_pt_at(const swm_torch_pt *file, size_t index, const char **name);

#endif
