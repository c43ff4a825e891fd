#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>

#include "rnd.h"
#include "virtio_driver.h"

enum { RAM = 0x100000, RING = 0x10000, DATA = 0x40000, SIZE = 8 };

struct fixture {
    struct testvm *t;
    struct vring ring;
    struct virtq q;
};

static int set_up(void **ctx)
{
    struct fixture *f = calloc(1, sizeof(*f));

    assert_non_null(f);
    f->t = testvm_create(RAM);
    f->ring = vring_at(f->t, RING, SIZE);
    f->q = (struct virtq){ .mem = &f->t->vm->mem, .max_size = 256 };
    virtq_reset(&f->q);
    f->q.size = SIZE;
    f->q.desc = f->ring.desc;
    f->q.avail = f->ring.avail;
    f->q.used = f->ring.used;
    f->q.indirect = true;
    f->q.ready = true;
    assert_true(virtq_valid(&f->q));
    *ctx = f;
    return 0;
}

static int tear_down(void **ctx)
{
    struct fixture *f = *ctx;

    testvm_destroy(f->t);
    free(f);
    return 0;
}

static void test_pop_push(void **ctx)
{
    struct fixture *f = *ctx;
    struct virtq_elem el;

    assert_int_equal(virtq_pop(&f->q, &el), 0);
    vring_desc(&f->ring, 3, DATA, 16, VRING_NEXT, 5);
    vring_desc(&f->ring, 5, DATA + 0x100, 512, VRING_NEXT | VRING_WRITE, 0);
    vring_desc(&f->ring, 0, DATA + 0x400, 1, VRING_WRITE, 7);
    vring_offer(&f->ring, 3);
    assert_int_equal(virtq_pop(&f->q, &el), 1);
    assert_int_equal(el.head, 3);
    assert_int_equal(el.n_out, 1);
    assert_int_equal(el.n_in, 2);
    assert_int_equal(el.out_len, 16);
    assert_int_equal(el.in_len, 513);
    assert_ptr_equal(el.iov[1].iov_base, f->t->ram.hva + DATA + 0x100);
    assert_int_equal(el.gpa[2], DATA + 0x400);
    virtq_push(&f->q, &el, 513);
    virtq_elem_fini(&el);
    assert_int_equal(vring_used_idx(&f->ring), 1);
    assert_int_equal(vring_used_id(&f->ring, 0), 3);
    assert_int_equal(vring_used_len(&f->ring, 0), 513);
    assert_int_equal(virtq_pop(&f->q, &el), 0);
}

static void test_wrap(void **ctx)
{
    struct fixture *f = *ctx;
    struct virtq_elem el;

    vring_desc(&f->ring, 2, DATA, 16, 0, 0);
    for (unsigned i = 0; i < 70000; i++) { /* past 2^16 */
        vring_offer(&f->ring, 2);
        assert_int_equal(virtq_pop(&f->q, &el), 1);
        virtq_push(&f->q, &el, 0);
        virtq_elem_fini(&el);
    }
    assert_int_equal(vring_used_idx(&f->ring), 70000 & 0xffff);
}

static void test_indirect(void **ctx)
{
    struct fixture *f = *ctx;
    uint64_t table = DATA + 0x1000;
    struct virtq_elem el;

    for (unsigned i = 0; i < 100; i++) /* longer than the ring is allowed: many drivers do that */
        vring_put_desc(&f->ring, table, i, DATA, 4, i < 99 ? VRING_NEXT : VRING_WRITE, i + 1);
    vring_desc(&f->ring, 1, table, 100 * 16, VRING_INDIRECT, 0);
    vring_offer(&f->ring, 1);
    assert_int_equal(virtq_pop(&f->q, &el), 1);
    assert_int_equal(el.n_out, 99);
    assert_int_equal(el.n_in, 1);
    assert_int_equal(el.gpa[98], DATA);
    virtq_elem_fini(&el);
}

/* Offers chain 0 and expects the ring to be found broken. */
static void expect_broken(struct fixture *f)
{
    struct virtq_elem el;

    vring_offer(&f->ring, 0);
    assert_int_equal(virtq_pop(&f->q, &el), -EINVAL);
    assert_null(el.iov);
    f->q.last_avail = ld_le16(f->ring.ram + f->ring.avail + 2);
}

static void test_hostile_chains(void **ctx)
{
    struct fixture *f = *ctx;
    uint64_t table = DATA + 0x1000;

    vring_desc(&f->ring, 0, DATA, 16, VRING_NEXT, 0); /* a loop */
    expect_broken(f);
    vring_desc(&f->ring, 0, DATA, 16, VRING_NEXT, SIZE); /* outside the table */
    expect_broken(f);
    vring_desc(&f->ring, 0, RAM, 16, 0, 0); /* no memory */
    expect_broken(f);
    vring_desc(&f->ring, 0, RAM - 8, 16, VRING_WRITE, 0); /* beyond its end */
    expect_broken(f);
    vring_desc(&f->ring, 0, UINT64_MAX - 7, 16, 0, 0); /* wraps */
    expect_broken(f);
    vring_desc(&f->ring, 0, DATA, 0, 0, 0); /* nothing */
    expect_broken(f);
    vring_desc(&f->ring, 0, DATA, 16, VRING_WRITE | VRING_NEXT, 1);
    vring_desc(&f->ring, 1, DATA, 16, 0, 0); /* readable after writable */
    expect_broken(f);
    vring_desc(&f->ring, 0, table, 15, VRING_INDIRECT, 0); /* no whole entry */
    expect_broken(f);
    vring_desc(&f->ring, 0, table, 0, VRING_INDIRECT, 0);
    expect_broken(f);
    vring_desc(&f->ring, 0, table, 0xfffffff0, VRING_INDIRECT, 0);
    vring_put_desc(&f->ring, table, 0, DATA, 1, VRING_NEXT, 0); /* a long loop */
    expect_broken(f);
    vring_desc(&f->ring, 0, table, 32, VRING_INDIRECT | VRING_NEXT, 1);
    expect_broken(f);
    vring_desc(&f->ring, 0, table, 32, VRING_INDIRECT, 0);
    vring_put_desc(&f->ring, table, 0, table, 32, VRING_INDIRECT, 0); /* tables in tables */
    expect_broken(f);
    f->q.indirect = false;
    vring_put_desc(&f->ring, table, 0, DATA, 4, 0, 0); /* fine, but not negotiated */
    expect_broken(f);
}

static void test_hostile_rings(void **ctx)
{
    struct fixture *f = *ctx;
    struct virtq_elem el;

    vring_offer(&f->ring, SIZE); /* a head outside the table */
    assert_int_equal(virtq_pop(&f->q, &el), -EINVAL);
    st_le16(f->ring.ram + f->ring.avail + 2, SIZE + 1); /* more buffers than entries */
    assert_int_equal(virtq_pop(&f->q, &el), -EINVAL);
    f->q.avail = RAM - 2; /* as after a state was loaded into a smaller machine */
    assert_false(virtq_valid(&f->q));
    assert_int_equal(virtq_pop(&f->q, &el), -EINVAL);
    f->q.used = RAM;
    virtq_push(&f->q, &(struct virtq_elem){ 0 }, 0);
    assert_false(virtq_should_notify(&f->q));
}

static void test_validity(void **ctx)
{
    struct fixture *f = *ctx;
    struct virtq *q = &f->q;

    q->desc += 8;
    assert_false(virtq_valid(q));
    q->desc -= 8;
    q->avail += 1;
    assert_false(virtq_valid(q));
    q->avail -= 1;
    q->used += 2;
    assert_false(virtq_valid(q));
    q->used -= 2;
    q->size = 3;
    assert_false(virtq_valid(q));
    q->size = 512; /* above the maximum */
    assert_false(virtq_valid(q));
    q->size = 0;
    assert_false(virtq_valid(q));
    q->size = 256;
    assert_true(virtq_valid(q));
}

static void push_one(struct fixture *f)
{
    struct virtq_elem el;

    vring_offer(&f->ring, 0);
    assert_int_equal(virtq_pop(&f->q, &el), 1);
    virtq_push(&f->q, &el, 0);
    virtq_elem_fini(&el);
}

static void test_interrupt_flag(void **ctx)
{
    struct fixture *f = *ctx;

    vring_desc(&f->ring, 0, DATA, 16, 0, 0);
    push_one(f);
    assert_true(virtq_should_notify(&f->q));
    assert_false(virtq_should_notify(&f->q)); /* nothing new */
    st_le16(f->ring.ram + f->ring.avail, 1);
    push_one(f);
    assert_false(virtq_should_notify(&f->q));
}

static void test_interrupt_event(void **ctx)
{
    struct fixture *f = *ctx;
    uint8_t *used_event = f->ring.ram + f->ring.avail + 4 + 2 * SIZE;

    f->q.event_idx = true;
    vring_desc(&f->ring, 0, DATA, 16, 0, 0);
    push_one(f);
    assert_true(virtq_should_notify(&f->q)); /* the first always */
    st_le16(used_event, 2);                  /* "tell me when entry 2 is used" */
    push_one(f);
    assert_false(virtq_should_notify(&f->q));
    push_one(f);
    assert_true(virtq_should_notify(&f->q));
    push_one(f);
    assert_false(virtq_should_notify(&f->q));
    st_le16(used_event, 5);
    for (unsigned i = 0; i < 4; i++) /* passed in one batch */
        push_one(f);
    assert_true(virtq_should_notify(&f->q));
}

static void test_kick_suppression(void **ctx)
{
    struct fixture *f = *ctx;
    const uint8_t *avail_event = f->ring.ram + f->ring.used + 4 + 8 * SIZE;
    const uint8_t *flags = f->ring.ram + f->ring.used;
    struct virtq_elem el;

    vring_desc(&f->ring, 0, DATA, 16, 0, 0);
    assert_false(virtq_set_notify(&f->q, false));
    assert_int_equal(ld_le16(flags), 1);
    vring_offer(&f->ring, 0);
    assert_true(virtq_set_notify(&f->q, true)); /* came in meanwhile */
    assert_int_equal(ld_le16(flags), 0);
    f->q.event_idx = true;
    assert_int_equal(virtq_pop(&f->q, &el), 1);
    virtq_elem_fini(&el);
    assert_int_equal(ld_le16(avail_event), 0); /* busy: no kick wanted */
    assert_int_equal(virtq_pop(&f->q, &el), 0);
    assert_int_equal(ld_le16(avail_event), 1); /* empty: kick for the next */
}

static void test_state(void **ctx)
{
    struct fixture *f = *ctx;
    struct virtq loaded = f->q;
    struct state out, in;

    vring_desc(&f->ring, 0, DATA, 16, 0, 0);
    push_one(f);
    state_init_save(&out);
    state_begin(&out, "q", "q", 1);
    virtq_state(&f->q, &out);
    state_end(&out);
    virtq_reset(&loaded);
    loaded.indirect = true;
    state_init_load(&in, out.buf, out.len);
    state_begin(&in, "q", "q", 1);
    virtq_state(&loaded, &in);
    state_end(&in);
    assert_int_equal(state_error(&in), 0);
    assert_memory_equal(&loaded, &f->q, sizeof(loaded));
    loaded.max_size = 4; /* smaller than what was saved */
    state_init_load(&in, out.buf, out.len);
    state_begin(&in, "q", "q", 1);
    virtq_state(&loaded, &in);
    assert_int_not_equal(state_error(&in), 0);
    assert_false(loaded.ready);
    state_fini(&out);
}

static uint32_t next_random(uint64_t *seed)
{
    return (uint32_t)(rnd_next(seed) >> 32);
}

/* Small values often, so that chains get somewhere before they break. */
static void scribble(struct fixture *f, uint64_t *seed)
{
    for (unsigned i = 0; i < SIZE; i++) {
        uint32_t r = next_random(seed), odd = next_random(seed);

        vring_desc(&f->ring, i, odd & 7 ? DATA + (r & 0xfff) : (uint64_t)odd << (r & 31),
                   odd & 0x70 ? r >> 24 : odd, r >> 16 & 7, odd & 0x700 ? r >> 20 & 7 : odd >> 8);
        vring_put_desc(&f->ring, DATA, i, DATA + (odd & 0xffff), r >> 8 & 0xff, odd >> 16 & 3,
                       r & 7);
    }
    for (unsigned off = 0; off < 4 + 2 * SIZE; off += 2)
        st_le16(f->ring.ram + f->ring.avail + off,
                (uint16_t)(next_random(seed) & (next_random(seed) & 31 ? SIZE - 1 : 0xffff)));
}

/* Whatever is in the rings: no crash, no endless loop, and what comes out lies in RAM. */
static void test_random_rings(void **ctx)
{
    struct fixture *f = *ctx;
    unsigned popped = 0, broken = 0;
    uint64_t seed = 42;

    for (unsigned round = 0; round < 20000; round++) {
        scribble(f, &seed);
        f->q.last_avail = (uint16_t)next_random(&seed);
        st_le16(f->ring.ram + f->ring.avail + 2,
                (uint16_t)(f->q.last_avail + next_random(&seed) % (SIZE + 2)));
        f->q.event_idx = round & 1;
        for (unsigned i = 0; i < 2 * SIZE; i++) {
            struct virtq_elem el;
            int rc = virtq_pop(&f->q, &el);

            broken += rc < 0;
            if (rc != 1)
                break;
            popped++;
            for (unsigned k = 0; k < el.n_out + el.n_in; k++)
                assert_true(el.gpa[k] < RAM && el.iov[k].iov_len <= RAM - el.gpa[k]);
            virtq_push(&f->q, &el, next_random(&seed));
            virtq_should_notify(&f->q);
            virtq_elem_fini(&el);
        }
    }
    assert_in_range(popped, 1000, UINT32_MAX);
    assert_in_range(broken, 1000, UINT32_MAX);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_pop_push, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_wrap, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_indirect, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_hostile_chains, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_hostile_rings, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_validity, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_interrupt_flag, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_interrupt_event, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_kick_suppression, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_state, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_random_rings, set_up, tear_down),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
