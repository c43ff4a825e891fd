#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "virtio/virtio_rng.h"
#include "virtio_driver.h"

enum { RAM = 0x200000, RING = 0x10000, DATA = 0x80000, SIZE = 8, SLOT = PCI_DEVFN(4, 0) };

/* Asks for len bytes in two pieces and returns how many came. */
static uint32_t ask(struct vdrv *d, struct vring *r, uint32_t len)
{
    uint16_t used = vring_used_idx(r);

    vring_desc(r, 0, DATA, len / 4, VRING_WRITE | VRING_NEXT, 1);
    vring_desc(r, 1, DATA + len / 4, len - len / 4, VRING_WRITE, 0);
    vring_offer(r, 0);
    vdrv_kick(d, 0);
    assert_int_equal(vring_used_idx(r), (uint16_t)(used + 1));
    return vring_used_len(r, used);
}

static void test_entropy(void **ctx)
{
    struct testvm *t = testvm_create(RAM);
    struct pci_bus *bus = pci_bus_create(t->vm, NULL);
    struct vring ring;
    struct vdrv d;
    uint8_t first[64];

    (void)ctx;
    assert_int_equal(virtio_rng_create(bus, SLOT, "rng0", NULL), 0);
    d = vdrv_find(t, bus, SLOT);
    ring = vring_at(t, RING, SIZE);
    assert_int_equal(ld_le16(d.pci->cfg + 2), 0x1044);
    assert_true(vdrv_negotiate(&d, VIRTIO_F_VERSION_1));
    vdrv_set_queue(&d, 0, &ring, 0xffff);
    vdrv_start(&d);
    assert_int_equal(ask(&d, &ring, 64), 64);
    memcpy(first, t->ram.hva + DATA, 64);
    assert_int_equal(ask(&d, &ring, 64), 64);
    assert_memory_not_equal(first, t->ram.hva + DATA, 64);
    assert_int_equal(t->ram.hva[DATA + 64], 0);
    assert_int_equal(ask(&d, &ring, 1 << 20), 64 * KIB); /* in portions */
    testvm_destroy(t);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_entropy),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
