/*
 * vga_priv.h: between the files of the VGA.
 *
 *  vga.c        the device: PCI function, wiring, state
 *  vga_regs.c   the registers behind ports 3b0 to 3df
 *  vga_mem.c    the window at a0000: planes, latches, write and read modes
 *  vga_dispi.c  the Bochs VBE extension
 *  vga_mode.c   registers to what is shown
 *  vga_text.c   what the VGA BIOS would leave
 *
 * Memory is kept as the display reads it: byte 4 * n + p of vram is byte n of plane p.
 */
#ifndef HW_VGA_PRIV_H
#define HW_VGA_PRIV_H

#include "hw/vga.h"

enum {
    VGA_SEQ_RESET = 0,
    VGA_SEQ_CLOCKING = 1,
    VGA_SEQ_MAP_MASK = 2,
    VGA_SEQ_CHAR_MAP = 3,
    VGA_SEQ_MEMORY = 4,
    VGA_SEQ_REGS = 5,

    VGA_GFX_SET_RESET = 0,
    VGA_GFX_ENABLE_SET_RESET = 1,
    VGA_GFX_COMPARE = 2,
    VGA_GFX_ROTATE = 3,
    VGA_GFX_READ_MAP = 4,
    VGA_GFX_MODE = 5,
    VGA_GFX_MISC = 6,
    VGA_GFX_DONT_CARE = 7,
    VGA_GFX_BIT_MASK = 8,
    VGA_GFX_REGS = 9,

    VGA_CRTC_H_END = 0x01,
    VGA_CRTC_OVERFLOW = 0x07,
    VGA_CRTC_PRESET_ROW = 0x08,
    VGA_CRTC_MAX_SCAN = 0x09,
    VGA_CRTC_CURSOR_START = 0x0a,
    VGA_CRTC_CURSOR_END = 0x0b,
    VGA_CRTC_START_HI = 0x0c,
    VGA_CRTC_START_LO = 0x0d,
    VGA_CRTC_CURSOR_HI = 0x0e,
    VGA_CRTC_CURSOR_LO = 0x0f,
    VGA_CRTC_V_SYNC_END = 0x11,
    VGA_CRTC_V_END = 0x12,
    VGA_CRTC_OFFSET = 0x13,
    VGA_CRTC_MODE = 0x17,
    VGA_CRTC_LINE_COMPARE = 0x18,
    VGA_CRTC_REGS = 0x19,

    VGA_ATTR_MODE = 0x10,
    VGA_ATTR_OVERSCAN = 0x11,
    VGA_ATTR_PLANES = 0x12,
    VGA_ATTR_PAN = 0x13,
    VGA_ATTR_COLOR = 0x14,
    VGA_ATTR_REGS = 0x15,

    VGA_MISC_COLOR = BIT(0), /* CRTC at 3d4, not 3b4 */
    VGA_MISC_RAM = BIT(1),
    VGA_ATTR_PAS = BIT(5), /* of the index: the palette is the screen's */
};
enum {
    DISPI_ID = 0,
    DISPI_XRES,
    DISPI_YRES,
    DISPI_BPP,
    DISPI_ENABLE,
    DISPI_BANK,
    DISPI_VIRT_WIDTH,
    DISPI_VIRT_HEIGHT,
    DISPI_X_OFFSET,
    DISPI_Y_OFFSET,
    DISPI_MEMORY, /* read only, in 64 KiB */
    DISPI_REGS,

    DISPI_ENABLED = BIT(0),
    DISPI_GETCAPS = BIT(1),
    DISPI_8BIT_DAC = BIT(5),
    DISPI_LFB = BIT(6),
    DISPI_NOCLEAR = BIT(7),
};

struct vga {
    struct pci_dev pci;
    /* wiring */
    struct ram_region *vram;
    uint8_t *rom; /* owned */
    /* guest-visible state */
    uint8_t misc, feature;
    uint8_t seq_index, seq[VGA_SEQ_REGS];
    uint8_t gfx_index, gfx[VGA_GFX_REGS];
    uint8_t crtc_index, crtc[VGA_CRTC_REGS];
    uint8_t attr_index, attr[VGA_ATTR_REGS];
    bool attr_data; /* the next write to 3c0 is data */
    uint8_t dac_mask, dac_index, dac_component;
    bool dac_reading;
    uint8_t dac_latch[2], dac[256][3];
    uint8_t latch[4];
    uint16_t dispi_index, dispi[DISPI_REGS];
};

static inline struct vga *vga_of(struct device *d)
{
    return container_of(container_of(d, struct pci_dev, dev), struct vga, pci);
}

/* Device lock held. port: from the first one on (3b0). */
uint8_t vga_reg_read(struct vga *v, unsigned port);
void vga_reg_write(struct vga *v, unsigned port, uint8_t val);
/* off: from a0000 on. */
uint8_t vga_mem_read(struct vga *v, uint32_t off);
void vga_mem_write(struct vga *v, uint32_t off, uint8_t val);
uint16_t vga_dispi_read(const struct vga *v, unsigned index);
void vga_dispi_write(struct vga *v, unsigned index, uint16_t val);
static inline bool vga_dispi_on(const struct vga *v)
{
    return v->dispi[DISPI_ENABLE] & DISPI_ENABLED;
}
uint32_t vga_dispi_pitch(const struct vga *v);
/* After a load: is what the registers show in memory? */
bool vga_dispi_valid(const struct vga *v);
void vga_mode(const struct vga *v, struct picture *p);

#endif
