/*
 * vga_text.c: the VGA as its BIOS leaves it at start, in mode 3 (IBM PS/2 Hardware Interface Technical Reference,
 * Video Subsystem; the register values are those of the standard mode), for machines that have no BIOS.
 */
#include "hw/vga_priv.h"

#include <string.h>

#include "base/endian.h"

enum { TEXT_COLUMNS = 80, TEXT_ROWS = 25, BLANK_CELL = 0x0720, GLYPHS = 256, GLYPH_ROOM = 32 };
enum { FONT_PLANE = 2, PLANES = 4, CELL = 8, MISC = 0x67, EGA_COLORS = 64 };

static const uint8_t text_seq[VGA_SEQ_REGS] = { 0x03, 0x00, 0x03, 0x00, 0x02 };
static const uint8_t text_gfx[VGA_GFX_REGS] = { 0, 0, 0, 0, 0, 0x10, 0x0e, 0x0f, 0xff };
static const uint8_t text_crtc[VGA_CRTC_REGS] = {
    0x5f, 0x4f, 0x50, 0x82, 0x55, 0x81, 0xbf, 0x1f, 0x00, 0x4f, 0x0d, 0x0e, 0x00,
    0x00, 0x00, 0x00, 0x9c, 0x8e, 0x8f, 0x28, 0x1f, 0x96, 0xb9, 0xa3, 0xff,
};
static const uint8_t text_attr[VGA_ATTR_REGS] = { 0x00, 0x01, 0x02, 0x03, 0x04, 0x05, 0x14,
                                                  0x07, 0x38, 0x39, 0x3a, 0x3b, 0x3c, 0x3d,
                                                  0x3e, 0x3f, 0x0c, 0x00, 0x0f, 0x08, 0x00 };

/* The EGA's 64 colours: bits 2 to 0 are red, green and blue at two thirds, 5 to 3 the same at one third. */
static void vga_text_palette(struct vga *v)
{
    memset(v->dac, 0, sizeof(v->dac));
    for (unsigned i = 0; i < EGA_COLORS; i++)
        for (unsigned c = 0; c < 3; c++)
            v->dac[i][c] = (uint8_t)((i >> (2 - c) & 1) * 0x2a + (i >> (5 - c) & 1) * 0x15);
    v->dac_mask = 0xff;
}

static void vga_text_memory(struct vga *v, const uint8_t *font)
{
    uint8_t *vram = v->vram->hva;

    for (unsigned i = 0; i < TEXT_COLUMNS * TEXT_ROWS; i++)
        st_le16(vram + i * CELL / 2, BLANK_CELL);
    for (unsigned i = 0; font && i < GLYPHS * VGA_FONT_LINES; i++)
        vram[(i / VGA_FONT_LINES * GLYPH_ROOM + i % VGA_FONT_LINES) * PLANES + FONT_PLANE] =
            font[i];
    guest_region_written(vm_mem(v->pci.dev.vm), v->vram, 0, 0x10000 * PLANES);
}

void vga_set_text(struct vga *v, const uint8_t *font)
{
    pthread_mutex_lock(&v->pci.dev.lock);
    v->misc = MISC;
    memcpy(v->seq, text_seq, sizeof(text_seq));
    memcpy(v->gfx, text_gfx, sizeof(text_gfx));
    memcpy(v->crtc, text_crtc, sizeof(text_crtc));
    memcpy(v->attr, text_attr, sizeof(text_attr));
    v->attr_index = VGA_ATTR_PAS;
    vga_text_palette(v);
    vga_text_memory(v, font);
    pthread_mutex_unlock(&v->pci.dev.lock);
}
