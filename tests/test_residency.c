/* Memory under a budget, without a device: which weights stay, what the ring does with those that come and go, and what a
 * backend says when a stage does not fit. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include "core/backend.h"
#include "core/file.h"

#include <stdlib.h>
#include <string.h>

int test_residency(void);

enum { MOST = 64 };

/* Structs of one tensor each, made of nothing but their size. */
static swm_tensor structs[MOST];

static void make_list(swm_weight_list *list, int count, const size_t *kibibytes)
{
    *list = (swm_weight_list){0};
    for (int i = 0; i < count; i++) {
        structs[i] = SWM_TENSOR(SWM_F32, NULL, (int64_t)kibibytes[i] * 256);
        assert_int_equal(swm_weight_list_use(list, &structs[i], sizeof structs[i], SWM_F32, NULL), 0);
        swm_weight_list_done(list, &structs[i]);
    }
}

static uint32_t draw(uint32_t *state)
{
    *state = *state * 1664525u + 1013904223u;
    return *state >> 8;
}

/* ---- lists -------------------------------------------------------------------------------------------------------- */

static void test_list(void **state)
{
    (void)state;
    swm_error error = {0};
    swm_tensor outer[3] = {SWM_TENSOR(SWM_F32, NULL, 100), {0}, SWM_TENSOR(SWM_BF16, NULL, 2, 64)};
    swm_tensor blocks[2] = {SWM_TENSOR(SWM_BF16, NULL, 3, 5), SWM_TENSOR(SWM_F16, NULL, 1000)};
    swm_backend *plan = swm_backend_open_plan(SWM_BF16, &error);
    assert_non_null(plan);
    for (int pass = 0; pass < 2; pass++) {
        assert_ptr_equal(swm_weights_use(plan, outer, sizeof outer), outer);
        for (int i = 0; i < 2; i++) {
            swm_weights_use(plan, &blocks[i], sizeof blocks[i]);
            swm_weights_done(plan, &blocks[i]);
        }
        swm_weights_done(plan, outer);
    }
    swm_weight_list list = swm_plan_weights(plan), rest = swm_plan_weights(plan);
    assert_int_equal(rest.count, 0);
    assert_int_equal(list.count, 3);
    assert_ptr_equal(list.uses[0].key, outer);
    assert_ptr_equal(list.uses[2].key, &blocks[1]);
    assert_int_equal(list.uses[0].bytes, 256 + 256); /* as the device holds them, aligned */
    assert_int_equal(list.uses[1].bytes, 256);
    assert_int_equal(list.uses[2].bytes, 2048);
    assert_true(list.uses[0].held); /* in use while the blocks come and go */
    assert_false(list.uses[1].held);
    assert_false(list.uses[2].held);
    assert_int_equal(swm_weight_list_bytes(&list), 512 + 256 + 2048);
    swm_weight_list_free(&list);
    swm_weights_use(plan, outer, sizeof outer); /* closing frees what nobody took */
    swm_backend_close(plan);
    assert_int_equal(swm_weights_placed_bytes(outer, 3, SWM_F32), 512 + 512);
}

/* ---- places ------------------------------------------------------------------------------------------------------- */

static void check_places(const swm_residency *r, const swm_weight_list *list, size_t room)
{
    size_t resident = 0, streamed = 0;
    assert_int_equal(r->count, list->count);
    for (int64_t i = 0; i < r->count; i++) {
        const swm_weight_place *place = &r->places[i];
        assert_ptr_equal(place->key, list->uses[i].key);
        assert_int_equal(place->bytes, list->uses[i].bytes);
        if (place->streamed) {
            assert_true(place->bytes <= r->slot);
            assert_false(list->uses[i].held);
            streamed += place->bytes;
        } else {
            assert_int_equal(place->offset, resident); /* back to back */
            assert_int_equal(place->offset % SWM_ARENA_ALIGNMENT, 0);
            resident += place->bytes;
        }
    }
    assert_int_equal(r->resident, resident);
    assert_int_equal(r->streamed, streamed);
    assert_int_equal(r->memory, resident + SWM_RING_SLOTS * r->slot);
    assert_true(r->memory <= room);
}

static void test_all_resident(void **state)
{
    (void)state;
    swm_weight_list list;
    swm_residency r;
    make_list(&list, 4, (size_t[]){1, 2, 3, 4});
    assert_int_equal(swm_residency_decide(&r, &list, 10 << 10, NULL), 0);
    check_places(&r, &list, 10 << 10);
    assert_int_equal(r.slot, 0);
    assert_int_equal(r.resident, 10 << 10);
    swm_residency_free(&r);
    swm_weight_list_free(&list);
    swm_weight_list none = {0};
    assert_int_equal(swm_residency_least(&none), 0);
    assert_int_equal(swm_residency_decide(&r, &none, 0, NULL), 0);
    assert_int_equal(r.memory, 0);
    swm_residency_free(&r);
}

/* A large table among equal layers is kept: two slots of its size would cost more. */
static void test_large_one_stays(void **state)
{
    (void)state;
    swm_weight_list list;
    swm_residency r;
    make_list(&list, 7, (size_t[]){20, 4, 4, 4, 4, 4, 4});
    assert_int_equal(swm_residency_least(&list), 28 << 10);
    assert_int_equal(swm_residency_decide(&r, &list, 28 << 10, NULL), 0);
    check_places(&r, &list, 28 << 10);
    assert_false(r.places[0].streamed);
    for (int i = 1; i < 7; i++) assert_true(r.places[i].streamed);
    assert_int_equal(r.slot, 4 << 10);
    swm_residency_free(&r);
    swm_weight_list_free(&list);
}

/* Of eight equal blocks with room for four beside the slots, every second one stays. */
static void test_evenly_spread(void **state)
{
    (void)state;
    swm_weight_list list;
    swm_residency r;
    make_list(&list, 8, (size_t[]){4, 4, 4, 4, 4, 4, 4, 4});
    assert_int_equal(swm_residency_least(&list), 8 << 10);
    assert_int_equal(swm_residency_decide(&r, &list, 24 << 10, NULL), 0);
    check_places(&r, &list, 24 << 10);
    for (int i = 0; i < 8; i++) assert_int_equal(r.places[i].streamed, i % 2 == 0);
    swm_residency_free(&r);
    swm_weight_list_free(&list);
}

static void test_any_sizes(void **state)
{
    (void)state;
    uint32_t random = 1;
    for (int turn = 0; turn < 2000; turn++) {
        size_t sizes[MOST];
        int count = 1 + (int)(draw(&random) % (MOST - 1));
        for (int i = 0; i < count; i++) sizes[i] = 1 + draw(&random) % (turn % 3 == 0 ? 4 : 1000);
        swm_weight_list list;
        make_list(&list, count, sizes);
        for (int i = 0; i < count; i++) list.uses[i].held = draw(&random) % 8 == 0;
        size_t least = swm_residency_least(&list), all = swm_weight_list_bytes(&list);
        assert_true(least <= all);
        size_t before = 0;
        for (int part = 0; part <= 4; part++) {
            size_t room = least + (all - least) * (size_t)part / 4;
            swm_residency r;
            assert_int_equal(swm_residency_decide(&r, &list, room, NULL), 0);
            check_places(&r, &list, room);
            assert_true(part == 0 || r.resident + 1 > before); /* more room never means fewer that stay, by much */
            before = r.resident / 2;
            assert_int_equal(r.slot == 0, room == all);
            swm_residency_free(&r);
        }
        swm_weight_list_free(&list);
    }
}

/* ---- the ring ------------------------------------------------------------------------------------------------------ */

typedef struct machine {
    swm_residency r;
    swm_ring ring;
    int64_t slots[SWM_RING_SLOTS]; /* what was really put there */
    int late, early;               /* structs fetched when they were wanted; and before */
} machine;

static void use(machine *m, int64_t index)
{
    if (!m->r.places[index].streamed) return;
    int slot = swm_ring_find(&m->ring, index);
    if (slot < 0) {
        slot = swm_ring_take(&m->ring, index);
        assert_in_range(slot, 0, SWM_RING_SLOTS - 1);
        assert_int_equal(m->ring.users[slot], 0);
        m->slots[slot] = index;
        m->late++;
    }
    assert_int_equal(m->slots[slot], index);
    swm_ring_hold(&m->ring, slot);
    int64_t next = swm_ring_next(&m->ring, index);
    if (next >= 0) {
        int other = swm_ring_take(&m->ring, next);
        assert_in_range(other, 0, SWM_RING_SLOTS - 1);
        assert_int_equal(m->ring.users[other], 0);
        assert_int_not_equal(other, slot);
        m->slots[other] = next;
        m->early++;
    }
}

static void done(machine *m, int64_t index)
{
    if (m->r.places[index].streamed) swm_ring_let_go(&m->ring, swm_ring_find(&m->ring, index));
}

/* From the second pass on nothing is late, whatever stays and however many stream. */
static void test_ring_fetches_ahead(void **state)
{
    (void)state;
    size_t sizes[12];
    for (int i = 0; i < 12; i++) sizes[i] = 4;
    for (size_t stay = 0; stay < 10; stay++) {
        swm_weight_list list;
        machine m = {0};
        make_list(&list, 12, sizes);
        assert_int_equal(swm_residency_decide(&m.r, &list, (8 + 4 * stay) << 10, NULL), 0);
        assert_int_equal(swm_ring_open(&m.ring, &m.r, NULL), 0);
        int streaming = (int)(12 - stay);
        for (int pass = 0; pass < 4; pass++) {
            m.late = m.early = 0;
            for (int64_t i = 0; i < 12; i++) {
                use(&m, i);
                done(&m, i);
            }
            if (pass == 0) assert_int_equal(m.late, streaming);
            /* The last one's successor is not known before the second pass has begun; two share the slots in peace. */
            if (pass == 1) assert_in_range(m.late, 0, 1);
            if (pass > 1) assert_int_equal(m.late, 0);
            if (pass > 1) assert_int_equal(m.early, streaming > SWM_RING_SLOTS ? streaming : 0);
        }
        swm_ring_close(&m.ring);
        swm_residency_free(&m.r);
        swm_weight_list_free(&list);
    }
}

/* Two in use at once: neither is driven out, and nothing is fetched where there is no slot. */
static void test_ring_keeps_what_is_in_use(void **state)
{
    (void)state;
    swm_weight_list list;
    machine m = {0};
    make_list(&list, 4, (size_t[]){4, 4, 4, 4});
    assert_int_equal(swm_residency_decide(&m.r, &list, 8 << 10, NULL), 0);
    assert_int_equal(swm_ring_open(&m.ring, &m.r, NULL), 0);
    for (int64_t i = 0; i < 4; i++) {
        use(&m, i);
        done(&m, i);
    }
    use(&m, 0); /* fetches 1 */
    use(&m, 1);
    assert_int_equal(m.early, 1);
    assert_int_equal(swm_ring_take(&m.ring, 3), -1);
    done(&m, 0);
    use(&m, 1); /* again, while it is there: both uses must end */
    done(&m, 1);
    assert_true(swm_ring_find(&m.ring, 1) >= 0);
    assert_int_equal(m.ring.users[swm_ring_find(&m.ring, 1)], 1);
    done(&m, 1);
    /* Out of the usual order: it comes late, and the order is learnt anew. */
    use(&m, 3);
    done(&m, 3);
    use(&m, 0);
    assert_int_equal(m.ring.successor[3], 0);
    done(&m, 0);
    swm_ring_close(&m.ring);
    swm_residency_free(&m.r);
    swm_weight_list_free(&list);
}

/* ---- stages -------------------------------------------------------------------------------------------------------- */

/* A CPU that counts its memory and refuses weights on demand. */
static struct {
    swm_kernels kernels;
    const swm_kernels *cpu;
    size_t room, placed;
    bool refuse;
    int arranged;
} fake;

static size_t fake_room(swm_backend *b)
{
    (void)b;
    return fake.room;
}

static bool fake_arrange(swm_backend *b, const swm_residency *residency)
{
    (void)b;
    fake.placed = residency->memory;
    fake.arranged++;
    swm_residency owned = *residency;
    swm_residency_free(&owned);
    return !fake.refuse;
}

static swm_backend *open_fake(size_t room)
{
    swm_backend *b = swm_backend_open_cpu(1, NULL);
    assert_non_null(b);
    memset(&fake, 0, sizeof fake);
    fake.cpu = b->kernels;
    fake.kernels = *b->kernels;
    fake.kernels.room = fake_room;
    fake.kernels.weights_arrange = fake_arrange;
    fake.room = room;
    b->kernels = &fake.kernels;
    return b;
}

static void assert_said(const swm_error *error, const char *words)
{
    if (strstr(error->text, words) == NULL) fail_msg("\"%s\" lacks \"%s\"", error->text, words);
}

static void test_begin(void **state)
{
    (void)state;
    swm_error error = {0};
    swm_weight_list list;
    make_list(&list, 6, (size_t[]){1024, 1024, 1024, 1024, 1024, 1024}); /* MiB each */
    swm_backend *b = open_fake((size_t)10 << 20);
    assert_int_equal(swm_backend_begin(b, "denoise", 3 << 20, &list, &error), 0);
    assert_int_equal(b->scratch.capacity, 3 << 20);
    assert_int_equal(fake.placed, 6 << 20); /* all stay */
    assert_int_equal(swm_backend_begin(b, "denoise", 7 << 20, &list, &error), 0);
    assert_int_equal(fake.placed, 3 << 20); /* one stays, two slots */
    assert_int_equal(b->scratch.capacity, 7 << 20);
    assert_int_equal(swm_backend_begin(b, "decode", 1 << 20, &list, &error), 0);
    assert_int_equal(b->scratch.capacity, 1 << 20); /* exactly, also when it was larger */

    assert_int_equal(swm_backend_begin(b, "denoise", 9 << 20, &list, &error), -1);
    assert_said(&error, "\"denoise\" needs 0.8 GiB");
    assert_said(&error, "end other programs on the device");
    assert_int_equal(fake.arranged, 3);

    error = (swm_error){0};
    fake.refuse = true;
    assert_int_equal(swm_backend_begin(b, "denoise", 3 << 20, &list, &error), -1);
    assert_said(&error, "out of GPU memory");
    assert_said(&error, "--vram-budget 0.8G");
    swm_weight_list_free(&list);
    swm_backend_close(b);
}

static void test_limit(void **state)
{
    (void)state;
    swm_error error = {0};
    swm_weight_list list;
    make_list(&list, 6, (size_t[]){1024, 1024, 1024, 1024, 1024, 1024});
    swm_backend *b = open_fake((size_t)64 << 20);
    assert_int_equal(swm_backend_room(b), (size_t)64 << 20);
    assert_int_equal(swm_backend_limit(b, SWM_DEVICE_OVERHEAD + (5 << 20), &error), 0);
    assert_int_equal(swm_backend_room(b), 5 << 20);
    assert_int_equal(swm_backend_begin(b, "denoise", 2 << 20, &list, &error), 0);
    assert_int_equal(fake.placed, 3 << 20);
    assert_int_equal(swm_backend_fits(b, "decode", 4 << 20, 2 << 20, &error), -1);
    assert_said(&error, "pass --vram-budget 0.8G or more");
    error = (swm_error){0};
    assert_int_equal(swm_backend_limit(b, 1 << 20, &error), 0); /* less than the device takes for itself */
    assert_int_equal(swm_backend_room(b), 0);
    assert_int_equal(swm_backend_begin(b, "denoise", 2 << 20, &list, &error), -1);
    assert_int_equal(swm_backend_limit(b, 0, &error), 0);
    assert_int_equal(swm_backend_room(b), (size_t)64 << 20);
    swm_weight_list_free(&list);
    swm_backend_close(b);
}

/* A CPU has weights where their files are: no limit, any stage fits, the arena only grows. */
static void test_cpu(void **state)
{
    (void)state;
    swm_error error = {0};
    swm_weight_list none = {0};
    swm_backend *b = swm_backend_open_cpu(1, &error);
    assert_non_null(b);
    assert_int_equal(swm_backend_limit(b, 0, &error), 0);
    assert_int_equal(swm_backend_room(b), SIZE_MAX);
    assert_int_equal(swm_backend_fits(b, "decode", (size_t)1 << 50, (size_t)1 << 50, &error), 0);
    assert_int_equal(swm_backend_begin(b, "decode", 1 << 20, &none, &error), 0);
    assert_int_equal(b->scratch.capacity, 1 << 20);
    assert_int_equal(swm_backend_limit(b, 1 << 30, &error), -1);
    assert_said(&error, "the device is cpu");
    swm_backend_close(b);
}

static void test_copy_mapped(void **state)
{
    (void)state;
    const size_t sizes[] = {0, 1, 4095, 4096, 1 << 20, (1 << 20) + 1, (3 << 20) + 12345, (8 << 20) - 1};
    unsigned char *from = malloc(8 << 20), *to = malloc(8 << 20);
    assert_non_null(from);
    assert_non_null(to);
    uint32_t random = 1;
    for (size_t i = 0; i < 8 << 20; i++) from[i] = (unsigned char)draw(&random);
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        memset(to, 0, 8 << 20);
        swm_copy_mapped(to, from, sizes[i], 3);
        assert_memory_equal(to, from, sizes[i]);
        if (sizes[i] + 1 < 8 << 20) assert_int_equal(to[sizes[i] + 1], 0);
    }
    free(to);
    free(from);
}

int test_residency(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_list),
        cmocka_unit_test(test_all_resident),
        cmocka_unit_test(test_large_one_stays),
        cmocka_unit_test(test_evenly_spread),
        cmocka_unit_test(test_any_sizes),
        cmocka_unit_test(test_ring_fetches_ahead),
        cmocka_unit_test(test_ring_keeps_what_is_in_use),
        cmocka_unit_test(test_begin),
        cmocka_unit_test(test_limit),
        cmocka_unit_test(test_cpu),
        cmocka_unit_test(test_copy_mapped),
    };
    return cmocka_run_group_tests_name("residency", tests, NULL, NULL);
}
