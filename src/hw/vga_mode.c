/*
 * vga_mode.c: what the registers say is to be shown. Surfaces have the guest's resolution: a mode of 320
 * pixels that a monitor would show doubled has 320. Not modelled: horizontal timing, overscan, the byte,
 * word and double word modes of the CRTC's address counter (memory is kept so that all look alike).
 */
#include "hw/vga_priv.h"

enum { SEQ_8_DOTS = BIT(0), SEQ_SCREEN_OFF = BIT(5), GFX_GRAPHICS = BIT(0) };
enum { ATTR_LINE_GRAPHICS = BIT(2), ATTR_BLINK = BIT(3), ATTR_P54 = BIT(7) };
enum { CRTC_DOUBLE_SCAN = BIT(7), CRTC_CELL = 0x1f, CURSOR_OFF = BIT(5), CRTC_ROW_SCAN = 3 };
enum { BYTES = 4, FONT_LEN = 0x8000, PLANE_2 = 2, BLINK_NS = 533333333, CURSOR_NS = 266666666 };
enum { BLANK_WIDTH = 640, BLANK_HEIGHT = 480 };

static uint32_t vga_color(const struct vga *v, uint8_t index)
{
    const uint8_t *c = v->dac[index & v->dac_mask];
    uint32_t rgb = 0;

    for (unsigned i = 0; i < 3; i++) {
        uint8_t val = c[i];

        if (!(v->dispi[DISPI_ENABLE] & DISPI_8BIT_DAC))
            val = (uint8_t)(val << 2 | (val >> 4 & 3));
        rgb = rgb << 8 | val;
    }
    return rgb;
}

/* The 16 colours of text and planar modes, through the attribute controller. */
static void vga_palette16(const struct vga *v, struct picture *p)
{
    uint8_t color = v->attr[VGA_ATTR_COLOR];

    for (unsigned i = 0; i < 16; i++) {
        uint8_t index = v->attr[i];

        if (v->attr[VGA_ATTR_MODE] & ATTR_P54)
            index = (uint8_t)((index & 0x0f) | (color & 0x0f) << 4);
        else
            index = (uint8_t)((index & 0x3f) | (color & 0x0c) << 4);
        p->palette[i] = vga_color(v, index);
    }
}

static void vga_palette256(const struct vga *v, struct picture *p)
{
    for (unsigned i = 0; i < 256; i++)
        p->palette[i] = vga_color(v, (uint8_t)i);
}

static void vga_mode_dispi(const struct vga *v, struct picture *p)
{
    const uint16_t *r = v->dispi;
    unsigned bpp = r[DISPI_BPP];

    p->width = r[DISPI_XRES];
    p->height = r[DISPI_YRES];
    p->split = p->height;
    p->repeat = 1;
    p->pitch = vga_dispi_pitch(v);
    p->start = r[DISPI_Y_OFFSET] * p->pitch;
    if (bpp == 4) {
        p->kind = PICTURE_PLANAR;
        p->planes = v->attr[VGA_ATTR_PLANES] & 0x0f;
        p->start += r[DISPI_X_OFFSET] / 8 * BYTES;
        vga_palette16(v, p);
    } else {
        p->kind = bpp == 8 ? PICTURE_INDEX8 : PICTURE_RGB;
        p->bpp = bpp;
        p->start += r[DISPI_X_OFFSET] * ((bpp + 7) / 8);
        vga_palette256(v, p);
    }
}

/* Lines that the CRTC shows, and the first one after the split, before any repetition. */
static void vga_mode_lines(const struct vga *v, struct picture *p)
{
    unsigned over = v->crtc[VGA_CRTC_OVERFLOW], scan = v->crtc[VGA_CRTC_MAX_SCAN];

    p->height = (v->crtc[VGA_CRTC_V_END] | (over & 0x02) << 7 | (over & 0x40) << 3) + 1u;
    p->split = (v->crtc[VGA_CRTC_LINE_COMPARE] | (over & 0x10) << 4 | (scan & 0x40) << 3) + 1u;
    p->pitch = v->crtc[VGA_CRTC_OFFSET] * 2u * BYTES;
    p->start = (uint32_t)(v->crtc[VGA_CRTC_START_HI] << 8 | v->crtc[VGA_CRTC_START_LO]) * BYTES;
    p->repeat = 1;
}

/* The sequencer's character map select: bits 4, 3-2 for A, 5, 1-0 for B, in pieces of 16 and 8 KiB. */
static uint32_t vga_font(unsigned low, unsigned high)
{
    static const uint8_t order[8] = { 0, 2, 4, 6, 1, 3, 5, 7 };

    return (uint32_t)order[low | high << 2] * FONT_LEN + PLANE_2;
}

static void vga_mode_text(const struct vga *v, struct picture *p)
{
    unsigned map = v->seq[VGA_SEQ_CHAR_MAP];
    uint64_t now = clock_now_ns(vm_clock(v->pci.dev.vm));

    p->kind = PICTURE_TEXT;
    p->cell_width = v->seq[VGA_SEQ_CLOCKING] & SEQ_8_DOTS ? 8 : 9;
    p->cell_height = (v->crtc[VGA_CRTC_MAX_SCAN] & CRTC_CELL) + 1u;
    p->width = (v->crtc[VGA_CRTC_H_END] + 1u) * p->cell_width;
    if (v->crtc[VGA_CRTC_MAX_SCAN] & CRTC_DOUBLE_SCAN) {
        p->height /= 2;
        p->split /= 2;
    }
    p->font[1] = vga_font(map >> 2 & 3, map >> 5 & 1);
    p->font[0] = vga_font(map & 3, map >> 4 & 1);
    p->blink = v->attr[VGA_ATTR_MODE] & ATTR_BLINK;
    p->blink_off = now / BLINK_NS & 1;
    p->line_graphics = p->cell_width == 9 && (v->attr[VGA_ATTR_MODE] & ATTR_LINE_GRAPHICS);
    p->cursor = !(v->crtc[VGA_CRTC_CURSOR_START] & CURSOR_OFF) && !(now / CURSOR_NS & 1);
    p->cursor_first = v->crtc[VGA_CRTC_CURSOR_START] & CRTC_CELL;
    p->cursor_last = v->crtc[VGA_CRTC_CURSOR_END] & CRTC_CELL;
    p->cursor_at =
        (uint32_t)(v->crtc[VGA_CRTC_CURSOR_HI] << 8 | v->crtc[VGA_CRTC_CURSOR_LO]) * BYTES;
    vga_palette16(v, p);
}

/*
 * Bits 0 and 1 of the CRTC's mode register, where they are clear, put line counter bits into the address:
 * lines of CGA and Hercules modes lie in banks of 8 KiB.
 */
static void vga_mode_banks(const struct vga *v, struct picture *p)
{
    unsigned mode = v->crtc[VGA_CRTC_MODE];

    p->row_bits[0] = mode & 1 ? 0 : 0x2000 * BYTES;
    p->row_bits[1] = mode & 2 ? 0 : 0x4000 * BYTES;
}

static void vga_mode_graphics(const struct vga *v, struct picture *p)
{
    unsigned scan = v->crtc[VGA_CRTC_MAX_SCAN], shift = v->gfx[VGA_GFX_MODE] >> 5 & 3;
    unsigned columns = v->crtc[VGA_CRTC_H_END] + 1u, pan = v->attr[VGA_ATTR_PAN];
    bool banks = (v->crtc[VGA_CRTC_MODE] & CRTC_ROW_SCAN) != CRTC_ROW_SCAN;

    p->repeat = scan & CRTC_DOUBLE_SCAN ? 2 : 1;
    if (!banks)
        p->repeat *= (scan & CRTC_CELL) + 1u;
    else
        vga_mode_banks(v, p);
    if (banks && !(scan & CRTC_DOUBLE_SCAN) && (scan & CRTC_CELL))
        p->repeat = 1;
    p->height = (p->height + p->repeat - 1) / p->repeat;
    p->split = (p->split + p->repeat - 1) / p->repeat;
    p->repeat = 1; /* shown once, as the guest drew it */
    p->planes = v->attr[VGA_ATTR_PLANES] & 0x0f;
    if (shift >= 2) {
        p->kind = PICTURE_INDEX8;
        p->width = columns * 4;
        p->pan = pan / 2 & 3;
        vga_palette256(v, p);
        return;
    }
    p->kind = shift ? PICTURE_PAIRS : PICTURE_PLANAR;
    p->width = columns * 8;
    p->pan = pan & 7;
    vga_palette16(v, p);
}

void vga_mode(const struct vga *v, struct picture *p)
{
    *p = (struct picture){ .mem = v->vram->hva, .len = VGA_VRAM_LEN };
    if (vga_dispi_on(v)) {
        vga_mode_dispi(v, p);
        return;
    }
    vga_mode_lines(v, p);
    if (!(v->attr_index & VGA_ATTR_PAS) || (v->seq[VGA_SEQ_CLOCKING] & SEQ_SCREEN_OFF)) {
        p->kind = PICTURE_BLANK;
        p->width = BLANK_WIDTH;
        p->height = BLANK_HEIGHT;
    } else if (v->gfx[VGA_GFX_MISC] & GFX_GRAPHICS) {
        vga_mode_graphics(v, p);
    } else {
        vga_mode_text(v, p);
    }
}
