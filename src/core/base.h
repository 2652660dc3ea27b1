/* Ground floor of the library: error text, element types and their conversions, checked allocation, the clock.
 * Owns no state. Everything above includes it; it includes nothing of ours.
 *
 * One convention for failure in the whole tree: functions return 0 for success and -1 for failure (pointers: NULL)
 * and leave a sentence in a swm_error that says what was found, what was expected, and what to do about it.
 * The library never prints and never exits. A programmer's error (a shape that cannot be) aborts through SWM_REQUIRE. */
#ifndef SWM_BASE_H
#define SWM_BASE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* The first failure of an operation, as one line of text without a newline. Initialise with {0}. */
typedef struct swm_error {
    char text[1024];
} swm_error;

/* Record a failure and return -1. Only the first failure is kept: later ones are its consequences.
 * `error` may be NULL when the caller does not want the text. Control characters in the text are replaced, so that a
 * hostile file name or string cannot write to a terminal. */
int swm_fail(swm_error *error, const char *format, ...) __attribute__((format(printf, 2, 3)));

static inline bool swm_failed(const swm_error *error) { return error->text[0] != '\0'; }

/* Abort with file, line and a message when a condition that only a bug can break does not hold. */
#define SWM_REQUIRE(condition, ...)                                                                                    \
    do {                                                                                                               \
        if (!(condition)) swm_abort(__FILE__, __LINE__, #condition, __VA_ARGS__);                                      \
    } while (0)
_Noreturn void swm_abort(const char *file, int line, const char *condition, const char *format, ...)
    __attribute__((format(printf, 4, 5)));

/* Element types of tensors, in memory and in files. */
typedef enum swm_dtype {
    SWM_F32,
    SWM_BF16,
    SWM_F16,
    SWM_F64,
    SWM_I64,
    SWM_I32,
    SWM_I16,
    SWM_I8,
    SWM_U8,
    SWM_BOOL,
    SWM_DTYPE_COUNT
} swm_dtype;

size_t swm_dtype_size(swm_dtype dtype);      /* bytes an element */
const char *swm_dtype_name(swm_dtype dtype); /* "F32", "BF16", ... as safetensors spells them */

/* Round to nearest even, as the reference does; NaN stays NaN. */
uint16_t swm_f32_to_bf16(float value);
float swm_bf16_to_f32(uint16_t bits);
float swm_f16_to_f32(uint16_t bits);
uint16_t swm_f32_to_f16(float value);

/* Convert `count` elements of any dtype at `source` to floats. */
void swm_to_f32(float *restrict destination, const void *restrict source, swm_dtype dtype, size_t count);
/* Convert floats to F32, BF16 or F16. */
void swm_from_f32(void *restrict destination, swm_dtype dtype, const float *restrict source, size_t count);

/* Zeroed memory for count x size bytes; NULL with a message in `error` when there is none. Free with free(). */
void *swm_allocate(swm_error *error, size_t count, size_t size);
char *swm_copy_string(swm_error *error, const char *text);
/* printf into fresh memory; NULL with a message when there is none. */
char *swm_format(swm_error *error, const char *format, ...) __attribute__((format(printf, 2, 3)));

double swm_seconds(void); /* monotonic clock */

static inline int64_t swm_min(int64_t a, int64_t b) { return a < b ? a : b; }
static inline int64_t swm_max(int64_t a, int64_t b) { return a > b ? a : b; }
static inline uint8_t swm_clamp_byte(int value) { return (uint8_t)(value < 0 ? 0 : value > 255 ? 255 : value); }
static inline int64_t swm_divide_up(int64_t a, int64_t b) { return (a + b - 1) / b; }

#endif
