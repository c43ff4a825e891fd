/*
 * vga_regs.c: the VGA's registers (IBM PS/2 Hardware Interface Technical Reference, Video Subsystem). A
 * register that does not exist reads 0 and drops writes. The vertical retrace follows guest time as at 60
 * Hz and 525 lines, whatever the CRTC's timing registers say.
 */
#include "hw/vga_priv.h"

enum {
    PORT_ATTR = 0x3c0,
    PORT_ATTR_READ = 0x3c1,
    PORT_MISC = 0x3c2, /* write; read: input status 0 */
    PORT_SEQ_INDEX = 0x3c4,
    PORT_SEQ = 0x3c5,
    PORT_DAC_MASK = 0x3c6,
    PORT_DAC_READ = 0x3c7, /* read: state */
    PORT_DAC_WRITE = 0x3c8,
    PORT_DAC = 0x3c9,
    PORT_FEATURE_READ = 0x3ca,
    PORT_MISC_READ = 0x3cc,
    PORT_GFX_INDEX = 0x3ce,
    PORT_GFX = 0x3cf,
    PORT_CRTC_INDEX = 0x3d4,
    PORT_CRTC = 0x3d5,
    PORT_STATUS = 0x3da,
    PORT_FIRST = 0x3b0,
    PORT_MONO_TO_COLOR = 0x20,
};
enum { STATUS_BLANK = BIT(0), STATUS_RETRACE = BIT(3), SWITCH_SENSE = BIT(4) };
enum {
    FRAME_NS = 16666667,
    LINES = 525,
    LINES_SHOWN = 480,
    RETRACE_FIRST = 490,
    RETRACE_LAST = 491
};
enum { LINE_NS = FRAME_NS / LINES, LINE_SHOWN_NS = LINE_NS * 4 / 5 };
enum { CRTC_PROTECT = BIT(7), CRTC_LINE_COMPARE_8 = BIT(4) };

/* What can be written of each register. */
static const uint8_t vga_seq_mask[VGA_SEQ_REGS] = { 0x03, 0x3d, 0x0f, 0x3f, 0x0e };
static const uint8_t vga_gfx_mask[VGA_GFX_REGS] = { 0x0f, 0x0f, 0x0f, 0x1f, 0x03,
                                                    0x7b, 0x0f, 0x0f, 0xff };
static const uint8_t vga_attr_mask[VGA_ATTR_REGS] = {
    0x3f, 0x3f, 0x3f, 0x3f, 0x3f, 0x3f, 0x3f, 0x3f, 0x3f, 0x3f, 0x3f,
    0x3f, 0x3f, 0x3f, 0x3f, 0x3f, 0xef, 0xff, 0x3f, 0x0f, 0x0f,
};

/* --- attribute controller --- */

static void vga_attr_write(struct vga *v, uint8_t val)
{
    unsigned reg = v->attr_index & 0x1f;

    if (!v->attr_data)
        v->attr_index = val & 0x3f;
    else if (reg < VGA_ATTR_REGS)
        v->attr[reg] = val & vga_attr_mask[reg];
    v->attr_data = !v->attr_data;
}

static uint8_t vga_attr_read(const struct vga *v)
{
    unsigned reg = v->attr_index & 0x1f;

    return reg < VGA_ATTR_REGS ? v->attr[reg] : 0;
}

/* --- DAC --- */

static void vga_dac_select(struct vga *v, uint8_t index, bool reading)
{
    v->dac_index = index;
    v->dac_component = 0;
    v->dac_reading = reading;
}

static void vga_dac_next(struct vga *v)
{
    if (++v->dac_component < 3)
        return;
    v->dac_component = 0;
    v->dac_index++;
}

static uint8_t vga_dac_read(struct vga *v)
{
    uint8_t val = v->dac[v->dac_index][v->dac_component];

    vga_dac_next(v);
    return val;
}

/* A colour changes as a whole, with its third component. */
static void vga_dac_write(struct vga *v, uint8_t val)
{
    uint8_t *entry = v->dac[v->dac_index];

    if (!(v->dispi[DISPI_ENABLE] & DISPI_8BIT_DAC))
        val &= 0x3f;
    if (v->dac_component < 2) {
        v->dac_latch[v->dac_component] = val;
    } else {
        entry[0] = v->dac_latch[0];
        entry[1] = v->dac_latch[1];
        entry[2] = val;
    }
    vga_dac_next(v);
}

/* --- CRTC --- */

static void vga_crtc_write(struct vga *v, uint8_t val)
{
    unsigned reg = v->crtc_index;

    if (reg >= VGA_CRTC_REGS)
        return;
    if (reg <= VGA_CRTC_OVERFLOW && (v->crtc[VGA_CRTC_V_SYNC_END] & CRTC_PROTECT)) {
        if (reg == VGA_CRTC_OVERFLOW)
            v->crtc[reg] =
                (uint8_t)((v->crtc[reg] & ~CRTC_LINE_COMPARE_8) | (val & CRTC_LINE_COMPARE_8));
        return;
    }
    v->crtc[reg] = val;
}

static uint8_t vga_status(struct vga *v)
{
    uint64_t t = clock_now_ns(vm_clock(v->pci.dev.vm)) % FRAME_NS, line = t / LINE_NS;

    v->attr_data = false;
    if (line >= RETRACE_FIRST && line <= RETRACE_LAST)
        return STATUS_RETRACE | STATUS_BLANK;
    return line >= LINES_SHOWN || t % LINE_NS >= LINE_SHOWN_NS ? STATUS_BLANK : 0;
}

/* --- ports --- */

/* As if it were a colour adapter; 0: nothing answers there now. */
static unsigned vga_port(const struct vga *v, unsigned port)
{
    bool color = v->misc & VGA_MISC_COLOR;

    port += PORT_FIRST;
    if (port < PORT_ATTR)
        return color ? 0 : port + PORT_MONO_TO_COLOR;
    return port >= 0x3d0 && !color ? 0 : port;
}

uint8_t vga_reg_read(struct vga *v, unsigned port)
{
    switch (vga_port(v, port)) {
    case PORT_ATTR:
        return v->attr_data ? 0 : v->attr_index;
    case PORT_ATTR_READ:
        return vga_attr_read(v);
    case PORT_MISC:
        return SWITCH_SENSE;
    case PORT_SEQ_INDEX:
        return v->seq_index;
    case PORT_SEQ:
        return v->seq_index < VGA_SEQ_REGS ? v->seq[v->seq_index] : 0;
    case PORT_DAC_MASK:
        return v->dac_mask;
    case PORT_DAC_READ:
        return v->dac_reading ? 3 : 0;
    case PORT_DAC_WRITE:
        return v->dac_index;
    case PORT_DAC:
        return vga_dac_read(v);
    case PORT_FEATURE_READ:
        return v->feature;
    case PORT_MISC_READ:
        return v->misc;
    case PORT_GFX_INDEX:
        return v->gfx_index;
    case PORT_GFX:
        return v->gfx_index < VGA_GFX_REGS ? v->gfx[v->gfx_index] : 0;
    case PORT_CRTC_INDEX:
        return v->crtc_index;
    case PORT_CRTC:
        return v->crtc_index < VGA_CRTC_REGS ? v->crtc[v->crtc_index] : 0;
    case PORT_STATUS:
        return vga_status(v);
    default:
        return 0xff;
    }
}

void vga_reg_write(struct vga *v, unsigned port, uint8_t val)
{
    switch (vga_port(v, port)) {
    case PORT_ATTR:
        vga_attr_write(v, val);
        break;
    case PORT_MISC:
        v->misc = val;
        break;
    case PORT_SEQ_INDEX:
        v->seq_index = val & 7;
        break;
    case PORT_SEQ:
        if (v->seq_index < VGA_SEQ_REGS)
            v->seq[v->seq_index] = val & vga_seq_mask[v->seq_index];
        break;
    case PORT_DAC_MASK:
        v->dac_mask = val;
        break;
    case PORT_DAC_READ:
        vga_dac_select(v, val, true);
        break;
    case PORT_DAC_WRITE:
        vga_dac_select(v, val, false);
        break;
    case PORT_DAC:
        vga_dac_write(v, val);
        break;
    case PORT_GFX_INDEX:
        v->gfx_index = val & 0x0f;
        break;
    case PORT_GFX:
        if (v->gfx_index < VGA_GFX_REGS)
            v->gfx[v->gfx_index] = val & vga_gfx_mask[v->gfx_index];
        break;
    case PORT_CRTC_INDEX:
        v->crtc_index = val & 0x3f;
        break;
    case PORT_CRTC:
        vga_crtc_write(v, val);
        break;
    case PORT_STATUS:
        v->feature = val;
        break;
    default:
        break;
    }
}
