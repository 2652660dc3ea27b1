/* Torch checkpoints, written here byte by byte: what is read, the key rules, and the refusal of everything hostile. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include "io/torch_pt.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int test_torch_pt(void);

/* Bytes under construction, either a pickle or an archive. */
struct buffer {
    uint8_t bytes[16384];
    size_t size;
};

static void put(struct buffer *b, const void *bytes, size_t size)
{
    assert_true(b->size + size <= sizeof b->bytes);
    memcpy(b->bytes + b->size, bytes, size);
    b->size += size;
}

static void put_number(struct buffer *b, uint64_t number, int size)
{
    for (int i = 0; i < size; i++) put(b, &(uint8_t){(uint8_t)(i < 8 ? number >> 8 * i : 0)}, 1);
}

static void put_string(struct buffer *b, const char *text) { put(b, text, strlen(text)); }

/* ---- Archives ---- */

struct file {
    const char *name;
    const void *data;
    size_t size;
    unsigned method; /* 0: stored */
};

static void put_local(struct buffer *b, const struct file *file)
{
    put_string(b, "PK\3\4");
    put_number(b, 0, 4);
    put_number(b, file->method, 2);
    put_number(b, 0, 8); /* time, date, checksum */
    put_number(b, file->size, 4);
    put_number(b, file->size, 4);
    put_number(b, strlen(file->name), 2);
    put_number(b, 0, 2);
    put_string(b, file->name);
    put(b, file->data, file->size);
}

/* With zip64, sizes and offsets stand in the extra field, as torch writes files over 4 GB. */
static void put_central(struct buffer *b, const struct file *file, size_t start, bool zip64)
{
    put_string(b, "PK\1\2");
    put_number(b, 0, 4);
    put_number(b, 0, 2); /* flags */
    put_number(b, file->method, 2);
    put_number(b, 0, 8);
    put_number(b, zip64 ? UINT32_MAX : file->size, 4);
    put_number(b, zip64 ? UINT32_MAX : file->size, 4);
    put_number(b, strlen(file->name), 2);
    put_number(b, zip64 ? 28 : 0, 2);
    put_number(b, 0, 10);
    put_number(b, zip64 ? UINT32_MAX : start, 4);
    put_string(b, file->name);
    if (!zip64) return;
    put_number(b, 1, 2);
    put_number(b, 24, 2);
    put_number(b, file->size, 8);
    put_number(b, file->size, 8);
    put_number(b, start, 8);
}

/* Returns the offset of the central directory. */
static size_t make_archive(struct buffer *b, const struct file *files, size_t count, bool zip64)
{
    size_t starts[8];
    b->size = 0;
    for (size_t i = 0; i < count; i++) {
        starts[i] = b->size;
        put_local(b, &files[i]);
    }
    size_t directory = b->size;
    for (size_t i = 0; i < count; i++) put_central(b, &files[i], starts[i], zip64);
    size_t end = b->size;
    if (zip64) {
        put_string(b, "PK\6\6");
        put_number(b, 44, 8);
        put_number(b, 0, 4 + 8);
        put_number(b, count, 8);
        put_number(b, count, 8);
        put_number(b, end - directory, 8);
        put_number(b, directory, 8);
        put_string(b, "PK\6\7");
        put_number(b, 0, 4);
        put_number(b, end, 8);
        put_number(b, 1, 4);
    }
    put_string(b, "PK\5\6");
    put_number(b, 0, 4);
    put_number(b, zip64 ? UINT16_MAX : count, 2);
    put_number(b, zip64 ? UINT16_MAX : count, 2);
    put_number(b, zip64 ? UINT32_MAX : end - directory, 4);
    put_number(b, zip64 ? UINT32_MAX : directory, 4);
    put_number(b, 0, 2);
    return directory;
}

/* A checkpoint with the given pickle and one storage "0" of the bytes 0..47. */
static void make_checkpoint(struct buffer *b, const struct buffer *pickle)
{
    uint8_t storage[48];
    for (uint8_t i = 0; i < sizeof storage; i++) storage[i] = i;
    const struct file files[] = {{"m/data.pkl", pickle->bytes, pickle->size, 0},
                                 {"m/byteorder", "little", 6, 0},
                                 {"m/data/0", storage, sizeof storage, 0}};
    make_archive(b, files, 3, false);
}

/* ---- Pickles ---- */

static void put_text(struct buffer *b, const char *text)
{
    put_string(b, "X");
    put_number(b, strlen(text), 4);
    put_string(b, text);
}

static void put_integer(struct buffer *b, int64_t value)
{
    put_string(b, "\x8a\x08");
    put_number(b, (uint64_t)value, 8);
}

static void put_tuple(struct buffer *b, int count, const int64_t *values)
{
    put_string(b, "(");
    for (int i = 0; i < count; i++) put_integer(b, values[i]);
    put_string(b, "t");
}

struct view {
    const char *type; /* torch's name of the storage */
    const char *key;
    int64_t elements, offset;
    int rank;
    int64_t shape[SWM_MAX_RANK + 1], stride[SWM_MAX_RANK + 1];
};

static const struct view plain = {"FloatStorage", "0", 12, 0, 2, {3, 4}, {4, 1}};

static void put_tensor(struct buffer *b, struct view v)
{
    put_string(b, "ctorch._utils\n_rebuild_tensor_v2\n((");
    put_text(b, "storage");
    put_string(b, "ctorch\n");
    put_string(b, v.type);
    put_string(b, "\n");
    put_text(b, v.key);
    put_text(b, "cpu");
    put_integer(b, v.elements);
    put_string(b, "tQ");
    put_integer(b, v.offset);
    put_tuple(b, v.rank, v.shape);
    put_tuple(b, v.rank, v.stride);
    put_string(b, "\x89"
                  "ccollections\nOrderedDict\n)RtR");
}

/* {key: tensor} */
static void start_dict(struct buffer *b)
{
    b->size = 0;
    put_string(b, "\x80\2}(");
}

static void put_named(struct buffer *b, const char *name, struct view v)
{
    put_text(b, name);
    put_tensor(b, v);
}

static swm_torch_pt *open_pickle(const struct buffer *pickle, struct buffer *archive)
{
    make_checkpoint(archive, pickle);
    swm_error error = {0};
    swm_torch_pt *file = swm_torch_pt_open_memory(archive->bytes, archive->size, "some.pt", &error);
    if (file == NULL) fail_msg("%s", error.text);
    return file;
}

static void refuse_archive(const void *bytes, size_t size, const char *needle)
{
    swm_error error = {0};
    assert_null(swm_torch_pt_open_memory(bytes, size, "some.pt", &error));
    if (strstr(error.text, needle) == NULL || strncmp(error.text, "some.pt: ", 9) != 0)
        fail_msg("\"%s\" lacks \"%s\"", error.text, needle);
}

static void refuse_pickle(const struct buffer *pickle, const char *needle)
{
    static struct buffer archive;
    make_checkpoint(&archive, pickle);
    refuse_archive(archive.bytes, archive.size, needle);
}

static void refuse_opcodes(const char *opcodes, size_t size, const char *needle)
{
    static struct buffer pickle;
    pickle.size = 0;
    put(&pickle, opcodes, size);
    refuse_pickle(&pickle, needle);
}

static void refuse_view(struct view v, const char *needle)
{
    static struct buffer pickle;
    start_dict(&pickle);
    put_named(&pickle, "t", v);
    put_string(&pickle, "u.");
    refuse_pickle(&pickle, needle);
}

static const swm_tensor *find(const swm_torch_pt *file, const char *wanted)
{
    for (size_t i = 0; i < swm_torch_pt_count(file); i++) {
        const char *name;
        const swm_tensor *tensor = swm_torch_pt_at(file, i, &name);
        if (strcmp(name, wanted) == 0) return tensor;
    }
    fail_msg("no tensor %s", wanted);
    return NULL;
}

/* ---- Tests ---- */

static struct buffer pickle, archive;

static void test_kinds_of_objects(void **state)
{
    (void)state;
    start_dict(&pickle);
    put_named(&pickle, "w", plain);
    put_text(&pickle, "list");
    put_string(&pickle, "](K\1J\377\377\377\377G12345678N\x88\x89U\2hiM\1\2]K\1a\x85)e");
    put_text(&pickle, "nested");
    put_string(&pickle, "}");
    put_text(&pickle, "one");
    put_tensor(&pickle, (struct view){"HalfStorage", "0", 24, 3, 1, {2}, {1}});
    put_string(&pickle, "s");
    put_string(&pickle, "K\7"); /* an integer as key */
    put_tensor(&pickle, (struct view){"BoolStorage", "0", 48, 47, 0, {0}, {0}});
    put_string(&pickle, "u}b."); /* attributes, as a module's state dict has */
    swm_torch_pt *file = open_pickle(&pickle, &archive);
    assert_int_equal(swm_torch_pt_count(file), 3);
    const swm_tensor *w = find(file, "w"), *one = find(file, "nested.one"), *seven = find(file, "7");
    assert_true(w->dtype == SWM_F32 && w->rank == 2 && w->shape[0] == 3 && w->shape[1] == 4);
    assert_int_equal(((const uint8_t *)w->data)[47], 47);
    assert_true(one->dtype == SWM_F16 && one->rank == 1 && one->shape[0] == 2);
    assert_int_equal(((const uint8_t *)one->data)[0], 6);
    assert_true(seven->dtype == SWM_BOOL && seven->rank == 1 && seven->shape[0] == 1);
    assert_int_equal(((const uint8_t *)seven->data)[0], 47);
    swm_torch_pt_close(file);
}

static void test_dtypes(void **state)
{
    (void)state;
    static const struct {
        const char *type;
        swm_dtype dtype;
    } types[] = {{"FloatStorage", SWM_F32},  {"HalfStorage", SWM_F16}, {"BFloat16Storage", SWM_BF16},
                 {"DoubleStorage", SWM_F64}, {"LongStorage", SWM_I64}, {"IntStorage", SWM_I32},
                 {"ShortStorage", SWM_I16},  {"CharStorage", SWM_I8},  {"ByteStorage", SWM_U8},
                 {"BoolStorage", SWM_BOOL}};
    for (size_t i = 0; i < sizeof types / sizeof *types; i++) {
        start_dict(&pickle);
        put_named(&pickle, "t", (struct view){types[i].type, "0", 6, 1, 1, {5}, {1}});
        put_string(&pickle, "u.");
        swm_torch_pt *file = open_pickle(&pickle, &archive);
        const swm_tensor *t = find(file, "t");
        assert_int_equal(t->dtype, types[i].dtype);
        assert_int_equal(((const uint8_t *)t->data)[0], swm_dtype_size(t->dtype));
        assert_int_equal((uintptr_t)t->data % swm_dtype_size(t->dtype), 0);
        swm_torch_pt_close(file);
    }
}

/* Strides are honoured: a transposed and a sliced view come out in their own order. */
static void test_strides(void **state)
{
    (void)state;
    start_dict(&pickle);
    put_named(&pickle, "transposed", (struct view){"ByteStorage", "0", 12, 0, 2, {4, 3}, {1, 4}});
    put_named(&pickle, "slice", (struct view){"ByteStorage", "0", 12, 5, 2, {2, 2}, {4, 1}});
    put_named(&pickle, "expanded", (struct view){"ByteStorage", "0", 12, 3, 2, {2, 3}, {0, 1}});
    put_named(&pickle, "ones", (struct view){"ByteStorage", "0", 12, 6, 3, {1, 2, 1}, {77, 1, 99}});
    put_named(&pickle, "empty", (struct view){"ByteStorage", "0", 12, 0, 2, {0, 1LL << 40}, {1, 1}});
    put_string(&pickle, "u.");
    swm_torch_pt *file = open_pickle(&pickle, &archive);
    assert_memory_equal(find(file, "transposed")->data, "\0\4\10\1\5\11\2\6\12\3\7\13", 12);
    assert_memory_equal(find(file, "slice")->data, "\5\6\11\12", 4);
    assert_memory_equal(find(file, "expanded")->data, "\3\4\5\3\4\5", 6);
    assert_memory_equal(find(file, "ones")->data, "\6\7", 2);
    assert_int_equal(swm_count(*find(file, "empty")), 0);
    assert_non_null(find(file, "empty")->data);
    const uint8_t *view = find(file, "ones")->data; /* strides of single elements do not matter: no copy is made */
    assert_true(view > archive.bytes && view < archive.bytes + archive.size);
    swm_torch_pt_close(file);
}

static void test_key_rules(void **state)
{
    (void)state;
    static const struct {
        const char *outer[2]; /* dicts around {"model.model.x": tensor, "y": tensor} */
        const char *names[2];
    } cases[] = {
        {{NULL, NULL}, {"model.x", "y"}},
        {{"generator", NULL}, {"model.x", "y"}},
        {{"state_dict", NULL}, {"model.model.x", "y"}},
        {{"generator", "state_dict"}, {"model.model.x", "y"}},
        {{"model", NULL}, {"model.model.x", "y"}},
        {{"generator_ema", NULL}, {"generator_ema.model.model.x", "generator_ema.y"}},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        pickle.size = 0;
        put_string(&pickle, "\x80\2");
        int depth = 0;
        for (; depth < 2 && cases[i].outer[depth] != NULL; depth++) {
            put_string(&pickle, "}");
            put_text(&pickle, cases[i].outer[depth]);
        }
        put_string(&pickle, "}(");
        put_named(&pickle, "model.model.x", plain);
        put_named(&pickle, "y", plain);
        put_string(&pickle, "u");
        while (depth-- > 0) put_string(&pickle, "s");
        put_string(&pickle, ".");
        swm_torch_pt *file = open_pickle(&pickle, &archive);
        assert_int_equal(swm_torch_pt_count(file), 2);
        for (size_t k = 0; k < 2; k++) {
            const char *name;
            swm_torch_pt_at(file, k, &name);
            assert_string_equal(name, cases[i].names[k]);
        }
        swm_torch_pt_close(file);
    }
    start_dict(&pickle);
    put_text(&pickle, "generator");
    put_string(&pickle, "K\1u.");
    refuse_pickle(&pickle, "generator is no dict");
    start_dict(&pickle);
    put_text(&pickle, "state_dict");
    put_string(&pickle, "Nu.");
    refuse_pickle(&pickle, "state_dict is no dict");
    start_dict(&pickle);
    put_named(&pickle, "model.x", plain);
    put_named(&pickle, "x", plain);
    put_string(&pickle, "u.");
    refuse_pickle(&pickle, "tensor x is there twice");
}

static void test_hostile_globals_and_opcodes(void **state)
{
    (void)state;
#define REFUSE(opcodes, needle) refuse_opcodes(opcodes, sizeof(opcodes) - 1, needle)
    REFUSE("\x80\2cos\nsystem\nX\2\0\0\0ls\x85R.", "os.system, which is no plain data");
    REFUSE("\x80\2c__builtin__\neval\n.", "__builtin__.eval");
    REFUSE("\x80\2"
           "ctorch\nFloatStorageX\n.",
           "torch.FloatStorageX");
    REFUSE("\x80\2ios\nsystem\n.", "opcode 0x69"); /* INST */
    REFUSE("\x80\2)\x81.", "opcode 0x81");         /* NEWOBJ */
    REFUSE("\x80\2\x93.", "opcode 0x93");          /* STACK_GLOBAL */
    REFUSE("\x80\2\0.", "opcode 0x00");
    REFUSE("\x80\4.", "protocol 4");
    REFUSE("", "in the middle");
    REFUSE("\x80", "in the middle");
    REFUSE("cos", "in the middle");
    REFUSE("X\377\377\377\377a", "in the middle");
    REFUSE(".", "stack runs empty");
    REFUSE("(.", "stack runs empty");
    REFUSE("R.", "stack runs empty");
    REFUSE("a.", "stack runs empty");
    REFUSE("s.", "stack runs empty");
    REFUSE("\x87.", "stack runs empty");
    REFUSE("(\x85.", "spans a mark");
    REFUSE("t.", "lacks a mark");
    REFUSE("}u.", "lacks a mark");
    REFUSE("(K\1K\2u.", "without a container");
    REFUSE("}(K\1u.", "do not fit");
    REFUSE("](K\1K\2u.", "do not fit");
    REFUSE("}(K\1e.", "do not fit");
    REFUSE("h\1.", "never kept");
    REFUSE("j\377\377\377\377.", "never kept");
    REFUSE("}r\377\377\377\377.", "memo index");
    REFUSE("q\1.", "stack runs empty");
    REFUSE("K\1K\1R.", "no function");
    REFUSE("ccollections\nOrderedDict\nK\1\x85R.", "unknown arguments");
    REFUSE("ctorch\nFloatStorage\n)R.", "unknown arguments");
    REFUSE("ctorch\nSize\n)R.", "unknown arguments");
    REFUSE("ctorch._utils\n_rebuild_parameter\nK\1\x88}\x87R.", "unknown arguments");
    REFUSE("ctorch._utils\n_rebuild_tensor_v2\n)R.", "described wrongly");
    REFUSE("K\1}b.", "attributes");
    REFUSE("K\1Q.", "no storage");
    REFUSE("K\1.", "holds no dict");
#undef REFUSE
}

static void test_hostile_structure(void **state)
{
    (void)state;
    refuse_opcodes("}q\1K\1h\1s.", 9, "nest deeper"); /* a dict that contains itself */
    pickle.size = 0;
    for (int i = 0; i < 40; i++) put_string(&pickle, "}K\1");
    put_string(&pickle, "}");
    for (int i = 0; i < 40; i++) put_string(&pickle, "s");
    put_string(&pickle, ".");
    refuse_pickle(&pickle, "nest deeper");

    /* 25 levels of dicts that hold the next one twice: millions of leaves out of a few hundred bytes. */
    pickle.size = 0;
    put_string(&pickle, "}q");
    put_number(&pickle, 0, 1);
    for (int i = 1; i <= 25; i++) {
        put_string(&pickle, "}q");
        put_number(&pickle, (uint64_t)i, 1);
        put_string(&pickle, "(K\1h");
        put_number(&pickle, (uint64_t)i - 1, 1);
        put_string(&pickle, "K\2h");
        put_number(&pickle, (uint64_t)i - 1, 1);
        put_string(&pickle, "u");
    }
    put_string(&pickle, ".");
    refuse_pickle(&pickle, "dicts have more than");

    static char name[2000];
    memset(name, 'n', sizeof name - 1);
    start_dict(&pickle);
    put_named(&pickle, name, plain);
    put_string(&pickle, "u.");
    refuse_pickle(&pickle, "longer than");
    start_dict(&pickle);
    put_named(&pickle, "", plain);
    put_string(&pickle, "u.");
    refuse_pickle(&pickle, "key is empty");
    start_dict(&pickle);
    put_string(&pickle, "X");
    put_number(&pickle, 3, 4);
    put(&pickle, "a\0b", 3);
    put_tensor(&pickle, plain);
    put_string(&pickle, "u.");
    refuse_pickle(&pickle, "has a NUL");
    start_dict(&pickle);
    put_named(&pickle, "t", plain);
    put_named(&pickle, "t", plain);
    put_string(&pickle, "u.");
    refuse_pickle(&pickle, "tensor t is there twice");
}

static void test_hostile_tensors(void **state)
{
    (void)state;
    const int64_t huge = INT64_MAX, large = INT64_C(1) << 53;
    refuse_view((struct view){"FloatStorage", "1", 12, 0, 1, {1}, {1}}, "storage data/1 is missing");
    refuse_view((struct view){"FloatStorage", "../0", 12, 0, 1, {1}, {1}}, "is missing");
    refuse_view((struct view){"FloatStorage", "0", 13, 0, 1, {1}, {1}}, "has only 48 bytes");
    refuse_view((struct view){"FloatStorage", "0", huge, 0, 1, {1}, {1}}, "has only 48 bytes");
    refuse_view((struct view){"FloatStorage", "0", -1, 0, 1, {1}, {1}}, "no storage");
    refuse_view((struct view){"FloatStorage", "0", 12, 0, 2, {3, 5}, {5, 1}},
                "of shape (3,5) at offset 0 does not fit");
    refuse_view((struct view){"FloatStorage", "0", 12, 1, 2, {3, 4}, {4, 1}}, "does not fit");
    refuse_view((struct view){"FloatStorage", "0", 12, 12, 1, {1}, {1}}, "does not fit");
    refuse_view((struct view){"FloatStorage", "0", 12, 13, 1, {0}, {1}}, "does not fit");
    refuse_view((struct view){"FloatStorage", "0", 12, huge, 1, {1}, {1}}, "does not fit");
    refuse_view((struct view){"FloatStorage", "0", 12, huge, 1, {2}, {1}}, "does not fit");
    refuse_view((struct view){"FloatStorage", "0", 12, 0, 2, {large, large}, {0, 0}}, "does not fit");
    refuse_view((struct view){"FloatStorage", "0", 12, 0, 2, {0, large}, {large, large}}, "does not fit");
    refuse_view((struct view){"FloatStorage", "0", 12, 0, 1, {3}, {large}}, "does not fit");
    refuse_view((struct view){"FloatStorage", "0", 12, 0, 1, {huge}, {1}}, "shape or strides");
    refuse_view((struct view){"FloatStorage", "0", 12, -1, 1, {1}, {1}}, "shape or strides");
    refuse_view((struct view){"FloatStorage", "0", 12, 0, 1, {-1}, {1}}, "shape or strides");
    refuse_view((struct view){"FloatStorage", "0", 12, 3, 1, {2}, {-1}}, "shape or strides");
    refuse_view((struct view){"FloatStorage", "0", 12, 0, SWM_MAX_RANK + 1, {0}, {0}}, "shape or strides");
    refuse_view((struct view){"FloatStorage", "0", 12, 0, 1, {1000000}, {0}}, "more than the file stores");

    /* Each copy is honest, all together are more than the file. */
    start_dict(&pickle);
    for (int i = 0; i < 60; i++) {
        char name[8];
        snprintf(name, sizeof name, "t%d", i);
        put_text(&pickle, name);
        if (i == 0) {
            put_tensor(&pickle, (struct view){"FloatStorage", "0", 12, 0, 2, {4, 3}, {1, 4}});
            put_string(&pickle, "q\1");
        } else {
            put_string(&pickle, "h\1");
        }
    }
    put_string(&pickle, "u.");
    refuse_pickle(&pickle, "more than the file stores");
}

static void test_archives(void **state)
{
    (void)state;
    uint8_t storage[48] = {0};
    start_dict(&pickle);
    put_named(&pickle, "t", plain);
    put_string(&pickle, "u.");
    struct file files[] = {{"m/data.pkl", pickle.bytes, pickle.size, 0},
                           {"m/data/0", storage, sizeof storage, 0},
                           {"m/version", "3\n", 2, 0}};
    swm_error error = {0};
    for (int zip64 = 0; zip64 < 2; zip64++) {
        make_archive(&archive, files, 3, zip64 == 1);
        swm_torch_pt *file = swm_torch_pt_open_memory(archive.bytes, archive.size, "some.pt", &error);
        if (file == NULL) fail_msg("%s", error.text);
        assert_int_equal(swm_torch_pt_count(file), 1);
        swm_torch_pt_close(file);
        for (size_t cut = 0; cut < archive.size; cut++) {
            uint8_t *exact = malloc(cut + 1); /* so that the sanitizer sees a read behind the end */
            assert_non_null(exact);
            memcpy(exact, archive.bytes, cut);
            refuse_archive(exact, cut, "");
            free(exact);
        }
    }
    refuse_archive("\x80\2}.", 4, "no zip archive");

    files[1].method = 8;
    make_archive(&archive, files, 3, false);
    refuse_archive(archive.bytes, archive.size, "zip entry m/data/0 is deflated");
    files[1].method = 0;
    files[2].name = "m/data/0";
    make_archive(&archive, files, 3, false);
    refuse_archive(archive.bytes, archive.size, "zip entry m/data/0 is there twice");
    files[2].name = "n/data.pkl";
    make_archive(&archive, files, 3, false);
    refuse_archive(archive.bytes, archive.size, "more than one data.pkl");
    files[2] = (struct file){"m/byteorder", "big", 3, 0};
    make_archive(&archive, files, 3, false);
    refuse_archive(archive.bytes, archive.size, "big-endian");
    make_archive(&archive, files + 1, 2, false);
    refuse_archive(archive.bytes, archive.size, "no data.pkl");
    files[0].name = "m/code/data.pkl";
    make_archive(&archive, files, 3, false);
    refuse_archive(archive.bytes, archive.size, "no data.pkl");
}

/* Overwrite `size` bytes of the second record of the directory of a good archive and expect a refusal. */
static void refuse_patch(size_t field, uint64_t value, int size, const char *needle)
{
    uint8_t storage[48] = {0};
    const struct file files[] = {{"m/data.pkl", "}.", 2, 0}, {"m/data/0", storage, sizeof storage, 0}};
    size_t directory = make_archive(&archive, files, 2, false), second = directory + 46 + strlen("m/data.pkl");
    for (int i = 0; i < size; i++) archive.bytes[second + field + (size_t)i] = (uint8_t)(value >> 8 * i);
    refuse_archive(archive.bytes, archive.size, needle);
}

static void test_damaged_directory(void **state)
{
    (void)state;
    refuse_patch(0, 0, 4, "ends early");                           /* signature */
    refuse_patch(8, 1, 2, "encrypted");                            /* flags */
    refuse_patch(10, 99, 2, "compressed");                         /* method */
    refuse_patch(20, 47, 4, "contradicts itself");                 /* compressed size only */
    refuse_patch(20, 0x7fffffff7fffffff, 8, "contradicts itself"); /* both sizes beyond the file */
    refuse_patch(20, UINT64_MAX, 8, "contradicts itself");         /* sizes in a ZIP64 field that is not there */
    refuse_patch(28, 60000, 2, "ends early");                      /* name */
    refuse_patch(28, 7, 2, "");                                    /* name shorter than the local one */
    refuse_patch(30, 60000, 2, "ends early");                      /* extra */
    refuse_patch(42, 0, 4, "contradicts itself");                  /* offset of the other entry, whose name differs */
    refuse_patch(42, 0xfffffff0, 4, "contradicts itself");

    /* A zip bomb of the kind that reuses bytes: the second entry lies in the contents of the first. */
    struct buffer *inner = &pickle;
    inner->size = 0;
    put_string(inner, "}.");
    put_local(inner, &(struct file){"m/data/0", "xx", 2, 0});
    const struct file files[] = {{"m/data.pkl", inner->bytes, inner->size, 0}, {"m/data/0", "xx", 2, 0}};
    size_t directory = make_archive(&archive, files, 2, false), second = directory + 46 + strlen("m/data.pkl");
    size_t place = 30 + strlen("m/data.pkl") + 2;
    for (int i = 0; i < 4; i++) archive.bytes[second + 42 + (size_t)i] = (uint8_t)(place >> 8 * i);
    refuse_archive(archive.bytes, archive.size, "overlap");

    /* A directory that has more entries than it counts, and one that counts more than fit into it. */
    static const uint8_t counts[] = {1, 200};
    for (int i = 0; i < 2; i++) {
        make_archive(&archive, files, 2, false);
        archive.bytes[archive.size - 14] = archive.bytes[archive.size - 12] = counts[i];
        refuse_archive(archive.bytes, archive.size, "damaged zip archive");
    }
}

/* A file that torch itself wrote. */
static void test_real_file(void **state)
{
    (void)state;
    swm_error error = {0};
    swm_torch_pt *file = swm_torch_pt_open("tests/golden/torch_small.pt", &error);
    if (file == NULL) fail_msg("%s", error.text);
    assert_int_equal(swm_torch_pt_count(file), 8);
    float values[12];
    const swm_tensor *t = find(file, "weight");
    assert_true(t->dtype == SWM_F32 && t->rank == 2 && t->shape[0] == 3 && t->shape[1] == 4);
    for (int i = 0; i < 12; i++) assert_true(swm_floats(*t)[i] == (float)i);
    t = find(file, "transposed");
    assert_true(t->shape[0] == 4 && t->shape[1] == 3);
    for (int i = 0; i < 12; i++) assert_true(swm_floats(*t)[i] == (float)(i % 3 * 4 + i / 3));
    t = find(file, "slice");
    const float slice[] = {5, 6, 9, 10};
    assert_memory_equal(t->data, slice, sizeof slice);
    t = find(file, "nested.rows");
    assert_true(t->shape[0] == 2 && swm_floats(*t)[0] == 4.0f);
    t = find(file, "half");
    swm_to_f32(values, t->data, t->dtype, 2);
    assert_true(t->dtype == SWM_F16 && values[0] == 1.5f && values[1] == -2.0f);
    t = find(file, "bf16");
    swm_to_f32(values, t->data, t->dtype, 2);
    assert_true(t->dtype == SWM_BF16 && t->rank == 2 && values[0] == 1.0f && values[1] == 3.0f);
    t = find(file, "scalar");
    swm_to_f32(values, t->data, t->dtype, 1);
    assert_true(t->dtype == SWM_I64 && t->rank == 1 && t->shape[0] == 1 && values[0] == -7.0f);
    t = find(file, "parameter");
    assert_true(swm_floats(*t)[0] == 0.25f && swm_floats(*t)[1] == 0.5f);
    swm_torch_pt_close(file);

    assert_null(swm_torch_pt_open("/nowhere/model.pt", &error));
    assert_non_null(strstr(error.text, "/nowhere/model.pt"));
    swm_torch_pt_close(NULL);
}

int test_torch_pt(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_kinds_of_objects),  cmocka_unit_test(test_dtypes),
        cmocka_unit_test(test_strides),           cmocka_unit_test(test_key_rules),
        cmocka_unit_test(test_hostile_structure), cmocka_unit_test(test_hostile_globals_and_opcodes),
        cmocka_unit_test(test_hostile_tensors),   cmocka_unit_test(test_archives),
        cmocka_unit_test(test_damaged_directory), cmocka_unit_test(test_real_file),
    };
    return cmocka_run_group_tests_name("torch_pt", tests, NULL, NULL);
}
