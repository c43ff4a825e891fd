/*
 * vga.h: a standard VGA as a PCI function, with the Bochs VBE extension (its vendor's firmware is the
 * package seabios' vgabios-stdvga.bin). What it shows is a struct picture (display/picture.h).
 */
#ifndef HW_VGA_H
#define HW_VGA_H

#include "bus/pci.h"
#include "display/picture.h"

enum { VGA_VRAM_LEN = 16 * MIB };

struct vga;
/* Where the parts lie that no BAR tells. */
struct vga_at {
    uint64_t window;       /* 128 KiB: a0000 */
    uint16_t ports, dispi; /* 0x3b0, 0x1ce */
};

/*
 * vram: VGA_VRAM_LEN bytes, which outlive the device; their address in guest memory is the machine's to
 * follow (vga_frame_buffer(); the device calls vm_memory_changed()). rom: the VGA BIOS, or NULL; the
 * device's on success.
 */
struct vga *vga_create(struct vm *vm, struct pci_bus *bus, unsigned devfn, const struct vga_at *at,
                       struct ram_region *vram, uint8_t *rom, uint32_t rom_len, struct err *e);
/* Where the guest wants the linear frame buffer, by the registers; PCI_UNMAPPED: nowhere. */
uint64_t vga_frame_buffer(const struct vga *v);
enum { VGA_FONT_LINES = 16 };
/*
 * As the VGA BIOS leaves it: text mode 3, a blank screen. font: 256 characters of VGA_FONT_LINES bytes, NULL:
 * none, so that nothing can be seen. Before the vCPUs run.
 */
void vga_set_text(struct vga *v, const uint8_t *font);
/* What is on the screen now; any thread. The pixels themselves stay in vram. */
void vga_picture(struct vga *v, struct picture *p);

#endif
