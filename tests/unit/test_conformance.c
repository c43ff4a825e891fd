/*
 * What every device must do, whatever it is: save, load, save gives the same bytes; a reset gives a fresh
 * device; quiesce and sync may come twice; and no access, timer or broken snapshot makes it crash.
 * Random, with fixed seeds. A new device adds one line to the table at the end.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <string.h>
#include <unistd.h>

#include "bus/pci.h"
#include "chardev/chardev.h"
#include "hw/acpi_pm.h"
#include "hw/ahci.h"
#include "hw/debug_exit.h"
#include "hw/debugcon.h"
#include "hw/e1000.h"
#include "hw/fdc.h"
#include "hw/fw_cfg.h"
#include "hw/hpet.h"
#include "hw/i440fx.h"
#include "hw/i8042.h"
#include "hw/i8254.h"
#include "hw/i8259.h"
#include "hw/ide.h"
#include "hw/ioapic.h"
#include "hw/isa_misc.h"
#include "hw/mc146818.h"
#include "hw/ns16550.h"
#include "hw/nvme.h"
#include "hw/parport.h"
#include "hw/pflash.h"
#include "hw/piix3.h"
#include "hw/piix4_pm.h"
#include "hw/pvpanic.h"
#include "hw/rtl8139.h"
#include "hw/testdev.h"
#include "hw/uhci.h"
#include "hw/usb_hid.h"
#include "hw/usb_msc.h"
#include "hw/vga.h"
#include "hw/xhci.h"
#include "testvm.h"
#include "virtio/virtio_blk.h"
#include "virtio/virtio_console.h"
#include "virtio/virtio_net.h"
#include "virtio/virtio_rng.h"
#include "virtio/virtio_scsi.h"

enum { ROUNDS = 8, ACCESSES = 4000, BROKEN_IMAGES = 300 };

struct rig {
    struct testvm *t;
    struct loop *chr_loop; /* the character device outlives the VM, so it has a loop of its own */
    struct chardev *chr;
    bool wire[HPET_GSIS];
    struct ram_region flash; /* or a VGA's memory */
    unsigned seed;
};
struct conformance {
    const char *name;
    void (*create)(struct rig *r, struct err *e);
    bool survives_reset; /* a battery or a free-running counter: a reset is not power-on */
};
static const struct conformance
    *the_case; /* cmocka's initial state would do, if it knew of names */

/* --- a VM with the device in it --- */

static void rig_wire(void *chip, unsigned pin, bool level)
{
    ((struct rig *)chip)->wire[pin] = level;
}

static struct irq rig_irq(struct rig *r, unsigned pin)
{
    return (struct irq){ rig_wire, r, pin };
}

static struct rig *rig_create(const struct conformance *c)
{
    struct rig *r = calloc(1, sizeof(*r));
    struct err e = { 0 };

    assert_non_null(r);
    r->seed = 1;
    r->t = testvm_create(MIB);
    r->chr_loop = loop_create(&e);
    assert_non_null(r->chr_loop);
    c->create(r, &e);
    assert_string_equal(e.msg, "");
    assert_non_null(r->t->vm->devices);
    device_sync_all(r->t->vm->devices);
    return r;
}

static void rig_destroy(struct rig *r)
{
    testvm_destroy(r->t);
    chardev_close(r->chr);
    loop_destroy(r->chr_loop);
    ram_free(&r->flash);
    free(r);
}

static uint32_t rig_random(struct rig *r)
{
    return (uint32_t)rand_r(&r->seed) << 16 ^ (uint32_t)rand_r(&r->seed);
}

/* --- what is done to it --- */

static void save(struct rig *r, struct state *s)
{
    state_init_save(s);
    device_state_all(r->t->vm->devices, s);
    assert_int_equal(state_error(s), 0);
}

static int load(struct rig *r, const void *buf, size_t len)
{
    struct state s;
    int rc;

    state_init_load(&s, buf, len);
    device_state_all(r->t->vm->devices, &s);
    rc = state_error(&s);
    state_fini(&s);
    return rc;
}

static void assert_same(const struct state *a, const struct state *b)
{
    assert_int_equal(a->len, b->len);
    assert_memory_equal(a->buf, b->buf, a->len);
}

/* One access of any size, mostly inside a device's range, sometimes across its end. */
static void poke(struct rig *r, struct bus *b)
{
    static const uint64_t values[] = { 0, 1, 0xff, 0x8000, 0xffffffff, ~0ull };
    uint32_t x = rig_random(r);
    uint64_t val = x & 8 ? values[(x >> 4) % ARRAY_SIZE(values)] : rig_random(r);
    unsigned size = b == &r->t->vm->pio ? 1u << (x & 3) % 3 : 1u << (x & 3);
    const struct bus_range *range;
    uint64_t addr;

    if (!b->n)
        return;
    range = &b->range[rig_random(r) % b->n];
    addr = range->base + rig_random(r) % range->len;
    if (x & 0x100)
        addr &= ~(uint64_t)(size - 1);
    if (x & 0x200)
        bus_read(b, addr, size, &val);
    else
        bus_write(b, addr, size, &val);
}

static void play(struct rig *r, unsigned accesses)
{
    for (unsigned i = 0; i < accesses; i++) {
        poke(r, rig_random(r) & 1 ? &r->t->vm->pio : &r->t->vm->mmio);
        if (i % 64 == 0)
            clock_advance(r->t->vm->clock, rig_random(r) >> (rig_random(r) % 24));
    }
}

/* --- the rules --- */

static void test_save_load_save(void **ctx)
{
    struct rig *r = rig_create(the_case);
    struct state a, b;

    (void)ctx;
    for (int i = 0; i < ROUNDS; i++) {
        play(r, ACCESSES);
        save(r, &a);
        assert_int_equal(load(r, a.buf, a.len), 0);
        save(r, &b);
        assert_same(&a, &b);
        device_sync_all(r->t->vm->devices);
        state_fini(&a);
        state_fini(&b);
    }
    rig_destroy(r);
}

/* Into a new VM at the same time; then both are treated alike and stay alike. */
static void test_load_elsewhere(void **ctx)
{
    struct rig *r = rig_create(the_case), *other = rig_create(the_case);
    struct clock *clock = other->t->vm->clock;
    struct state a, b;

    (void)ctx;
    play(r, ACCESSES);
    clock_set(clock, clock_now_ns(r->t->vm->clock), 0);
    save(r, &a);
    assert_int_equal(load(other, a.buf, a.len), 0);
    device_sync_all(r->t->vm->devices);
    device_sync_all(other->t->vm->devices);
    save(other, &b);
    state_fini(&a);
    save(r, &a);
    assert_same(&a, &b);
    state_fini(&a);
    state_fini(&b);
    for (int i = 0; i < 100; i++) {
        clock_advance(r->t->vm->clock, 1000000);
        clock_advance(clock, 1000000);
    }
    save(r, &a);
    save(other, &b);
    assert_same(&a, &b);
    state_fini(&a);
    state_fini(&b);
    rig_destroy(r);
    rig_destroy(other);
}

static void test_reset(void **ctx)
{
    struct rig *r = rig_create(the_case);
    struct state fresh, reset;

    (void)ctx;
    device_reset_all(r->t->vm->devices);
    save(r, &fresh);
    for (int i = 0; i < ROUNDS && !the_case->survives_reset; i++) {
        play(r, ACCESSES);
        device_reset_all(r->t->vm->devices);
        save(r, &reset);
        assert_same(&fresh, &reset);
        device_sync_all(r->t->vm->devices);
        state_fini(&reset);
    }
    play(r, ACCESSES);
    device_reset_all(r->t->vm->devices);
    state_fini(&fresh);
    save(r, &fresh);
    device_reset_all(r->t->vm->devices); /* a second one changes nothing, battery or not */
    save(r, &reset);
    assert_same(&fresh, &reset);
    state_fini(&fresh);
    state_fini(&reset);
    rig_destroy(r);
}

static void test_quiesce_and_sync_twice(void **ctx)
{
    struct rig *r = rig_create(the_case);
    struct state a, b;
    bool wire[HPET_GSIS];

    (void)ctx;
    play(r, ACCESSES);
    device_quiesce_all(r->t->vm->devices);
    device_quiesce_all(r->t->vm->devices);
    device_sync_all(r->t->vm->devices);
    save(r, &a);
    memcpy(wire, r->wire, sizeof(wire));
    device_sync_all(r->t->vm->devices);
    save(r, &b);
    assert_same(&a, &b);
    assert_memory_equal(wire, r->wire, sizeof(wire));
    state_fini(&a);
    state_fini(&b);
    rig_destroy(r);
}

/* A snapshot with flipped bits or cut short is refused or loaded, and the device lives on. */
static void test_broken_snapshots(void **ctx)
{
    struct rig *r = rig_create(the_case);
    struct state good;

    (void)ctx;
    play(r, ACCESSES);
    save(r, &good);
    for (int i = 0; i < BROKEN_IMAGES; i++) {
        uint8_t *bad = malloc(good.len);
        size_t len = i % 8 ? good.len : rig_random(r) % good.len;

        assert_non_null(bad);
        memcpy(bad, good.buf, good.len);
        for (uint32_t flips = rig_random(r) % 4 + 1; flips; flips--)
            bad[rig_random(r) % good.len] ^= (uint8_t)(1u << rig_random(r) % 8);
        if (load(r, bad, len) == 0) { /* a machine whose state was refused never runs */
            device_sync_all(r->t->vm->devices);
            play(r, 100);
        }
        free(bad);
        device_reset_all(r->t->vm->devices);
        device_sync_all(r->t->vm->devices);
    }
    assert_int_equal(load(r, good.buf, good.len), 0);
    state_fini(&good);
    rig_destroy(r);
}

/* --- the devices --- */

static void create_acpi_pm(struct rig *r, struct err *e)
{
    static const struct acpi_pm_sleep sleep = { 1, 5 };

    acpi_pm_create(r->t->vm, 0x600, 0x620, &sleep, rig_irq(r, 9), e);
}

static void create_debug_exit(struct rig *r, struct err *e)
{
    debug_exit_create(r->t->vm, 0xf4, e);
}

static void create_fw_cfg(struct rig *r, struct err *e)
{
    struct fw_cfg *f = fw_cfg_create(r->t->vm, 0x510, e);

    if (f && fw_cfg_add_file(f, "opt/test", "contents", 8, e))
        return;
}

static void create_hpet(struct rig *r, struct err *e)
{
    struct irq gsi[HPET_GSIS];

    for (unsigned i = 0; i < HPET_GSIS; i++)
        gsi[i] = rig_irq(r, i);
    hpet_create(r->t->vm, 0xfed00000, gsi, gsi, e);
}

static void create_i8042(struct rig *r, struct err *e)
{
    struct i8042 *k = i8042_create(r->t->vm, 0x60, 0x64, rig_irq(r, 1), e);

    if (k) {
        i8042_plug_keyboard(k, NULL);
        i8042_plug_mouse(k, rig_irq(r, 12), NULL);
    }
}

static void create_i8254(struct rig *r, struct err *e)
{
    i8254_create(r->t->vm, 0x40, 0x61, rig_irq(r, 0), e);
}

static void create_i8259(struct rig *r, struct err *e)
{
    i8259_create(r->t->vm, 0x20, 0xa0, 0x4d0, e);
}

static void create_ioapic(struct rig *r, struct err *e)
{
    ioapic_create(r->t->vm, 0xfec00000, e);
}

static void create_isa_misc(struct rig *r, struct err *e)
{
    isa_misc_create(r->t->vm, 0x80, 0x92, 0xf0, e);
}

static void create_mc146818(struct rig *r, struct err *e)
{
    mc146818_create(r->t->vm, 0x70, rig_irq(r, 8), e);
}

static void create_ns16550(struct rig *r, struct err *e)
{
    r->chr = chardev_open("none", r->chr_loop, NULL, NULL, e);
    ns16550_create(r->t->vm, "com1", 0x3f8, rig_irq(r, 4), r->chr, e);
}

static void create_parport(struct rig *r, struct err *e)
{
    r->chr = chardev_open("none", r->chr_loop, NULL, NULL, e);
    parport_create(r->t->vm, 0x378, rig_irq(r, 7), r->chr, e);
}

static void create_pvpanic(struct rig *r, struct err *e)
{
    pvpanic_create(r->t->vm, 0x505, e);
}

static struct pci_bus *create_pci(struct rig *r, struct err *e)
{
    struct pci_bus *bus = pci_bus_create(r->t->vm, e);
    struct irq wires[16];

    for (unsigned i = 0; i < ARRAY_SIZE(wires); i++)
        wires[i] = rig_irq(r, i);
    i440fx_create(r->t->vm, bus, PCI_DEVFN(0, 0), NULL, e);
    piix3_create(r->t->vm, bus, PCI_DEVFN(1, 0), wires, wires, e);
    return bus;
}

static void create_debugcon(struct rig *r, struct err *e)
{
    debugcon_create(r->t->vm, 0x402, NULL, e);
}

static void create_pci_host(struct rig *r, struct err *e)
{
    create_pci(r, e);
}

static void create_pflash(struct rig *r, struct err *e)
{
    if (!ram_alloc(&r->flash, "flash", 0xffe00000, 4 * PFLASH_BLOCK, e))
        pflash_create(r->t->vm, &r->flash, -1, e);
}

static void create_piix4_pm(struct rig *r, struct err *e)
{
    static const struct acpi_pm_sleep sleep = { 1, 5 };
    struct acpi_pm *pm = acpi_pm_create(r->t->vm, 0, 0xafe0, &sleep, rig_irq(r, 9), e);
    struct piix4_pm *p = piix4_pm_create(r->t->vm, create_pci(r, e), PCI_DEVFN(1, 3), pm, e);

    if (p)
        piix4_pm_assign(p, 0x600);
}

static struct blk *create_disk(struct rig *r, bool readonly)
{
    char path[] = "/tmp/ruche-conformance-XXXXXX";
    int fd = mkstemp(path);
    struct blk_opts o = { .path = path, .loop = r->t->vm->loop, .readonly = readonly };
    struct blk *disk;

    assert_true(fd >= 0);
    assert_int_equal(ftruncate(fd, MIB), 0);
    close(fd);
    disk = blk_open(&o, NULL);
    unlink(path);
    assert_non_null(disk);
    return disk;
}

static void create_virtio_blk(struct rig *r, struct err *e)
{
    struct pci_bus *bus = create_pci(r, e);

    if (virtio_blk_create(bus, PCI_DEVFN(2, 0), "disk0", create_disk(r, false), "serial", 2, e))
        return;
    assert_int_equal(pci_assign(bus, 0xc0000000, 0x10000000, 0xc000, 4 * GIB, e), 0);
}

/* A disk and a CD. */
static void create_ahci(struct rig *r, struct err *e)
{
    struct pci_bus *bus = create_pci(r, e);
    struct ahci_media media[2] = { { create_disk(r, false), false, NULL },
                                   { create_disk(r, true), true, NULL } };

    if (ahci_create(bus, PCI_DEVFN(2, 0), media, 2, e))
        return;
    assert_int_equal(pci_assign(bus, 0xc0000000, 0x10000000, 0xc000, 4 * GIB, e), 0);
}

/* A disk and a CD. */
static void create_ide(struct rig *r, struct err *e)
{
    const struct ide_at at[IDE_CHANNELS] = { { 0x1f0, 0x3f6, rig_irq(r, 14) },
                                             { 0x170, 0x376, rig_irq(r, 15) } };
    struct ide_media media[IDE_DRIVES] = { 0 };
    struct pci_bus *bus = create_pci(r, e);

    media[0] = (struct ide_media){ .disk = create_disk(r, false) };
    media[3] = (struct ide_media){ .disk = create_disk(r, true), .cdrom = true };
    if (ide_create(r->t->vm, bus, PCI_DEVFN(1, 1), at, media, e))
        return;
    assert_int_equal(pci_assign(bus, 0xc0000000, 0x10000000, 0xc000, 4 * GIB, e), 0);
}

static void create_nvme(struct rig *r, struct err *e)
{
    struct pci_bus *bus = create_pci(r, e);

    if (nvme_create(bus, PCI_DEVFN(2, 0), "nvme0", create_disk(r, false), NULL, 2, e))
        return;
    assert_int_equal(pci_assign(bus, 0xc0000000, 0x10000000, 0xc000, 4 * GIB, e), 0);
}

static void create_virtio_scsi(struct rig *r, struct err *e)
{
    struct pci_bus *bus = create_pci(r, e);
    struct virtio_scsi_media media[2] = { { create_disk(r, false), false, "serial" },
                                          { create_disk(r, true), true, NULL } };

    if (virtio_scsi_create(bus, PCI_DEVFN(2, 0), "scsi0", media, 2, 2, e))
        return;
    assert_int_equal(pci_assign(bus, 0xc0000000, 0x10000000, 0xc000, 4 * GIB, e), 0);
}

static void create_virtio_rng(struct rig *r, struct err *e)
{
    struct pci_bus *bus = create_pci(r, e);

    if (virtio_rng_create(bus, PCI_DEVFN(2, 0), "rng0", e))
        return;
    assert_int_equal(pci_assign(bus, 0xc0000000, 0x10000000, 0xc000, 4 * GIB, e), 0);
}

static void create_virtio_console(struct rig *r, struct err *e)
{
    struct pci_bus *bus = create_pci(r, e);

    r->chr = chardev_open("none", r->chr_loop, NULL, NULL, e);
    if (virtio_console_create(r->t->vm, bus, PCI_DEVFN(2, 0), "hvc0", r->chr, 80, 25, e))
        return;
    assert_int_equal(pci_assign(bus, 0xc0000000, 0x10000000, 0xc000, 4 * GIB, e), 0);
}

static void create_testdev(struct rig *r, struct err *e)
{
    static const struct testdev_at at = { 0x2000, 0xe0, 0xe4, 0xff000000 };
    struct irq line[TESTDEV_LINES];

    for (unsigned i = 0; i < TESTDEV_LINES; i++)
        line[i] = rig_irq(r, i);
    testdev_create(r->t->vm, &at, line, e);
}

static void create_vga(struct rig *r, struct err *e)
{
    static const struct vga_at at = { 0xa0000, 0x3b0, 0x1ce };
    struct pci_bus *bus = create_pci(r, e);

    if (ram_alloc(&r->flash, "vga", 0xfd000000, VGA_VRAM_LEN, e) ||
        !vga_create(r->t->vm, bus, PCI_DEVFN(2, 0), &at, &r->flash, NULL, 0, e))
        return;
    assert_int_equal(pci_assign(bus, 0xc0000000, 0x10000000, 0xc000, 4 * GIB, e), 0);
}

static void create_rtl8139(struct rig *r, struct err *e)
{
    struct nic_opts o = { .backend = "user", .mac = { 0x52, 0x54, 0, 1, 2, 3 } };
    struct pci_bus *bus = create_pci(r, e);

    if (rtl8139_create(r->t->vm, bus, PCI_DEVFN(2, 0), "net0", &o, e) ||
        rtl8139c_create(r->t->vm, bus, PCI_DEVFN(3, 0), "net1", &o, e))
        return;
    assert_int_equal(pci_assign(bus, 0xc0000000, 0x10000000, 0xc000, 4 * GIB, e), 0);
}

static void create_e1000(struct rig *r, struct err *e)
{
    struct nic_opts o = { .backend = "user", .mac = { 0x52, 0x54, 0, 1, 2, 3 } };
    struct pci_bus *bus = create_pci(r, e);

    if (e1000_create(r->t->vm, bus, PCI_DEVFN(2, 0), "net0", &o, e))
        return;
    assert_int_equal(pci_assign(bus, 0xc0000000, 0x10000000, 0xc000, 4 * GIB, e), 0);
}

static struct usb_dev *create_usb_stick(struct rig *r, enum usb_speed speed, struct err *e)
{
    char path[] = "/tmp/ruche-conformance-XXXXXX";
    int fd = mkstemp(path);
    struct blk_opts o = { .path = path, .loop = r->t->vm->loop };
    struct blk *disk;

    assert_true(fd >= 0);
    assert_int_equal(ftruncate(fd, MIB), 0);
    close(fd);
    disk = blk_open(&o, e);
    unlink(path);
    assert_non_null(disk);
    return usb_msc_create(disk, false, NULL, 0, speed, e);
}

static void create_xhci(struct rig *r, struct err *e)
{
    struct usb_dev *const devs[] = { usb_tablet_create(NULL, e), usb_kbd_create(NULL, e),
                                     create_usb_stick(r, USB_SUPER, e) };
    struct pci_bus *bus = create_pci(r, e);

    if (xhci_create(r->t->vm, bus, PCI_DEVFN(2, 0), devs, ARRAY_SIZE(devs), e))
        return;
    assert_int_equal(pci_assign(bus, 0xc0000000, 0x10000000, 0xc000, 4 * GIB, e), 0);
}

static void create_i8237(struct rig *r, struct err *e)
{
    static const struct i8237_at at = { 0x00, 0xc0, 0x81 };

    i8237_create(r->t->vm, &at, e);
}

static void create_fdc(struct rig *r, struct err *e)
{
    static const struct i8237_at dma = { 0x00, 0xc0, 0x81 };
    struct fdc_at at = { 0x3f0, rig_irq(r, 6), i8237_create(r->t->vm, &dma, e), 2 };
    struct blk *disk[FDC_DRIVES] = { 0 };
    char path[] = "/tmp/ruche-conformance-XXXXXX";
    struct blk_opts o = { .path = path, .loop = r->t->vm->loop };
    int fd = mkstemp(path);

    assert_true(fd >= 0);
    assert_int_equal(ftruncate(fd, 1440 * KIB), 0);
    close(fd);
    disk[0] = blk_open(&o, e);
    unlink(path);
    assert_non_null(disk[0]);
    fdc_create(r->t->vm, &at, disk, e);
}

static void create_uhci(struct rig *r, struct err *e)
{
    struct usb_dev *const devs[] = { usb_tablet_create(NULL, e), create_usb_stick(r, USB_FULL, e) };
    struct pci_bus *bus = create_pci(r, e);

    if (uhci_create(r->t->vm, bus, PCI_DEVFN(1, 2), devs, ARRAY_SIZE(devs), e))
        return;
    assert_int_equal(pci_assign(bus, 0xc0000000, 0x10000000, 0xc000, 4 * GIB, e), 0);
}

static void create_virtio_net(struct rig *r, struct err *e)
{
    struct virtio_net_opts o = { .backend = "user", .mac = { 0x52, 0x54, 0, 1, 2, 3 } };
    struct pci_bus *bus = create_pci(r, e);

    if (virtio_net_create(r->t->vm, bus, PCI_DEVFN(2, 0), "net0", &o, e))
        return;
    assert_int_equal(pci_assign(bus, 0xc0000000, 0x10000000, 0xc000, 4 * GIB, e), 0);
}

static const struct conformance cases[] = {
    { "acpi_pm", create_acpi_pm, true },
    { "ahci", create_ahci, false },
    { "debug_exit", create_debug_exit, false },
    { "debugcon", create_debugcon, false },
    { "piix4_pm", create_piix4_pm, true },
    { "e1000", create_e1000, false },
    { "fdc", create_fdc, false },
    { "i8237", create_i8237, false },
    { "parport", create_parport, false },
    { "pflash", create_pflash, true },
    { "fw_cfg", create_fw_cfg, false },
    { "hpet", create_hpet, false },
    { "i8042", create_i8042, false },
    { "i8254", create_i8254, false },
    { "i8259", create_i8259, false },
    { "ide", create_ide, false },
    { "ioapic", create_ioapic, false },
    { "isa_misc", create_isa_misc, false },
    { "mc146818", create_mc146818, true },
    { "ns16550", create_ns16550, false },
    { "nvme", create_nvme, false },
    { "pci_host", create_pci_host, false },
    { "pvpanic", create_pvpanic, false },
    { "virtio_console", create_virtio_console, false },
    { "virtio_net", create_virtio_net, false },
    { "virtio_blk", create_virtio_blk, false },
    { "virtio_rng", create_virtio_rng, false },
    { "virtio_scsi", create_virtio_scsi, false },
    { "rtl8139", create_rtl8139, false },
    { "testdev", create_testdev, false },
    { "vga", create_vga, false },
    { "xhci", create_xhci, false },
    { "uhci", create_uhci, false },
};

/* With an argument: only the device of that name. */
int main(int argc, char **argv)
{
    int failed = 0;

    for (unsigned i = 0; i < ARRAY_SIZE(cases); i++) {
        const struct CMUnitTest tests[] = {
            cmocka_unit_test(test_save_load_save),
            cmocka_unit_test(test_load_elsewhere),
            cmocka_unit_test(test_reset),
            cmocka_unit_test(test_quiesce_and_sync_twice),
            cmocka_unit_test(test_broken_snapshots),
        };

        if (argc > 1 && strcmp(argv[1], cases[i].name))
            continue;
        the_case = &cases[i];
        failed += cmocka_run_group_tests_name(the_case->name, tests, NULL, NULL);
    }
    return failed;
}
