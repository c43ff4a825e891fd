/*
 * vga_mem.c: the VGA's memory through the window at a0000 (IBM PS/2 Hardware Interface Technical
 * Reference, Video Subsystem: graphics controller). A byte at a time.
 */
#include "hw/vga_priv.h"

#include "base/endian.h"

enum { SEQ_CHAIN4 = BIT(3), GFX_ODD_EVEN = BIT(4), GFX_READ_COMPARE = BIT(3), PLANES = 4 };
enum { MASK_32K = 0x7fff, MASK_64K = 0xffff, MASK_128K = 0x1ffff };
#define ALL_PLANES 0x01010101u

/* Each bit of the mask as a byte of its plane. */
static uint32_t vga_spread(unsigned mask)
{
    uint32_t bits = (mask & 1) | (mask & 2) << 7 | (mask & 4) << 14 | (mask & 8) << 21;

    return bits * 0xff;
}

/* Offset in the window to one in what the guest has mapped there; false: nothing. */
static bool vga_mem_map(const struct vga *v, uint32_t *off)
{
    static const struct {
        uint32_t base, mask;
    } maps[] = { { 0, MASK_128K }, { 0, MASK_64K }, { 0x10000, MASK_32K }, { 0x18000, MASK_32K } };
    unsigned map = v->gfx[VGA_GFX_MISC] >> 2 & 3;

    if (!(v->misc & VGA_MISC_RAM) || *off - maps[map].base > maps[map].mask)
        return false;
    *off -= maps[map].base;
    return true;
}

/* With the VBE extension on, the window is a bank of the linear frame buffer. */
static uint32_t vga_mem_banked(const struct vga *v, uint32_t off)
{
    return (v->dispi[DISPI_BANK] * 0x10000u + (off & MASK_64K)) % VGA_VRAM_LEN;
}

static void vga_mem_put(struct vga *v, uint32_t at, uint8_t val)
{
    v->vram->hva[at] = val;
    guest_region_written(vm_mem(v->pci.dev.vm), v->vram, at, 1);
}

static uint32_t vga_rotate(uint32_t bytes, unsigned by)
{
    uint8_t b = (uint8_t)bytes;

    return (uint8_t)(b >> by | b << (8 - by)) * ALL_PLANES;
}

static uint32_t vga_logic(const struct vga *v, uint32_t val, uint32_t latch)
{
    switch (v->gfx[VGA_GFX_ROTATE] >> 3 & 3) {
    case 1:
        return val & latch;
    case 2:
        return val | latch;
    case 3:
        return val ^ latch;
    default:
        return val;
    }
}

/* What goes into all four planes, before the map mask. */
static uint32_t vga_pipeline(const struct vga *v, uint8_t byte)
{
    uint32_t latch = ld_le32(v->latch), val = byte * ALL_PLANES, mask;
    uint32_t set = vga_spread(v->gfx[VGA_GFX_SET_RESET]);
    unsigned rotate = v->gfx[VGA_GFX_ROTATE] & 7;

    mask = v->gfx[VGA_GFX_BIT_MASK] * ALL_PLANES;
    switch (v->gfx[VGA_GFX_MODE] & 3) {
    case 0: {
        uint32_t enable = vga_spread(v->gfx[VGA_GFX_ENABLE_SET_RESET]);

        val = (vga_rotate(val, rotate) & ~enable) | (set & enable);
        break;
    }
    case 1:
        return latch;
    case 2:
        val = vga_spread(byte & 0x0f);
        break;
    default:
        mask &= vga_rotate(val, rotate);
        val = set;
        break;
    }
    return (vga_logic(v, val, latch) & mask) | (latch & ~mask);
}

static void vga_write_planar(struct vga *v, uint32_t off, uint8_t byte)
{
    uint32_t planes = vga_spread(v->seq[VGA_SEQ_MAP_MASK]), at = off * PLANES;
    uint8_t *to = v->vram->hva + at;

    st_le32(to, (ld_le32(to) & ~planes) | (vga_pipeline(v, byte) & planes));
    guest_region_written(vm_mem(v->pci.dev.vm), v->vram, at, PLANES);
}

void vga_mem_write(struct vga *v, uint32_t off, uint8_t val)
{
    unsigned planes = v->seq[VGA_SEQ_MAP_MASK], plane;

    if (!vga_mem_map(v, &off))
        return;
    if (vga_dispi_on(v)) {
        vga_mem_put(v, vga_mem_banked(v, off), val);
    } else if (v->seq[VGA_SEQ_MEMORY] & SEQ_CHAIN4) {
        if (planes & BIT(off & 3))
            vga_mem_put(v, off, val);
    } else if (v->gfx[VGA_GFX_MODE] & GFX_ODD_EVEN) {
        for (plane = off & 1; plane < PLANES; plane += 2)
            if (planes & BIT(plane))
                vga_mem_put(v, (off & ~1u) * 2 + plane, val);
    } else {
        vga_write_planar(v, off, val);
    }
}

/* Read mode 1: which pixels have the colour. */
static uint8_t vga_compare(const struct vga *v, uint32_t latch)
{
    uint32_t differ =
        (latch ^ vga_spread(v->gfx[VGA_GFX_COMPARE])) & vga_spread(v->gfx[VGA_GFX_DONT_CARE]);

    differ |= differ >> 16;
    differ |= differ >> 8;
    return (uint8_t)~differ;
}

uint8_t vga_mem_read(struct vga *v, uint32_t off)
{
    const uint8_t *vram = v->vram->hva;
    unsigned map = v->gfx[VGA_GFX_READ_MAP];

    if (!vga_mem_map(v, &off))
        return 0xff;
    if (vga_dispi_on(v))
        return vram[vga_mem_banked(v, off)];
    if (v->seq[VGA_SEQ_MEMORY] & SEQ_CHAIN4) {
        memcpy(v->latch, vram + (off & ~3u), PLANES);
        return vram[off];
    }
    if (v->gfx[VGA_GFX_MODE] & GFX_ODD_EVEN) {
        memcpy(v->latch, vram + (off & ~1u) * 2, PLANES);
        return v->latch[(map & 2) | (off & 1)];
    }
    memcpy(v->latch, vram + off * PLANES, PLANES);
    if (v->gfx[VGA_GFX_MODE] & GFX_READ_COMPARE)
        return vga_compare(v, ld_le32(v->latch));
    return v->latch[map & 3];
}
