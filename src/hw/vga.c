/*
 * vga.c: the VGA as a PCI function: BAR 0 the linear frame buffer, and what a PC has at fixed addresses. Not
 * modelled: interrupts, and a BAR 2 with EDID and the registers once more (PCI 1234:1111, revision 2). The VGA
 * BIOS would read EDID from there through a segment of 4 GiB, which firmware other than SeaBIOS does not
 * give it: U-Boot stops at that #GP. Drivers use the ports instead.
 *
 * Locking: the bus holds the device lock. Frame buffer accesses are plain memory, without any.
 */
#include "hw/vga_priv.h"

#include <string.h>

enum { VGA_VENDOR = 0x1234, VGA_DEVICE = 0x1111, VGA_REVISION = 0, VGA_CLASS = 0x030000 };
enum { VGA_SUBSYS_VENDOR = 0x1af4, VGA_SUBSYS = 0x1100 };
enum { VGA_PORTS = 0x30, VGA_WINDOW_LEN = 0x20000, DISPI_PORTS = 4 };
enum { BAR_FB = 0 };

/* --- accesses --- */

static uint64_t vga_port_read(struct device *d, uint64_t off, unsigned size)
{
    (void)size;
    return vga_reg_read(vga_of(d), (unsigned)off);
}

static void vga_port_write(struct device *d, uint64_t off, unsigned size, uint64_t val)
{
    (void)size;
    vga_reg_write(vga_of(d), (unsigned)off, (uint8_t)val);
}

/* Port 1ce: index; 1cf, for what aligns its words 1d0: data. Words only. */
static uint64_t vga_dispi_port_read(struct device *d, uint64_t off, unsigned size)
{
    const struct vga *v = vga_of(d);

    if (size != 2)
        return UINT64_MAX;
    return off ? vga_dispi_read(v, v->dispi_index) : v->dispi_index;
}

static void vga_dispi_port_write(struct device *d, uint64_t off, unsigned size, uint64_t val)
{
    struct vga *v = vga_of(d);

    if (size != 2)
        return;
    if (off)
        vga_dispi_write(v, v->dispi_index, (uint16_t)val);
    else
        v->dispi_index = (uint16_t)val;
}

static uint64_t vga_window_read(struct device *d, uint64_t off, unsigned size)
{
    (void)size;
    return vga_mem_read(vga_of(d), (uint32_t)off);
}

static void vga_window_write(struct device *d, uint64_t off, unsigned size, uint64_t val)
{
    (void)size;
    vga_mem_write(vga_of(d), (uint32_t)off, (uint8_t)val);
}

/* Where the machine cannot map the frame buffer as memory, or has not yet. */
static uint64_t vga_fb_read(struct device *d, uint64_t off, unsigned size)
{
    uint64_t val = 0;

    memcpy(&val, vga_of(d)->vram->hva + off, size);
    return val;
}

static void vga_fb_write(struct device *d, uint64_t off, unsigned size, uint64_t val)
{
    struct vga *v = vga_of(d);

    memcpy(v->vram->hva + off, &val, size);
    guest_region_written(vm_mem(d->vm), v->vram, off, size);
}

static const struct io_ops vga_port_io = { vga_port_read, vga_port_write, 1, 1 };
static const struct io_ops vga_dispi_io = { vga_dispi_port_read, vga_dispi_port_write, 1,
                                            2 | IO_UNALIGNED };
static const struct io_ops vga_window_io = { vga_window_read, vga_window_write, 1, 1 };
static const struct io_ops vga_fb_io = { vga_fb_read, vga_fb_write, 1, 8 };

/* --- device --- */

static void vga_bar_moved(struct pci_dev *p, unsigned bar, uint64_t at)
{
    (void)at;
    if (bar == BAR_FB)
        vm_memory_changed(p->dev.vm);
}

static void vga_state_indexes(struct vga *v, struct state *s)
{
    state_u8(s, &v->seq_index);
    state_u8(s, &v->gfx_index);
    state_u8(s, &v->crtc_index);
    state_u8(s, &v->attr_index);
    state_bool(s, &v->attr_data);
    state_u8(s, &v->dac_mask);
    state_u8(s, &v->dac_index);
    state_u8(s, &v->dac_component);
    state_bool(s, &v->dac_reading);
    state_bytes(s, v->dac_latch, sizeof(v->dac_latch));
    state_require(s, v->dac_component < 3, "a colour has three components");
    if (v->dac_component >= 3)
        v->dac_component = 0;
}

/* What is on has to fit into memory, as if the guest had written it. */
static void vga_state_dispi(struct vga *v, struct state *s)
{
    state_u16(s, &v->dispi_index);
    for (unsigned i = 0; i < DISPI_REGS; i++)
        state_u16(s, &v->dispi[i]);
    if (!state_loading(s) || !vga_dispi_on(v))
        return;
    state_require(s, vga_dispi_valid(v), "a screen that does not fit into its memory");
    if (state_error(s))
        v->dispi[DISPI_ENABLE] = 0;
}

static void vga_state(struct device *d, struct state *s)
{
    struct vga *v = vga_of(d);

    pci_state(&v->pci, s);
    state_u8(s, &v->misc);
    state_u8(s, &v->feature);
    vga_state_indexes(v, s);
    state_bytes(s, v->seq, sizeof(v->seq));
    state_bytes(s, v->gfx, sizeof(v->gfx));
    state_bytes(s, v->crtc, sizeof(v->crtc));
    state_bytes(s, v->attr, sizeof(v->attr));
    state_bytes(s, v->dac, sizeof(v->dac));
    state_bytes(s, v->latch, sizeof(v->latch));
    vga_state_dispi(v, s);
}

static void vga_sync(struct device *d)
{
    pci_sync(&vga_of(d)->pci);
}

static void vga_destroy(struct device *d)
{
    free(vga_of(d)->rom);
    free(vga_of(d));
}

static const struct device_ops vga_ops = {
    .type = "vga",
    .version = 1,
    .state = vga_state,
    .sync = vga_sync,
    .destroy = vga_destroy,
};

uint64_t vga_frame_buffer(const struct vga *v)
{
    return pci_bar_wanted(&v->pci, BAR_FB);
}

void vga_picture(struct vga *v, struct picture *p)
{
    pthread_mutex_lock(&v->pci.dev.lock);
    vga_mode(v, p);
    pthread_mutex_unlock(&v->pci.dev.lock);
}

static void vga_power_on(struct vga *v)
{
    v->misc = VGA_MISC_COLOR;
    v->dac_mask = 0xff;
    v->dispi[DISPI_ID] = 0xb0c5;
    v->dispi[DISPI_BPP] = 8;
}

static int vga_claim(struct vga *v, const struct vga_at *at, struct err *e)
{
    struct device *d = &v->pci.dev;
    int rc = bus_claim(vm_pio(d->vm), at->ports, VGA_PORTS, &vga_port_io, d, e);

    if (!rc)
        rc = bus_claim(vm_pio(d->vm), at->dispi, DISPI_PORTS, &vga_dispi_io, d, e);
    return rc ? rc : bus_claim(vm_mmio(d->vm), at->window, VGA_WINDOW_LEN, &vga_window_io, d, e);
}

struct vga *vga_create(struct vm *vm, struct pci_bus *bus, unsigned devfn, const struct vga_at *at,
                       struct ram_region *vram, uint8_t *rom, uint32_t rom_len, struct err *e)
{
    struct vga *v = calloc(1, sizeof(*v));

    if (!v)
        return err_oom(e);
    BUG_ON(vram->len != VGA_VRAM_LEN);
    v->vram = vram;
    vga_power_on(v);
    pci_init(&v->pci, &vga_ops, vm, "vga", VGA_VENDOR, VGA_DEVICE, VGA_CLASS, VGA_REVISION);
    pci_set_subsystem(&v->pci, VGA_SUBSYS_VENDOR, VGA_SUBSYS);
    pci_add_bar(&v->pci, BAR_FB, VGA_VRAM_LEN, false, false, &vga_fb_io);
    v->pci.bar_moved = vga_bar_moved;
    if (rom)
        pci_add_rom(&v->pci, rom, rom_len);
    if (vga_claim(v, at, e) || pci_add(bus, &v->pci, devfn, e)) {
        bus_release(vm_pio(vm), &v->pci.dev);
        bus_release(vm_mmio(vm), &v->pci.dev);
        free(v);
        return NULL;
    }
    v->rom = rom;
    return v;
}
