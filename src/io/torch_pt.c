/* Implements io/torch_pt.h: first the pickle machine, then the list of tensors. The archive is io/torch_zip.h's. */
#include "io/torch_pt.h"

#include "core/file.h"
#include "io/torch_zip.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
    MAX_PICKLE = 8 << 20,  /* bytes; a state dict of a thousand tensors has 0.2 MB */
    MAX_VISITS = 1 << 18,  /* dict items looked at: shared dicts make a small pickle stand for a huge tree */
    MAX_DEPTH = 32,        /* of nested dicts; also ends cycles */
    MAX_NAME = 1024,       /* bytes of a dotted name, with its NUL */
    MAX_STORAGE_KEY = 128, /* torch counts storages: "0", "1", ... */
};

struct entry {
    char *name;
    swm_tensor tensor;
    void *copy; /* of a tensor that could not be a view; NULL for most */
};

struct swm_torch_pt {
    char *label;         /* path or the caller's label, for messages */
    swm_mapping mapping; /* size 0 when the memory is the caller's */
    swm_torch_zip zip;
    struct entry *entries; /* sorted by name once open */
    size_t count, capacity;
    uint64_t copied; /* bytes of all copies, at most the size of the file */
};

/* ---- The pickle machine ---- */

enum kind {
    MARK,   /* only value 0: what the MARK opcode leaves on the stack */
    OPAQUE, /* None, bool, float, an integer beyond 64 bits: never looked into */
    INTEGER,
    TEXT,
    TUPLE,
    LIST,
    DICT,
    GLOBAL,
    STORAGE,
    TENSOR
};

enum callable { ORDERED_DICT, REBUILD_TENSOR, REBUILD_PARAMETER, SIZE, STORAGE_TYPE };

/* Everything that a pickle may name. */
static const struct global {
    const char *module, *name;
    enum callable callable;
    swm_dtype dtype; /* of a STORAGE_TYPE */
} globals[] = {
    {"collections", "OrderedDict", ORDERED_DICT, 0},
    {"torch._utils", "_rebuild_tensor_v2", REBUILD_TENSOR, 0},
    {"torch._utils", "_rebuild_parameter", REBUILD_PARAMETER, 0},
    {"torch", "Size", SIZE, 0},
    {"torch", "FloatStorage", STORAGE_TYPE, SWM_F32},
    {"torch", "HalfStorage", STORAGE_TYPE, SWM_F16},
    {"torch", "BFloat16Storage", STORAGE_TYPE, SWM_BF16},
    {"torch", "DoubleStorage", STORAGE_TYPE, SWM_F64},
    {"torch", "LongStorage", STORAGE_TYPE, SWM_I64},
    {"torch", "IntStorage", STORAGE_TYPE, SWM_I32},
    {"torch", "ShortStorage", STORAGE_TYPE, SWM_I16},
    {"torch", "CharStorage", STORAGE_TYPE, SWM_I8},
    {"torch", "ByteStorage", STORAGE_TYPE, SWM_U8},
    {"torch", "BoolStorage", STORAGE_TYPE, SWM_BOOL},
};

/* A tensor as torch describes it: elements offset + sum(index * stride) of a storage. */
struct strided {
    const uint8_t *base; /* of the storage */
    int64_t available;   /* elements of the storage */
    swm_dtype dtype;
    int rank;
    int64_t offset, shape[SWM_MAX_RANK], stride[SWM_MAX_RANK];
};

struct value {
    enum kind kind;
    union {
        int64_t integer;
        struct {
            const char *bytes; /* in the pickle, no NUL */
            size_t size;
        } text;
        struct {
            uint32_t first, last, count; /* chain of struct item; index 0 ends it */
        } items;
        const struct global *global;
        struct {
            const uint8_t *base;
            int64_t count; /* elements */
            swm_dtype dtype;
        } storage;
        uint32_t tensor; /* index into the tensors */
    };
};

struct item {
    uint32_t key, value, next; /* key is unused in tuples and lists */
};

/* An opcode is a byte at least and makes at most one value, item or stack slot more than it consumed, so arrays as long
 * as the pickle never run over; each is checked all the same. Value and item 0 are reserved. */
struct machine {
    const swm_torch_pt *file;
    const char *prefix; /* of the archive's entries, with its slash; prefix_size bytes */
    size_t prefix_size;
    const uint8_t *cursor, *end;
    size_t limit; /* of each array */
    struct value *values;
    struct item *items;
    struct strided *tensors;
    uint32_t *stack, *memo;
    size_t value_count, item_count, tensor_count, tensor_capacity, depth;
};

static int damaged(const struct machine *m, const char *what, swm_error *error)
{
    return swm_fail(error, "%s: damaged pickle: %s (%td bytes before its end)", m->file->label, what,
                    m->end - m->cursor);
}

static const uint8_t *take(struct machine *m, uint64_t count, swm_error *error)
{
    if (count > (uint64_t)(m->end - m->cursor)) {
        damaged(m, "it ends in the middle of an opcode", error);
        return NULL;
    }
    m->cursor += count;
    return m->cursor - count;
}

static int push(struct machine *m, uint32_t value, swm_error *error)
{
    if (m->depth == m->limit) return damaged(m, "its stack grows too deep", error);
    m->stack[m->depth++] = value;
    return 0;
}

static struct value *push_new(struct machine *m, enum kind kind, swm_error *error)
{
    if (m->value_count == m->limit) {
        damaged(m, "it has too many objects", error);
        return NULL;
    }
    if (push(m, (uint32_t)m->value_count, error) != 0) return NULL;
    m->values[m->value_count].kind = kind;
    return &m->values[m->value_count++];
}

static int push_empty(struct machine *m, enum kind kind, swm_error *error)
{
    return push_new(m, kind, error) == NULL ? -1 : 0;
}

static int push_integer(struct machine *m, int64_t integer, swm_error *error)
{
    struct value *value = push_new(m, INTEGER, error);
    if (value == NULL) return -1;
    value->integer = integer;
    return 0;
}

static int push_text(struct machine *m, uint64_t size, swm_error *error)
{
    const uint8_t *bytes = take(m, size, error);
    struct value *value = bytes == NULL ? NULL : push_new(m, TEXT, error);
    if (value == NULL) return -1;
    value->text.bytes = (const char *)bytes;
    value->text.size = (size_t)size;
    return 0;
}

/* The topmost value, which must not be a mark; 0 with a message if it is or the stack is empty. */
static uint32_t pop(struct machine *m, swm_error *error)
{
    if (m->depth > 0 && m->stack[m->depth - 1] != 0) return m->stack[--m->depth];
    damaged(m, "its stack runs empty", error);
    return 0;
}

/* Stack index of the first value above the topmost mark, into *first. */
static int find_mark(const struct machine *m, size_t *first, swm_error *error)
{
    for (*first = m->depth; *first > 0; --*first)
        if (m->stack[*first - 1] == 0) return 0;
    return damaged(m, "it lacks a mark", error);
}

static int append(struct machine *m, uint32_t container, uint32_t key, uint32_t value, swm_error *error)
{
    if (m->item_count == m->limit) return damaged(m, "it has too many items", error);
    uint32_t index = (uint32_t)m->item_count++;
    m->items[index] = (struct item){.key = key, .value = value};
    struct value *target = &m->values[container];
    if (target->items.count++ == 0)
        target->items.first = index;
    else
        m->items[target->items.last].next = index;
    target->items.last = index;
    return 0;
}

/* A tuple of the stack's values from `first` on, in their place and that of `marks` marks below them. */
static int make_tuple(struct machine *m, size_t first, size_t marks, swm_error *error)
{
    size_t end = m->depth;
    for (size_t i = first; i < end; i++)
        if (m->stack[i] == 0) return damaged(m, "a tuple spans a mark", error);
    if (m->value_count == m->limit) return damaged(m, "it has too many objects", error);
    uint32_t tuple = (uint32_t)m->value_count++;
    m->values[tuple].kind = TUPLE;
    for (size_t i = first; i < end; i++)
        if (append(m, tuple, 0, m->stack[i], error) != 0) return -1;
    m->depth = first - marks;
    return push(m, tuple, error);
}

static int make_short_tuple(struct machine *m, size_t count, swm_error *error)
{
    if (m->depth < count) return damaged(m, "its stack runs empty", error);
    return make_tuple(m, m->depth - count, 0, error);
}

/* Move the stack's values from `first` on into the list or dict below them and `marks` marks. */
static int extend(struct machine *m, size_t first, size_t marks, enum kind kind, swm_error *error)
{
    if (first < marks + 1) return damaged(m, "items without a container", error);
    uint32_t container = m->stack[first - marks - 1];
    size_t step = kind == DICT ? 2 : 1;
    if (m->values[container].kind != kind || (m->depth - first) % step != 0)
        return damaged(m, "items do not fit their container", error);
    for (size_t i = first; i < m->depth; i += step) {
        uint32_t key = m->stack[i], value = m->stack[i + step - 1];
        if (key == 0 || value == 0) return damaged(m, "an item is a mark", error);
        if (append(m, container, key, value, error) != 0) return -1;
    }
    m->depth = first - marks;
    return 0;
}

/* One item without a mark. */
static int extend_short(struct machine *m, enum kind kind, swm_error *error)
{
    size_t size = kind == DICT ? 2 : 1;
    if (m->depth < size) return damaged(m, "its stack runs empty", error);
    return extend(m, m->depth - size, 0, kind, error);
}

static int extend_marked(struct machine *m, enum kind kind, swm_error *error)
{
    size_t first = 0;
    return find_mark(m, &first, error) == 0 ? extend(m, first, 1, kind, error) : -1;
}

/* Up to `limit` items of a tuple into `out`; returns how many the tuple has, or -1 when the value is no tuple. */
static int64_t tuple_items(const struct machine *m, uint32_t tuple, uint32_t *out, int limit)
{
    if (m->values[tuple].kind != TUPLE) return -1;
    uint32_t index = m->values[tuple].items.first;
    for (int i = 0; i < limit && index != 0; i++, index = m->items[index].next) out[i] = m->items[index].value;
    return m->values[tuple].items.count;
}

static int load_global(struct machine *m, swm_error *error)
{
    const char *line[2];
    size_t size[2];
    for (int i = 0; i < 2; i++) {
        const uint8_t *newline = memchr(m->cursor, '\n', (size_t)(m->end - m->cursor));
        if (newline == NULL) return damaged(m, "it ends in the middle of an opcode", error);
        line[i] = (const char *)m->cursor;
        size[i] = (size_t)(newline - m->cursor);
        m->cursor = newline + 1;
    }
    for (size_t i = 0; i < sizeof globals / sizeof *globals; i++) {
        const struct global *global = &globals[i];
        if (size[0] != strlen(global->module) || memcmp(line[0], global->module, size[0]) != 0 ||
            size[1] != strlen(global->name) || memcmp(line[1], global->name, size[1]) != 0)
            continue;
        struct value *value = push_new(m, GLOBAL, error);
        if (value == NULL) return -1;
        value->global = global;
        return 0;
    }
    return swm_fail(error, "%s: the pickle uses %.*s.%.*s, which is no plain data; save a state dict of tensors",
                    m->file->label, (int)swm_min((int64_t)size[0], 64), line[0], (int)swm_min((int64_t)size[1], 64),
                    line[1]);
}

/* ("storage", <storage type>, key, location, elements) stands for the archive's entry data/<key>. */
static int load_storage(struct machine *m, swm_error *error)
{
    uint32_t id = pop(m, error), part[5];
    if (id == 0) return -1;
    if (tuple_items(m, id, part, 5) != 5) return damaged(m, "a persistent id is no storage", error);
    const struct value *word = &m->values[part[0]], *type = &m->values[part[1]], *key = &m->values[part[2]],
                       *count = &m->values[part[4]];
    if (word->kind != TEXT || word->text.size != 7 || memcmp(word->text.bytes, "storage", 7) != 0 ||
        type->kind != GLOBAL || type->global->callable != STORAGE_TYPE || key->kind != TEXT ||
        key->text.size > MAX_STORAGE_KEY || count->kind != INTEGER || count->integer < 0)
        return damaged(m, "a persistent id is no storage", error);
    char suffix[MAX_STORAGE_KEY + 8];
    snprintf(suffix, sizeof suffix, "data/%.*s", (int)key->text.size, key->text.bytes);
    const swm_torch_zip_entry *entry = swm_torch_zip_find(&m->file->zip, m->prefix, m->prefix_size, suffix);
    if (entry == NULL) return swm_fail(error, "%s: storage %s is missing in the archive", m->file->label, suffix);
    swm_dtype dtype = type->global->dtype;
    if ((uint64_t)count->integer > entry->size / swm_dtype_size(dtype))
        return swm_fail(error, "%s: storage %s of %" PRId64 " %s elements has only %" PRIu64 " bytes", m->file->label,
                        suffix, count->integer, swm_dtype_name(dtype), entry->size);
    struct value *value = push_new(m, STORAGE, error);
    if (value == NULL) return -1;
    value->storage.base = m->file->zip.data + entry->data;
    value->storage.count = count->integer;
    value->storage.dtype = dtype;
    return 0;
}

/* A tuple of non-negative integers as a shape or as strides; returns its length or -1. */
static int read_sizes(const struct machine *m, uint32_t tuple, int64_t *sizes)
{
    uint32_t items[SWM_MAX_RANK];
    int64_t count = tuple_items(m, tuple, items, SWM_MAX_RANK);
    if (count < 0 || count > SWM_MAX_RANK) return -1;
    for (int i = 0; i < (int)count; i++) {
        const struct value *value = &m->values[items[i]];
        if (value->kind != INTEGER || value->integer < 0 || value->integer > INT64_C(1) << 53) return -1;
        sizes[i] = value->integer;
    }
    return (int)count;
}

/* Whether every element lies in the storage and the size in bytes is a number. */
static bool fits_storage(const struct strided *tensor)
{
    int64_t bytes = (int64_t)swm_dtype_size(tensor->dtype), last = tensor->offset;
    bool empty = false;
    for (int i = 0; i < tensor->rank; i++) {
        int64_t size = tensor->shape[i], reach = 0;
        if (__builtin_mul_overflow(bytes, swm_max(size, 1), &bytes) ||
            __builtin_mul_overflow(swm_max(size, 1) - 1, tensor->stride[i], &reach) ||
            __builtin_add_overflow(last, reach, &last))
            return false;
        empty = empty || size == 0;
    }
    return empty ? tensor->offset <= tensor->available : last < tensor->available;
}

static struct strided *new_tensor(struct machine *m, swm_error *error)
{
    if (m->tensor_count == m->tensor_capacity) {
        size_t capacity = m->tensor_capacity * 2 + 64;
        struct strided *grown = realloc(m->tensors, capacity * sizeof *grown);
        if (grown == NULL) {
            swm_fail(error, "%s: out of memory for %zu tensors", m->file->label, capacity);
            return NULL;
        }
        m->tensors = grown;
        m->tensor_capacity = capacity;
    }
    struct strided *tensor = &m->tensors[m->tensor_count++];
    *tensor = (struct strided){0};
    return tensor;
}

/* _rebuild_tensor_v2(storage, offset, shape, strides, requires_grad, hooks[, metadata]) */
static int rebuild_tensor(struct machine *m, uint32_t arguments, swm_error *error)
{
    uint32_t part[4];
    int64_t count = tuple_items(m, arguments, part, 4);
    if (count < 6 || count > 7 || m->values[part[0]].kind != STORAGE || m->values[part[1]].kind != INTEGER)
        return damaged(m, "a tensor is described wrongly", error);
    const struct value *storage = &m->values[part[0]];
    struct strided *tensor = new_tensor(m, error);
    if (tensor == NULL) return -1;
    tensor->base = storage->storage.base;
    tensor->available = storage->storage.count;
    tensor->dtype = storage->storage.dtype;
    tensor->offset = m->values[part[1]].integer;
    tensor->rank = read_sizes(m, part[2], tensor->shape);
    if (tensor->rank < 0 || tensor->offset < 0 || read_sizes(m, part[3], tensor->stride) != tensor->rank)
        return swm_fail(error, "%s: a tensor has a shape or strides that are not up to %d sizes, equally many",
                        m->file->label, SWM_MAX_RANK);
    if (tensor->rank == 0) tensor->shape[tensor->rank++] = 1;
    if (!fits_storage(tensor))
        return swm_fail(
            error, "%s: a tensor of shape %s at offset %" PRId64 " does not fit its storage of %" PRId64 " elements",
            m->file->label, swm_describe(swm_tensor_make(tensor->dtype, NULL, tensor->rank, tensor->shape)).text,
            tensor->offset, tensor->available);
    struct value *value = push_new(m, TENSOR, error);
    if (value == NULL) return -1;
    value->tensor = (uint32_t)(m->tensor_count - 1);
    return 0;
}

/* Call a global with a tuple of arguments: only constructors of plain data exist. */
static int reduce(struct machine *m, swm_error *error)
{
    uint32_t arguments = pop(m, error), function = arguments == 0 ? 0 : pop(m, error), part[1] = {0};
    if (function == 0) return -1;
    int64_t count = tuple_items(m, arguments, part, 1);
    if (m->values[function].kind != GLOBAL || count < 0) return damaged(m, "a call of what is no function", error);
    const struct global *global = m->values[function].global;
    switch (global->callable) {
    case ORDERED_DICT:
        if (count == 0) return push_empty(m, DICT, error);
        break;
    case REBUILD_TENSOR: return rebuild_tensor(m, arguments, error);
    case REBUILD_PARAMETER: /* (tensor, requires_grad, hooks) */
        if (count == 3 && m->values[part[0]].kind == TENSOR) return push(m, part[0], error);
        break;
    case SIZE:
        if (count == 1 && m->values[part[0]].kind == TUPLE) return push(m, part[0], error);
        break;
    case STORAGE_TYPE: break;
    }
    return swm_fail(error, "%s: damaged pickle: %s.%s is called with unknown arguments", m->file->label, global->module,
                    global->name);
}

/* BUILD sets attributes: a state dict of a module carries version numbers so. Nothing of ours reads them. */
static int build(struct machine *m, swm_error *error)
{
    if (pop(m, error) == 0) return -1;
    if (m->depth == 0 || m->values[m->stack[m->depth - 1]].kind != DICT)
        return damaged(m, "attributes of what is no dict", error);
    return 0;
}

static int put_memo(struct machine *m, uint64_t index, swm_error *error)
{
    if (m->depth == 0 || m->stack[m->depth - 1] == 0) return damaged(m, "its stack runs empty", error);
    if (index >= m->limit) return damaged(m, "a memo index beyond the number of its objects", error);
    m->memo[index] = m->stack[m->depth - 1];
    return 0;
}

static int get_memo(struct machine *m, uint64_t index, swm_error *error)
{
    if (index >= m->limit || m->memo[index] == 0) return damaged(m, "it recalls what it never kept", error);
    return push(m, m->memo[index], error);
}

/* A signed little-endian integer of `size` bytes. */
static int load_long(struct machine *m, uint64_t size, swm_error *error)
{
    const uint8_t *bytes = take(m, size, error);
    if (bytes == NULL) return -1;
    if (size > sizeof(int64_t)) return push_empty(m, OPAQUE, error);
    uint64_t value = swm_little_endian(bytes, (int)size);
    if (size > 0 && size < sizeof value && bytes[size - 1] >> 7 != 0) value |= UINT64_MAX << 8 * size;
    return push_integer(m, (int64_t)value, error);
}

/* Everything that a pickle may do, under Python's names. clang-format would put one on a line. */
/* clang-format off */
enum opcode {
    OP_MARK = '(', OP_STOP = '.', OP_BINFLOAT = 'G', OP_BININT = 'J', OP_BININT1 = 'K', OP_BININT2 = 'M',
    OP_NONE = 'N', OP_BINPERSID = 'Q', OP_REDUCE = 'R', OP_BINSTRING = 'T', OP_SHORT_BINSTRING = 'U',
    OP_BINUNICODE = 'X', OP_APPEND = 'a', OP_BUILD = 'b', OP_GLOBAL = 'c', OP_APPENDS = 'e', OP_BINGET = 'h',
    OP_LONG_BINGET = 'j', OP_BINPUT = 'q', OP_LONG_BINPUT = 'r', OP_SETITEM = 's', OP_TUPLE = 't', OP_SETITEMS = 'u',
    OP_EMPTY_TUPLE = ')', OP_EMPTY_LIST = ']', OP_EMPTY_DICT = '}', OP_PROTO = 0x80, OP_TUPLE1 = 0x85,
    OP_TUPLE2 = 0x86, OP_TUPLE3 = 0x87, OP_NEWTRUE = 0x88, OP_NEWFALSE = 0x89, OP_LONG1 = 0x8a
};
/* clang-format on */

/* Bytes of the number that follows an opcode. */
static int operand_size(uint8_t opcode)
{
    switch (opcode) {
    case OP_BININT1:
    case OP_SHORT_BINSTRING:
    case OP_BINGET:
    case OP_BINPUT:
    case OP_PROTO:
    case OP_LONG1: return 1;
    case OP_BININT2: return 2;
    case OP_BININT:
    case OP_BINSTRING:
    case OP_BINUNICODE:
    case OP_LONG_BINGET:
    case OP_LONG_BINPUT: return 4;
    case OP_BINFLOAT: return 8;
    default: return 0;
    }
}

static int run_opcode(struct machine *m, uint8_t opcode, uint64_t operand, swm_error *error)
{
    size_t first = 0;
    switch (opcode) {
    case OP_PROTO:
        if (operand == 2) return 0;
        return swm_fail(error, "%s: pickle protocol %d; expected 2, the default of torch.save", m->file->label,
                        (int)operand);
    case OP_MARK: return push(m, 0, error);
    case OP_NONE:
    case OP_NEWTRUE:
    case OP_NEWFALSE:
    case OP_BINFLOAT: return push_empty(m, OPAQUE, error);
    case OP_EMPTY_TUPLE: return push_empty(m, TUPLE, error);
    case OP_EMPTY_LIST: return push_empty(m, LIST, error);
    case OP_EMPTY_DICT: return push_empty(m, DICT, error);
    case OP_BININT1:
    case OP_BININT2: return push_integer(m, (int64_t)operand, error);
    case OP_BININT: return push_integer(m, (int32_t)(uint32_t)operand, error);
    case OP_LONG1: return load_long(m, operand, error);
    case OP_BINSTRING:
    case OP_SHORT_BINSTRING:
    case OP_BINUNICODE: return push_text(m, operand, error);
    case OP_BINPUT:
    case OP_LONG_BINPUT: return put_memo(m, operand, error);
    case OP_BINGET:
    case OP_LONG_BINGET: return get_memo(m, operand, error);
    case OP_TUPLE: return find_mark(m, &first, error) == 0 ? make_tuple(m, first, 1, error) : -1;
    case OP_TUPLE1: return make_short_tuple(m, 1, error);
    case OP_TUPLE2: return make_short_tuple(m, 2, error);
    case OP_TUPLE3: return make_short_tuple(m, 3, error);
    case OP_APPEND: return extend_short(m, LIST, error);
    case OP_SETITEM: return extend_short(m, DICT, error);
    case OP_APPENDS: return extend_marked(m, LIST, error);
    case OP_SETITEMS: return extend_marked(m, DICT, error);
    case OP_GLOBAL: return load_global(m, error);
    case OP_BINPERSID: return load_storage(m, error);
    case OP_REDUCE: return reduce(m, error);
    case OP_BUILD: return build(m, error);
    default:
        return swm_fail(error, "%s: the pickle uses opcode 0x%02x, which plain data does not need", m->file->label,
                        opcode);
    }
}

/* Run to the STOP opcode; *root is the object the pickle stands for. */
static int run_pickle(struct machine *m, uint32_t *root, swm_error *error)
{
    for (;;) {
        const uint8_t *opcode = take(m, 1, error);
        if (opcode == NULL) return -1;
        if (*opcode == OP_STOP) {
            *root = pop(m, error);
            return *root == 0 ? -1 : 0;
        }
        int size = operand_size(*opcode);
        const uint8_t *operand = take(m, (uint64_t)size, error);
        if (operand == NULL || run_opcode(m, *opcode, swm_little_endian(operand, size), error) != 0) return -1;
    }
}

/* ---- The list of tensors ---- */

static bool contiguous(const struct strided *tensor)
{
    int64_t expected = 1;
    for (int i = tensor->rank - 1; i >= 0; i--) {
        if (tensor->shape[i] != 1 && tensor->stride[i] != expected) return false;
        expected *= swm_max(tensor->shape[i], 1);
    }
    return true;
}

/* The elements of a strided tensor in order, in fresh memory. */
static void *gather(const struct strided *source, int64_t count, swm_error *error)
{
    size_t width = swm_dtype_size(source->dtype);
    uint8_t *copy = swm_allocate(error, (size_t)count, width);
    int64_t index[SWM_MAX_RANK] = {0}, position = source->offset;
    for (int64_t i = 0; copy != NULL && i < count; i++) {
        memcpy(copy + (size_t)i * width, source->base + (size_t)position * width, width);
        for (int d = source->rank - 1; d >= 0; d--) {
            position += source->stride[d];
            if (++index[d] < source->shape[d]) break;
            position -= index[d] * source->stride[d];
            index[d] = 0;
        }
    }
    return copy;
}

static int add_entry(swm_torch_pt *file, const struct strided *source, const char *name, swm_error *error)
{
    if (file->count == file->capacity) {
        size_t capacity = file->capacity * 2 + 64;
        struct entry *grown = realloc(file->entries, capacity * sizeof *grown);
        if (grown == NULL) return swm_fail(error, "%s: out of memory for %zu tensors", file->label, capacity);
        file->entries = grown;
        file->capacity = capacity;
    }
    struct entry *entry = &file->entries[file->count++];
    *entry = (struct entry){.name = swm_copy_string(error, name),
                            .tensor = swm_tensor_make(source->dtype, NULL, source->rank, source->shape)};
    if (entry->name == NULL) return -1;
    size_t width = swm_dtype_size(source->dtype);
    const uint8_t *view = source->base + (size_t)source->offset * width;
    entry->tensor.data = (void *)(uintptr_t)view;
    uint64_t bytes = swm_bytes(entry->tensor);
    if (contiguous(source) && (uintptr_t)view % width == 0) return 0;
    /* Strides of zero let a few bytes stand for any number of elements. */
    if (bytes > (uint64_t)source->available * width || bytes > file->zip.size - file->copied)
        return swm_fail(error,
                        "%s: tensor %s of shape %s expands to %" PRIu64
                        " bytes, more than the file stores; save a contiguous copy",
                        file->label, name, swm_describe(entry->tensor).text, bytes);
    file->copied += bytes;
    entry->copy = entry->tensor.data = gather(source, swm_count(entry->tensor), error);
    return entry->copy == NULL ? -1 : 0;
}

/* Write a key behind the path so far; returns the new length, 0 with a message when it cannot be part of a name. */
static size_t append_key(const swm_torch_pt *file, const struct value *key, char name[MAX_NAME], size_t used,
                         swm_error *error)
{
    char number[24];
    const char *bytes = number;
    size_t size = 0;
    if (key->kind == INTEGER) {
        size = (size_t)snprintf(number, sizeof number, "%" PRId64, key->integer);
    } else {
        bytes = key->text.bytes;
        size = key->text.size;
    }
    if (used > 0) name[used++] = '.';
    if (size + 2 > MAX_NAME - used || memchr(bytes, '\0', size) != NULL) { /* room for the next dot and a NUL */
        swm_fail(error, "%s: a key is longer than %d bytes or has a NUL in it", file->label, MAX_NAME);
        return 0;
    }
    memcpy(name + used, bytes, size);
    name[used + size] = '\0';
    return used + size;
}

/* Add the tensors of a dict, recursively. `name` holds the path so far, `used` bytes. */
static int flatten(const struct machine *m, swm_torch_pt *file, uint32_t dict, char name[MAX_NAME], size_t used,
                   int depth, size_t *visits, swm_error *error)
{
    if (depth == MAX_DEPTH) return swm_fail(error, "%s: its dicts nest deeper than %d", file->label, MAX_DEPTH);
    for (uint32_t i = m->values[dict].items.first; i != 0; i = m->items[i].next) {
        const struct value *key = &m->values[m->items[i].key], *value = &m->values[m->items[i].value];
        if (++*visits > MAX_VISITS)
            return swm_fail(error, "%s: its dicts have more than %d items", file->label, MAX_VISITS);
        if ((value->kind != TENSOR && value->kind != DICT) || (key->kind != TEXT && key->kind != INTEGER)) continue;
        size_t length = append_key(file, key, name, used, error);
        if (length == 0) return swm_fail(error, "%s: a key is empty", file->label);
        int result = value->kind == DICT ? flatten(m, file, m->items[i].value, name, length, depth + 1, visits, error)
                                         : add_entry(file, &m->tensors[value->tensor], name, error);
        if (result != 0) return -1;
    }
    return 0;
}

/* The value of a string key of a dict, the last one as in Python; 0 if absent. */
static uint32_t lookup(const struct machine *m, uint32_t dict, const char *key)
{
    uint32_t found = 0;
    for (uint32_t i = m->values[dict].items.first; i != 0; i = m->items[i].next) {
        const struct value *candidate = &m->values[m->items[i].key];
        if (candidate->kind == TEXT && candidate->text.size == strlen(key) &&
            memcmp(candidate->text.bytes, key, candidate->text.size) == 0)
            found = m->items[i].value;
    }
    return found;
}

static int compare_names(const void *left, const void *right)
{
    return strcmp(((const struct entry *)left)->name, ((const struct entry *)right)->name);
}

static int list_tensors(const struct machine *m, swm_torch_pt *file, uint32_t root, swm_error *error)
{
    if (m->values[root].kind != DICT) return swm_fail(error, "%s: holds no dict of tensors", file->label);
    uint32_t generator = lookup(m, root, "generator");
    if (generator != 0) root = generator;
    uint32_t state = m->values[root].kind == DICT ? lookup(m, root, "state_dict") : 0;
    if (state != 0) root = state;
    if (m->values[root].kind != DICT)
        return swm_fail(error, "%s: its %s is no dict", file->label, state != 0 ? "state_dict" : "generator");
    char name[MAX_NAME] = "";
    size_t visits = 0;
    if (flatten(m, file, root, name, 0, 0, &visits, error) != 0) return -1;
    const size_t prefix = strlen("model.");
    for (size_t i = 0; state == 0 && i < file->count; i++) {
        char *full = file->entries[i].name;
        size_t length = strlen(full);
        if (length >= prefix && memcmp(full, "model.", prefix) == 0) memmove(full, full + prefix, length - prefix + 1);
    }
    if (file->count > 0) qsort(file->entries, file->count, sizeof *file->entries, compare_names);
    for (size_t i = 1; i < file->count; i++)
        if (compare_names(&file->entries[i - 1], &file->entries[i]) == 0)
            return swm_fail(error, "%s: tensor %s is there twice", file->label, file->entries[i].name);
    return 0;
}

/* The only entry <directory>/data.pkl; torch names the directory after the file. */
static const swm_torch_zip_entry *find_pickle(const swm_torch_pt *file, swm_error *error)
{
    static const char suffix[] = "/data.pkl";
    size_t length = sizeof suffix - 1;
    const swm_torch_zip_entry *found = NULL;
    for (size_t i = 0; i < file->zip.count; i++) {
        const swm_torch_zip_entry *entry = &file->zip.entries[i];
        if (entry->name_size <= length || memcmp(entry->name + entry->name_size - length, suffix, length) != 0 ||
            memchr(entry->name, '/', entry->name_size - length) != NULL)
            continue;
        if (found != NULL) {
            swm_fail(error, "%s: has more than one data.pkl", file->label);
            return NULL;
        }
        found = entry;
    }
    if (found != NULL && found->size <= MAX_PICKLE) return found;
    if (found == NULL)
        swm_fail(error, "%s: the zip archive has no data.pkl, so torch.save did not write it", file->label);
    else
        swm_fail(error, "%s: its data.pkl has %" PRIu64 " bytes, more than the %d of any state dict", file->label,
                 found->size, MAX_PICKLE);
    return NULL;
}

static int read_tensors(swm_torch_pt *file, swm_error *error)
{
    const swm_torch_zip_entry *pickle = find_pickle(file, error);
    if (pickle == NULL) return -1;
    struct machine m = {.file = file, .prefix = pickle->name, .prefix_size = pickle->name_size - strlen("data.pkl")};
    const swm_torch_zip_entry *order = swm_torch_zip_find(&file->zip, m.prefix, m.prefix_size, "byteorder");
    if (order != NULL && (order->size != 6 || memcmp(file->zip.data + order->data, "little", 6) != 0))
        return swm_fail(error, "%s: was saved on a big-endian machine; save it again on a little-endian one",
                        file->label);
    m.cursor = file->zip.data + pickle->data;
    m.end = m.cursor + pickle->size;
    m.limit = (size_t)pickle->size + 2;
    m.value_count = m.item_count = 1;
    m.values = swm_allocate(error, m.limit, sizeof *m.values);
    m.items = swm_allocate(error, m.limit, sizeof *m.items);
    m.stack = swm_allocate(error, m.limit, sizeof *m.stack);
    m.memo = swm_allocate(error, m.limit, sizeof *m.memo);
    int result = -1;
    uint32_t root = 0;
    if (m.values != NULL && m.items != NULL && m.stack != NULL && m.memo != NULL && run_pickle(&m, &root, error) == 0)
        result = list_tensors(&m, file, root, error);
    free(m.values);
    free(m.items);
    free(m.stack);
    free(m.memo);
    free(m.tensors);
    return result;
}

swm_torch_pt *swm_torch_pt_open_memory(const void *data, size_t size, const char *label, swm_error *error)
{
    swm_torch_pt *file = swm_allocate(error, 1, sizeof *file);
    if (file == NULL) return NULL;
    file->label = swm_copy_string(error, label);
    if (file->label == NULL || swm_torch_zip_read(&file->zip, data, size, file->label, error) != 0 ||
        read_tensors(file, error) != 0) {
        swm_torch_pt_close(file);
        return NULL;
    }
    return file;
}

swm_torch_pt *swm_torch_pt_open(const char *path, swm_error *error)
{
    swm_mapping mapping;
    if (swm_file_map(&mapping, path, error) != 0) return NULL;
    swm_torch_pt *file = swm_torch_pt_open_memory(mapping.data, mapping.size, path, error);
    if (file == NULL)
        swm_file_unmap(&mapping);
    else
        file->mapping = mapping;
    return file;
}

void swm_torch_pt_close(swm_torch_pt *file)
{
    if (file == NULL) return;
    for (size_t i = 0; i < file->count; i++) {
        free(file->entries[i].name);
        free(file->entries[i].copy);
    }
    free(file->entries);
    swm_torch_zip_free(&file->zip);
    swm_file_unmap(&file->mapping);
    free(file->label);
    free(file);
}

size_t swm_torch_pt_count(const swm_torch_pt *file) { return file->count; }

const swm_tensor *swm_torch_pt_at(const swm_torch_pt *file, size_t index, const char **name)
{
    SWM_REQUIRE(index < file->count, "tensor %zu of %zu", index, file->count);
    if (name != NULL) *name = file->entries[index].name;
    return &file->entries[index].tensor;
}
