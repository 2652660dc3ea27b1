/* One walk over the tensors of a model by name, for two purposes: looking each up in a file, or declaring each with its
 * shape alone. A model writes down its names and shapes once, as calls of the visits below. Owns nothing but the walk. */
#ifndef SWM_BINDING_H
#define SWM_BINDING_H

#include "io/weights.h"

/* Start with .weights, .error and, to declare instead of bind, .declare and .dtype. */
typedef struct swm_binding {
    const swm_weights *weights; /* looked up in; NULL when declaring */
    swm_weights *declare;       /* NULL: bind */
    swm_dtype dtype;            /* of declared tensors */
    char prefix[64];            /* of every name, e.g. "blocks.3." */
    swm_error *error;
    int result; /* -1 from the first failure on; later visits then do nothing */
} swm_binding;

/* Set the prefix; printf-style. */
void swm_binding_prefix(swm_binding *k, const char *format, ...) __attribute__((format(printf, 2, 3)));
/* Bind `slot` to, or declare, the tensor <prefix><name> of this shape. A slot that is declared stays as it is. */
void swm_visit(swm_binding *k, swm_tensor *slot, const char *name, int rank, const int64_t *shape);
#define SWM_VISIT(k, slot, name, ...)                                                                                  \
    swm_visit(k, slot, name, (int)(sizeof((int64_t[]){__VA_ARGS__}) / sizeof(int64_t)), (int64_t[]){__VA_ARGS__})
/* "name.weight" (out,in) and "name.bias" (out) */
void swm_visit_affine(swm_binding *k, swm_affine *slot, const char *name, int64_t out, int64_t in);

#endif
