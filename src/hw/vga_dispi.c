/*
 * vga_dispi.c: the Bochs VBE extension, ID B0C5: modes of any size, of which the frame buffer is linear.
 * What the guest writes is made to fit when the mode is switched on, so that what is shown always lies in
 * memory. While it is on, the resolution cannot be changed.
 */
#include "hw/vga_priv.h"

#include <string.h>

enum { DISPI_ID_FIRST = 0xb0c0, DISPI_ID_LAST = 0xb0c5 };
enum { XRES_MAX = 2560, YRES_MAX = 1600, BPP_MAX = 32, XRES_UNIT = 8, BANK = 0x10000 };

static uint32_t vga_dispi_bytes(const struct vga *v, uint32_t pixels)
{
    unsigned bpp = v->dispi[DISPI_BPP];

    return bpp == 4 ? pixels / 2 : pixels * ((bpp + 7) / 8);
}

uint32_t vga_dispi_pitch(const struct vga *v)
{
    return vga_dispi_bytes(v, v->dispi[DISPI_VIRT_WIDTH]);
}

/* Lines as long as asked for, at least what is shown of them; offsets stay in memory. */
static void vga_dispi_fit(struct vga *v)
{
    uint16_t *r = v->dispi;
    uint32_t lines, width_max = VGA_VRAM_LEN / (vga_dispi_bytes(v, XRES_UNIT) * r[DISPI_YRES]);

    width_max *= XRES_UNIT;
    r[DISPI_VIRT_WIDTH] &= (uint16_t) ~(XRES_UNIT - 1);
    if (r[DISPI_VIRT_WIDTH] < r[DISPI_XRES] || r[DISPI_VIRT_WIDTH] > width_max)
        r[DISPI_VIRT_WIDTH] = r[DISPI_XRES];
    lines = VGA_VRAM_LEN / vga_dispi_pitch(v);
    r[DISPI_VIRT_HEIGHT] = (uint16_t)min_u64(lines, UINT16_MAX);
    r[DISPI_X_OFFSET] = (uint16_t)min_u64(r[DISPI_X_OFFSET], r[DISPI_VIRT_WIDTH] - r[DISPI_XRES]);
    r[DISPI_Y_OFFSET] = (uint16_t)min_u64(r[DISPI_Y_OFFSET], lines - r[DISPI_YRES]);
}

static void vga_dispi_set_size(struct vga *v)
{
    uint16_t *r = v->dispi;
    uint32_t lines;

    if (!r[DISPI_BPP])
        r[DISPI_BPP] = 8;
    r[DISPI_XRES] &= (uint16_t) ~(XRES_UNIT - 1);
    r[DISPI_XRES] = (uint16_t)max_u64(min_u64(r[DISPI_XRES], XRES_MAX), XRES_UNIT);
    lines = VGA_VRAM_LEN / vga_dispi_bytes(v, r[DISPI_XRES]);
    r[DISPI_YRES] = (uint16_t)max_u64(min_u64(r[DISPI_YRES], min_u64(YRES_MAX, lines)), 1);
    r[DISPI_VIRT_WIDTH] = r[DISPI_XRES];
    r[DISPI_X_OFFSET] = r[DISPI_Y_OFFSET] = 0;
    vga_dispi_fit(v);
}

static void vga_dispi_enable(struct vga *v, uint16_t val)
{
    bool was_on = vga_dispi_on(v);

    v->dispi[DISPI_ENABLE] =
        val & (DISPI_ENABLED | DISPI_GETCAPS | DISPI_8BIT_DAC | DISPI_LFB | DISPI_NOCLEAR);
    v->dispi[DISPI_BANK] = 0;
    if (!(val & DISPI_ENABLED) || was_on)
        return;
    vga_dispi_set_size(v);
    if (val & DISPI_NOCLEAR)
        return;
    memset(v->vram->hva, 0, (size_t)v->dispi[DISPI_YRES] * vga_dispi_pitch(v));
    guest_region_written(vm_mem(v->pci.dev.vm), v->vram, 0,
                         (uint64_t)v->dispi[DISPI_YRES] * vga_dispi_pitch(v));
}

static bool vga_dispi_known_depth(uint16_t bpp)
{
    return bpp == 4 || bpp == 8 || bpp == 15 || bpp == 16 || bpp == 24 || bpp == 32;
}

bool vga_dispi_valid(const struct vga *v)
{
    struct vga fit = { 0 };

    memcpy(fit.dispi, v->dispi, sizeof(fit.dispi));
    if (!vga_dispi_known_depth(fit.dispi[DISPI_BPP]) || !fit.dispi[DISPI_XRES] ||
        fit.dispi[DISPI_XRES] % XRES_UNIT || fit.dispi[DISPI_XRES] > XRES_MAX ||
        !fit.dispi[DISPI_YRES] || fit.dispi[DISPI_YRES] > YRES_MAX ||
        vga_dispi_bytes(v, fit.dispi[DISPI_XRES]) * fit.dispi[DISPI_YRES] > VGA_VRAM_LEN)
        return false;
    vga_dispi_fit(&fit);
    return !memcmp(fit.dispi, v->dispi, sizeof(fit.dispi));
}

uint16_t vga_dispi_read(const struct vga *v, unsigned index)
{
    if (index == DISPI_MEMORY)
        return VGA_VRAM_LEN / BANK;
    if (index >= DISPI_REGS)
        return 0;
    if (v->dispi[DISPI_ENABLE] & DISPI_GETCAPS) {
        if (index == DISPI_XRES)
            return XRES_MAX;
        if (index == DISPI_YRES)
            return YRES_MAX;
        if (index == DISPI_BPP)
            return BPP_MAX;
    }
    return v->dispi[index];
}

void vga_dispi_write(struct vga *v, unsigned index, uint16_t val)
{
    bool on = vga_dispi_on(v);

    switch (index) {
    case DISPI_ID:
        if (val >= DISPI_ID_FIRST && val <= DISPI_ID_LAST)
            v->dispi[index] = val;
        break;
    case DISPI_XRES:
    case DISPI_YRES:
        if (!on)
            v->dispi[index] = val;
        break;
    case DISPI_BPP:
        if (!on && (!val || vga_dispi_known_depth(val)))
            v->dispi[index] = val ? val : 8;
        break;
    case DISPI_ENABLE:
        vga_dispi_enable(v, val);
        break;
    case DISPI_BANK:
        v->dispi[index] = val % (VGA_VRAM_LEN / BANK);
        break;
    case DISPI_VIRT_WIDTH:
    case DISPI_X_OFFSET:
    case DISPI_Y_OFFSET:
        v->dispi[index] = val;
        if (on)
            vga_dispi_fit(v);
        break;
    default: /* the virtual height follows from the width */
        break;
    }
}
