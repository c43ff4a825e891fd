#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>

#include "rnd.h"
#include "virtio_driver.h"

enum { RAM = 0x100000, RING = 0x10000, DATA = 0x40000, SIZE = 8, SLOT = PCI_DEVFN(2, 0) };
#define TOY_FEATURE BIT64(5)
#define COMMON      (VIRTIO_F_VERSION_1 | VIRTIO_F_EVENT_IDX | VIRTIO_F_INDIRECT_DESC)

/* Queue 0 echoes at once; queue 1 keeps what it gets until toy_finish(). */
struct toy {
    struct virtio v;
    struct virtq_elem kept;
    bool keeps;
    unsigned kicks, starts, resets, quiesces, config_writes;
};

struct fixture {
    struct testvm *t;
    struct pci_bus *bus;
    struct toy *toy;
    struct vdrv d;
    struct vring ring[2];
};

static struct toy *toy_of(struct virtio *v)
{
    return container_of(v, struct toy, v);
}

static void toy_kick(struct virtio *v, unsigned queue)
{
    struct toy *toy = toy_of(v);
    struct virtq_elem el;

    toy->kicks++;
    while (!(queue == 1 && toy->keeps) && virtio_pop(v, queue, &el)) {
        if (queue == 1) {
            toy->kept = el;
            toy->keeps = true;
            virtio_hold(v);
            return;
        }
        if (el.n_in)
            memset(el.iov[el.n_out].iov_base, 0x5a, el.iov[el.n_out].iov_len);
        virtio_push(v, queue, &el, (uint32_t)el.in_len);
        virtq_elem_fini(&el);
    }
    virtio_interrupt(v, queue);
}

static void toy_finish(struct toy *toy)
{
    pthread_mutex_lock(&toy->v.dev->lock);
    if (toy->keeps) {
        virtio_push(&toy->v, 1, &toy->kept, 0);
        virtq_elem_fini(&toy->kept);
        toy->keeps = false;
        virtio_interrupt(&toy->v, 1);
        virtio_unhold(&toy->v);
    }
    pthread_mutex_unlock(&toy->v.dev->lock);
}

static void toy_start(struct virtio *v)
{
    toy_of(v)->starts++;
}

static void toy_reset(struct virtio *v)
{
    toy_of(v)->resets++;
}

static void toy_quiesce(struct virtio *v)
{
    toy_of(v)->quiesces++;
    toy_finish(toy_of(v));
}

static void toy_config_written(struct virtio *v, unsigned off, unsigned size)
{
    (void)off;
    (void)size;
    toy_of(v)->config_writes++;
}

static const struct virtio_class toy_class = {
    .name = "virtio-toy",
    .version = 1,
    .id = 42,
    .pci_class = 0xff0000,
    .kick = toy_kick,
    .start = toy_start,
    .reset = toy_reset,
    .quiesce = toy_quiesce,
    .config_written = toy_config_written,
};

static int set_up(void **ctx)
{
    struct fixture *f = calloc(1, sizeof(*f));

    assert_non_null(f);
    f->t = testvm_create(RAM);
    f->bus = testvm_pci(f->t);
    f->toy = calloc(1, sizeof(*f->toy));
    assert_non_null(f->toy);
    virtio_init(&f->toy->v, &toy_class, vm_mem(f->t->vm), 2, 64);
    f->toy->v.offered |= TOY_FEATURE;
    f->toy->v.config_len = 6;
    memcpy(f->toy->v.config, "config", 6);
    assert_int_equal(virtio_pci_add(f->bus, &f->toy->v, SLOT, "toy", NULL), 0);
    f->d = vdrv_find(f->t, f->bus, SLOT);
    for (unsigned i = 0; i < 2; i++)
        f->ring[i] = vring_at(f->t, RING + 0x10000 * i, SIZE);
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

static void bring_up(struct fixture *f, uint64_t features)
{
    assert_true(vdrv_negotiate(&f->d, features));
    vdrv_set_queue(&f->d, 0, &f->ring[0], 0xffff);
    vdrv_set_queue(&f->d, 1, &f->ring[1], 0xffff);
    vdrv_start(&f->d);
    assert_int_equal(vdrv_status(&f->d), 15);
}

/* Offset of the nth virtio capability of a type, 0 if there is none. */
static unsigned find_cap(struct fixture *f, uint8_t type)
{
    const uint8_t *cfg = f->d.pci->cfg;

    for (unsigned at = cfg[PCI_CAP_PTR]; at; at = cfg[at + 1])
        if (cfg[at] == PCI_CAP_VENDOR && cfg[at + 3] == type)
            return at;
    return 0;
}

static void test_discovery(void **ctx)
{
    struct fixture *f = *ctx;
    const uint8_t *cfg = f->d.pci->cfg;

    assert_int_equal(ld_le16(cfg), 0x1af4);
    assert_int_equal(ld_le16(cfg + 2), 0x1040 + 42);
    assert_int_equal(cfg[PCI_REVISION], 1);
    for (uint8_t type = 1; type <= 5; type++)
        assert_int_not_equal(find_cap(f, type), 0);
    assert_int_equal(ld_le32(cfg + find_cap(f, 4) + 12), 6); /* as long as the configuration */
    assert_int_equal(ld_le32(cfg + find_cap(f, 2) + 16), 4); /* notify multiplier */
    assert_int_equal(ld_le32(cfg + find_cap(f, 1) + 8), VDRV_COMMON);
    assert_int_equal(vdrv_read(&f->d, 0x12, 2), 2); /* queues */
    assert_int_equal(vdrv_offered(&f->d), COMMON | TOY_FEATURE);
    vdrv_write(&f->d, 0x00, 4, 2);
    assert_int_equal(vdrv_read(&f->d, 0x04, 4), 0); /* no features above 63 */
    vdrv_write(&f->d, 0x16, 2, 1);
    assert_int_equal(vdrv_read(&f->d, 0x18, 2), 64);
    assert_int_equal(vdrv_read(&f->d, 0x1e, 2), 1);
    vdrv_write(&f->d, 0x16, 2, 2); /* no such queue */
    assert_int_equal(vdrv_read(&f->d, 0x18, 2), 0);
}

static void test_negotiation(void **ctx)
{
    struct fixture *f = *ctx;

    assert_false(vdrv_negotiate(&f->d, VIRTIO_F_VERSION_1 | BIT64(6))); /* not offered */
    assert_false(vdrv_negotiate(&f->d, TOY_FEATURE));                   /* a legacy driver */
    assert_true(vdrv_negotiate(&f->d, VIRTIO_F_VERSION_1 | TOY_FEATURE));
    vdrv_write(&f->d, 0x08, 4, 0);
    vdrv_write(&f->d, 0x0c, 4, 0); /* too late */
    assert_true(virtio_has(&f->toy->v, TOY_FEATURE));
    assert_int_equal(f->toy->starts, 0);
    vdrv_start(&f->d);
    assert_int_equal(f->toy->starts, 1);
    vdrv_write(&f->d, VDRV_STATUS, 1, 1); /* bits cannot be taken back one by one */
    assert_int_equal(vdrv_status(&f->d), 15);
    vdrv_write(&f->d, VDRV_STATUS, 1, 0);
    assert_int_equal(vdrv_status(&f->d), 0);
    vdrv_write(&f->d, VDRV_STATUS, 1, 7); /* DRIVER_OK, but never FEATURES_OK */
    assert_int_equal(vdrv_status(&f->d), 3 | VIRTIO_NEEDS_RESET);
}

static void test_config(void **ctx)
{
    struct fixture *f = *ctx;
    uint8_t generation = (uint8_t)vdrv_read(&f->d, 0x15, 1);

    assert_int_equal(vdrv_read(&f->d, VDRV_CONFIG, 4), ld_le32("conf"));
    assert_int_equal(vdrv_read(&f->d, VDRV_CONFIG + 6, 1), 0);
    assert_int_equal(vdrv_read(&f->d, VDRV_CONFIG + 4, 4), 0); /* half outside */
    vdrv_write(&f->d, VDRV_CONFIG, 1, 'C');
    vdrv_write(&f->d, VDRV_CONFIG + 4, 4, 0);
    assert_int_equal(f->toy->config_writes, 1);
    assert_int_equal(vdrv_read(&f->d, VDRV_CONFIG, 1), 'C');
    bring_up(f, VIRTIO_F_VERSION_1);
    virtio_config_changed(&f->toy->v);
    assert_int_equal((uint8_t)vdrv_read(&f->d, 0x15, 1), (uint8_t)(generation + 1));
    assert_int_equal(vdrv_read(&f->d, VDRV_ISR, 1), 2);
}

static void echo(struct fixture *f)
{
    vring_desc(&f->ring[0], 0, DATA, 64, VRING_WRITE, 0);
    vring_offer(&f->ring[0], 0);
    vdrv_kick(&f->d, 0);
}

static void test_intx(void **ctx)
{
    struct fixture *f = *ctx;

    bring_up(f, VIRTIO_F_VERSION_1);
    echo(f);
    assert_int_equal(f->t->ram.hva[DATA + 63], 0x5a);
    assert_int_equal(vring_used_idx(&f->ring[0]), 1);
    assert_true(testvm_inta(f->t, 2));
    assert_int_equal(vdrv_read(&f->d, VDRV_ISR, 1), 1);
    assert_false(testvm_inta(f->t, 2));
    assert_int_equal(vdrv_read(&f->d, VDRV_ISR, 1), 0);
}

static void enable_msix(struct fixture *f)
{
    uint64_t table = f->d.pci->bar[0].mapped_at;

    for (unsigned i = 0; i < 3; i++) {
        testvm_write(f->t, table + 16 * i, 8, 0xfee00000);
        testvm_write(f->t, table + 16 * i + 8, 8, 0x50 + i);
    }
    f->d.pci->cfg[f->d.pci->msix.cap + 3] |= 0x80;
}

static void test_msix(void **ctx)
{
    struct fixture *f = *ctx;

    enable_msix(f);
    assert_true(vdrv_negotiate(&f->d, COMMON));
    vdrv_set_queue(&f->d, 0, &f->ring[0], 1);
    vdrv_write(&f->d, 0x10, 2, 2);
    assert_int_equal(vdrv_read(&f->d, 0x10, 2), 2);
    vdrv_write(&f->d, 0x1a, 2, 3); /* no such vector: the driver reads that back */
    assert_int_equal(vdrv_read(&f->d, 0x1a, 2), 0xffff);
    vdrv_write(&f->d, 0x1a, 2, 1);
    vdrv_start(&f->d);
    echo(f);
    assert_int_equal(f->t->n_msi, 1);
    assert_int_equal(f->t->msi_data, 0x51);
    assert_int_equal(vdrv_read(&f->d, VDRV_ISR, 1), 0);
    echo(f);
    assert_int_equal(f->t->n_msi, 1); /* event index: it asked for entry 0 only */
    virtio_config_changed(&f->toy->v);
    assert_int_equal(f->t->msi_data, 0x52);
}

static void test_broken_ring(void **ctx)
{
    struct fixture *f = *ctx;

    bring_up(f, VIRTIO_F_VERSION_1);
    vring_offer(&f->ring[0], SIZE + 3);
    vdrv_kick(&f->d, 0);
    assert_int_equal(vdrv_status(&f->d), 15 | VIRTIO_NEEDS_RESET);
    assert_int_equal(vdrv_read(&f->d, VDRV_ISR, 1), 2); /* "look at my status" */
    f->toy->kicks = 0;
    echo(f);
    assert_int_equal(f->toy->kicks, 0); /* dead until reset */
    f->ring[0] = vring_at(f->t, RING, SIZE);
    bring_up(f, VIRTIO_F_VERSION_1);
    echo(f);
    assert_int_equal(vring_used_idx(&f->ring[0]), 1);
}

static void test_bad_queues(void **ctx)
{
    struct fixture *f = *ctx;
    struct vring bad = f->ring[0];

    assert_true(vdrv_negotiate(&f->d, VIRTIO_F_VERSION_1));
    bad.avail = RAM;
    vdrv_set_queue(&f->d, 0, &bad, 0);
    assert_int_equal(vdrv_read(&f->d, 0x1c, 2), 0);
    assert_int_equal(vdrv_status(&f->d), 11 | VIRTIO_NEEDS_RESET);
    assert_true(vdrv_negotiate(&f->d, VIRTIO_F_VERSION_1));
    bad = f->ring[0];
    bad.size = 128;
    vdrv_set_queue(&f->d, 0, &bad, 0);
    assert_int_equal(vdrv_status(&f->d), 11 | VIRTIO_NEEDS_RESET);
    vdrv_kick(&f->d, 0);
    vdrv_kick(&f->d, 63);
    assert_int_equal(f->toy->kicks, 0);
}

static void test_reset_waits(void **ctx)
{
    struct fixture *f = *ctx;

    bring_up(f, VIRTIO_F_VERSION_1);
    vring_desc(&f->ring[1], 0, DATA, 64, VRING_WRITE, 0);
    vring_offer(&f->ring[1], 0);
    vdrv_kick(&f->d, 1);
    assert_int_equal(f->toy->v.held, 1);
    vdrv_write(&f->d, VDRV_STATUS, 1, 0);
    assert_int_not_equal(vdrv_status(&f->d), 0); /* something may still write to memory */
    toy_finish(f->toy);
    assert_int_equal(vdrv_status(&f->d), 0);
    assert_int_equal(vring_used_idx(&f->ring[1]), 0); /* the driver has forgotten it */
    assert_int_equal(f->toy->v.vq[1].ready, false);
}

static void test_cfg_window(void **ctx)
{
    struct fixture *f = *ctx;
    unsigned cap = find_cap(f, 5);
    uint32_t select = 0x80000000u | SLOT << 8;

    testvm_out(f->t, 0xcf8, 4, select | (cap + 4));
    testvm_out(f->t, 0xcfc, 1, 4); /* BAR 4 */
    testvm_out(f->t, 0xcf8, 4, select | (cap + 8));
    testvm_out(f->t, 0xcfc, 4, VDRV_STATUS);
    testvm_out(f->t, 0xcf8, 4, select | (cap + 12));
    testvm_out(f->t, 0xcfc, 4, 1);
    testvm_out(f->t, 0xcf8, 4, select | (cap + 16));
    testvm_out(f->t, 0xcfc, 1, 3);
    assert_int_equal(testvm_in(f->t, 0xcfc, 1), 3);
    assert_int_equal(vdrv_status(&f->d), 3);
    testvm_out(f->t, 0xcf8, 4, select | (cap + 12));
    testvm_out(f->t, 0xcfc, 4, 0xffffffff); /* no such length */
    testvm_out(f->t, 0xcf8, 4, select | (cap + 16));
    testvm_out(f->t, 0xcfc, 1, 0);
    assert_int_equal(vdrv_status(&f->d), 3);
}

static void save(struct fixture *f, struct state *s)
{
    state_init_save(s);
    device_state(&f->d.pci->dev, s);
    assert_int_equal(state_error(s), 0);
}

static void test_state(void **ctx)
{
    struct fixture *f = *ctx;
    struct state first, second, in;

    bring_up(f, COMMON);
    echo(f);
    device_quiesce_all(f->t->vm->devices);
    save(f, &first);
    device_reset_all(f->t->vm->devices);
    device_sync_all(f->t->vm->devices);
    assert_int_equal(f->toy->v.status, 0);
    state_init_load(&in, first.buf, first.len);
    device_state(&f->d.pci->dev, &in);
    assert_int_equal(state_error(&in), 0);
    save(f, &second);
    assert_int_equal(first.len, second.len);
    assert_memory_equal(first.buf, second.buf, first.len);
    device_sync_all(f->t->vm->devices);
    assert_true(testvm_inta(f->t, 2)); /* the interrupt is still pending */
    f->toy->kicks = 0;
    loop_poll(f->t->vm->loop, 0); /* and kicks that got lost are made up for */
    assert_true(f->toy->kicks > 0);
    echo(f);
    assert_int_equal(vring_used_idx(&f->ring[0]), 2);
    state_fini(&first);
    state_fini(&second);
}

static void test_paused(void **ctx)
{
    struct fixture *f = *ctx;

    bring_up(f, COMMON);
    device_quiesce_all(f->t->vm->devices);
    echo(f); /* a late doorbell */
    assert_int_equal(vring_used_idx(&f->ring[0]), 0);
    device_sync_all(f->t->vm->devices);
    loop_poll(f->t->vm->loop, 0);
    assert_int_equal(vring_used_idx(&f->ring[0]), 1);
}

static void test_garbage(void **ctx)
{
    struct fixture *f = *ctx;
    uint64_t seed = 7;

    for (unsigned i = 0; i < 50000; i++) {
        uint32_t r = (uint32_t)(rnd_next(&seed) >> 32);

        if (r & 1)
            vdrv_read(&f->d, (r >> 8 & 0x3000) | (r >> 1 & 0x3f), 1u << (r >> 30));
        else
            vdrv_write(&f->d, (r >> 8 & 0x3000) | (r >> 1 & 0x3f), 1u << (r >> 30), seed >> 11);
        toy_finish(f->toy);
    }
    f->ring[0] = vring_at(f->t, RING, SIZE);
    bring_up(f, COMMON);
    echo(f);
    assert_int_equal(vring_used_idx(&f->ring[0]), 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_discovery, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_negotiation, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_config, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_intx, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_msix, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_broken_ring, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_bad_queues, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_reset_waits, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_cfg_window, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_state, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_paused, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_garbage, set_up, tear_down),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
