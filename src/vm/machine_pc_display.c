/*
 * machine_pc_display.c: the screen of the `pc` machine: the VGA, its memory, and who looks at it. With
 * firmware there always is one; a kernel booted without has one if somebody asked for it.
 */
#include "vm/machine_pc_priv.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/log.h"
#include "boot/firmware.h"
#include "display/png.h"
#include "display/vnc.h"
#include "hw/i8042.h"
#include "hw/vga.h"
#include "mem/guest.h"

#define PC_VRAM_HIDDEN 0xfd000000ull /* where it is not mapped: any address will do */
#define PC_BDA_VIDEO   0x449
#define PC_VGA_BIOS    "vgabios-stdvga.bin"
#define PC_VNC_ADDRESS "127.0.0.1:5900"

/* --- memory --- */

/* Only in the window that firmware has for PCI memory, where nothing else can be told to answer. */
static bool pc_vram_fits(const struct machine *m, uint64_t at)
{
    return at != PCI_UNMAPPED && at >= max_u64(m->low.len, PC_1M) && at + VGA_VRAM_LEN <= PC_IOAPIC;
}

void pc_place_vram(struct machine *m)
{
    uint64_t at = m->vga ? vga_frame_buffer(m->vga) : PCI_UNMAPPED;
    bool fits = pc_vram_fits(m, at);

    if (!m->vram.hva || (!m->vram.hidden && fits && m->vram.gpa == at))
        return;
    vm_show_ram(m->vm, &m->vram, false, false);
    if (!fits)
        return;
    physmap_move(&m->vm->mem, &m->vram, at);
    vm_show_ram(m->vm, &m->vram, true, false);
}

static int pc_create_vram(struct machine *m, struct err *e)
{
    int rc = ram_alloc(&m->vram, "vga", PC_VRAM_HIDDEN, VGA_VRAM_LEN, e);

    if (rc)
        return rc;
    m->vram.hidden = m->vram.moves = true;
    rc = physmap_add(&m->vm->mem, &m->vram);
    return rc ? err_set(e, -rc, "no room for the screen's memory") : 0;
}

/* --- the VGA --- */

static bool pc_wants_screen(const struct vm_config *cfg)
{
    return cfg->firmware || cfg->screenshot || (cfg->display && strcmp(cfg->display, "none") != 0);
}

/* A kernel that is booted directly finds characters in the VGA all the same, if the package is there. */
static void pc_load_font(struct machine *m)
{
    const uint8_t *font;
    struct err e = { 0 };
    uint8_t *rom = NULL;
    uint32_t len = 0;

    if (firmware_load_rom(PC_VGA_BIOS, &rom, &len, &e)) {
        log_warn("vga", "text mode has no characters before the guest loads some: %s", e.msg);
        return;
    }
    font = firmware_find_font(rom, len);
    if (!font) {
        free(rom);
        return;
    }
    memmove(rom, font, FIRMWARE_FONT_LEN);
    m->font = rom;
}

int pc_show_text(struct machine *m, struct err *e)
{
    /* the video part of the BIOS data area, from 449 on: mode, columns, bytes of a page; the CRTC's port; the last
     * row, lines of a character */
    static const uint8_t video[] = {
        3, 80, 0, 0, 0x10, [0x1a] = 0xd4, 0x03, [0x3b] = 24, VGA_FONT_LINES, 0
    };

    if (!m->vga)
        return 0;
    vga_set_text(m->vga, m->font);
    return guest_write(&m->vm->mem, PC_BDA_VIDEO, video, sizeof(video))
               ? 0
               : err_set(e, ENOSPC, "no room for the BIOS data area");
}

int pc_create_vga(struct machine *m, struct err *e)
{
    static const struct vga_at at = { PC_VGA_HOLE, PC_VGA_PORTS, PC_VGA_DISPI };
    uint8_t *rom = NULL;
    uint32_t rom_len = 0;
    int rc;

    if (!pc_wants_screen(m->vm->cfg))
        return 0;
    rc = pc_create_vram(m, e);
    if (!rc && m->vm->cfg->firmware)
        rc = firmware_load_rom(PC_VGA_BIOS, &rom, &rom_len, e);
    else if (!rc)
        pc_load_font(m);
    if (rc)
        return rc;
    m->vga = vga_create(m->vm, m->pci, PCI_DEVFN(PC_VGA_SLOT, 0), &at, &m->vram, rom, rom_len, e);
    if (!m->vga) {
        free(rom);
        return -e->code;
    }
    /* OVMF waits long for a keyboard that does not answer */
    i8042_plug_keyboard(m->kbc, m->input);
    i8042_plug_mouse(m->kbc, pc_isa_irq(m, PC_IRQ_MOUSE), m->input);
    return 0;
}

/* --- viewers --- */

static int pc_display_draw(void *opaque, struct surface *s)
{
    struct machine *m = opaque;
    struct picture p;

    vga_picture(m->vga, &p);
    return picture_draw(&p, s);
}

int pc_create_display(struct machine *m, struct err *e)
{
    const struct vm_config *cfg = m->vm->cfg;
    const struct vnc_source source = { m, pc_display_draw, m->input };
    const char *where = PC_VNC_ADDRESS;
    char name[160];

    if (cfg->screenshot) {
        m->screenshot_fd = open(cfg->screenshot, O_RDWR | O_CREAT | O_CLOEXEC, 0666);
        if (m->screenshot_fd < 0)
            return err_set(e, errno, "the screenshot %s cannot be written: %s", cfg->screenshot,
                           strerror(errno));
    }
    if (!cfg->display || !strcmp(cfg->display, "none"))
        return 0;
    if (!strncmp(cfg->display, "vnc=", 4))
        where = cfg->display + 4;
    m->vnc = vnc_create(m->vm->loop, where, cfg->display_password, &source, e);
    if (!m->vnc)
        return -e->code;
    vnc_where(m->vnc, name, sizeof(name));
    fprintf(stderr, "ruche: the screen is at vnc://%s\n", name);
    return 0;
}

void machine_pc_display_where(struct vm *vm, char *buf, size_t len)
{
    char name[160];

    *buf = '\0';
    if (!vm->machine->vnc)
        return;
    vnc_where(vm->machine->vnc, name, sizeof(name));
    snprintf(buf, len, "vnc://%s", name);
}

void pc_destroy_display(struct machine *m)
{
    vnc_destroy(m->vnc);
    free(m->font);
    util_close(&m->screenshot_fd);
}

/* --- screenshots --- */

static bool pc_is_text_file(const char *path)
{
    size_t len = strlen(path);

    return len > 4 && !strcmp(path + len - 4, ".txt");
}

bool machine_pc_has_screen(struct vm *vm)
{
    return vm->machine->vga;
}

void *machine_pc_screen(struct vm *vm, bool text, size_t *len)
{
    const struct machine *m = vm->machine;
    struct surface s = { 0 };
    struct picture p;
    void *data = NULL;

    vga_picture(m->vga, &p);
    if (text) {
        data = picture_text(&p);
        *len = data ? strlen(data) : 0;
    } else if (!picture_draw(&p, &s)) {
        data = png_encode(&s, len);
    }
    surface_fini(&s);
    return data;
}

struct input *machine_pc_input(struct vm *vm)
{
    return vm->machine->input;
}

void machine_pc_screenshot(struct vm *vm)
{
    struct machine *m = vm->machine;
    size_t len = 0;
    void *data;

    if (m->screenshot_fd < 0)
        return;
    data = machine_pc_screen(vm, pc_is_text_file(vm->cfg->screenshot), &len);
    if (!data || lseek(m->screenshot_fd, 0, SEEK_SET) || ftruncate(m->screenshot_fd, 0) ||
        util_write_all(m->screenshot_fd, data, len))
        log_warn("display", "the screenshot was not written");
    free(data);
}
