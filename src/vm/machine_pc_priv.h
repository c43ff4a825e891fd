/*
 * machine_pc_priv.h: between the files of the `pc` machine: its addresses and irq numbers, and its parts.
 *
 *  machine_pc.c           chips and devices
 *  machine_pc_blk.c       the disks' contents: what the options ask of the block layer
 *  machine_pc_disks.c     their controllers
 *  machine_pc_media.c     the drives whose medium can be changed
 *  machine_pc_memory.c    what answers where in guest memory: RAM, shadow RAM, ROM
 *  machine_pc_display.c   the screen
 *  machine_pc_legacy.c    DMA controllers, floppies, parallel port
 *  machine_pc_net.c       the network card
 *  machine_pc_uefi.c      what UEFI firmware says on its console
 *  machine_pc_usb.c       USB
 *  machine_pc_boot.c      direct boot of a kernel: what firmware would have done
 *  machine_pc_firmware.c  boot through firmware: its image, and what it is told through fw_cfg
 */
#ifndef VM_MACHINE_PC_PRIV_H
#define VM_MACHINE_PC_PRIV_H

#include "block/guard.h"
#include "boot/acpi.h"
#include "boot/boot.h"
#include "boot/smbios.h"
#include "hw/i440fx.h"
#include "hw/ide.h"
#include "vm/machine_pc.h"

#define PC_LOW_MAX    (3 * GIB)
#define PC_HIGH       (4 * GIB)
#define PC_MMIO32     0xc0000000ull
#define PC_MMIO32_LEN 0x3ec00000ull
#define PC_IOAPIC     0xfec00000ull
#define PC_HPET       0xfed00000ull
#define PC_TESTDEV    0xff000000ull
#define PC_ACPI       0xe0000ull
#define PC_ACPI_LEN   0x10000ull
#define PC_SMBIOS     0xf0000ull
#define PC_SMBIOS_LEN 0x8000ull
#define PC_MP         0xf8000ull
#define PC_MP_LEN     0x8000ull
#define PC_EBDA       0x9fc00ull
#define PC_VGA_HOLE   0xa0000ull
#define PC_BIOS       0xe0000ull
#define PC_1M         0x100000ull
#define PC_2M         0x200000ull

enum {
    PC_COM1 = 0x3f8,
    PC_DMA_LOW = 0x00,
    PC_DMA_HIGH = 0xc0,
    PC_DMA_PAGE = 0x81,
    PC_DMA_FDC = 2, /* channel */
    PC_FDC = 0x3f0,
    PC_LPT1 = 0x378,
    PC_IDE0 = 0x1f0,
    PC_IDE0_CONTROL = 0x3f6,
    PC_IDE1 = 0x170,
    PC_IDE1_CONTROL = 0x376,
    PC_PIC_MASTER = 0x20,
    PC_PIC_SLAVE = 0xa0,
    PC_ELCR = 0x4d0,
    PC_DEBUGCON = 0x402,
    PC_PM = 0x600,
    PC_GPE0 = 0xafe0,
    PC_RESET = 0xcf9,
    PC_PVPANIC = 0x505,
    PC_FW_CFG = 0x510,
    PC_PCI_IO = 0xc000,
    PC_KBD_DATA = 0x60,
    PC_KBD_COMMAND = 0x64,
    PC_POST = 0x80,
    PC_PORT92 = 0x92,
    PC_FERR = 0xf0,
    PC_S3_TYPE = 1,
    PC_S5_TYPE = 0,
    PC_TESTDEV_LINES = 0x2000,
    PC_TESTDEV_ECHO = 0xe0,
    PC_TESTDEV_FLUSH = 0xe4,
    PC_PIT = 0x40,
    PC_SPEAKER = 0x61,
    PC_RTC = 0x70,
    PC_VGA_PORTS = 0x3b0,
    PC_VGA_DISPI = 0x1ce,
};
enum {
    PC_IRQ_KBD = 1,
    PC_IRQ_COM1 = 4,
    PC_IRQ_FDC = 6,
    PC_IRQ_LPT1 = 7,
    PC_IRQ_RTC = 8,
    PC_IRQ_SCI = 9,
    PC_IRQ_MOUSE = 12,
    PC_IRQ_IDE = 14,
    PC_PCI_IRQS = BIT(5) | BIT(10) | BIT(11) /* those that firmware and ACPI may give to PIRQs */
};
/* Those of the screen and of USB are the last, so that they change no other device's. */
enum { PC_PIRQ_PIN = 16, PC_PIT_PIN = 2, PC_FIRST_SLOT = 2, PC_USB_SLOT = 30, PC_VGA_SLOT = 31 };
#define PC_FLOPPY_PATH "/pci@i0cf8/isa@1/fdc@03f0/floppy@"
/* CMOS: types of the floppy drives; equipment. */
enum {
    PC_CMOS_FLOPPY = 0x10,
    PC_CMOS_EQUIPMENT = 0x14,
    PC_EQUIPMENT_FLOPPY = 0x01,
    PC_EQUIPMENT_FPU = 0x02,
    PC_EQUIPMENT_MOUSE = 0x04,
    PC_EQUIPMENT_FLOPPY2 = 0x40,
};
/* CMOS bytes that firmware reads: why the machine was reset, how many processors there are besides the first. */
enum { PC_CMOS_SHUTDOWN = 0x0f, PC_CMOS_APS = 0x5f, PC_SHUTDOWN_S3 = 0xfe };

struct fw_cfg;
struct input;
struct vga;
struct vnc;
/* Who types without looking (machine_pc_key()). Not the guest's state. */
struct pc_typing {
    uint16_t bios_tail;     /* of the BIOS's ring of keys before the last one; 0: there was none */
    uint64_t full_since_ns; /* it has no room; 0: it has */
};
/* The line that UEFI firmware writes to its console. Not the guest's state; loop thread. */
struct pc_uefi {
    char line[192];
    unsigned len;
    struct log_limit limit;
};
struct machine {
    struct vm *vm;
    /* RAM: two blocks; the guest sees `low` through views, because parts of it can be switched */
    struct ram_region low, high;
    struct ram_region base, smram, shadow[I440FX_SEGMENTS], main;
    struct ram_region above; /* the part of main that is left while the A20 gate is closed */
    /* firmware: the image below 4 GiB, and its end once more below 1 MiB, by segments of shadow RAM */
    struct ram_region rom, rom_low[I440FX_SEGMENTS];
    struct ram_region vars; /* UEFI variables, right below it */
    struct ram_region vram; /* the VGA's, NULL hva: none */
    struct i8259 *pic;
    struct ioapic *ioapic;
    struct pci_bus *pci;
    struct i440fx *host;
    struct piix3 *piix3;
    struct piix4_pm *piix4;
    struct mc146818 *rtc;
    struct acpi_pm *pm;
    struct i8042 *kbc;
    struct i8237 *dma;
    struct input *input;
    struct pc_typing typing;
    struct vga *vga; /* NULL: no screen */
    uint8_t *font;   /* where no firmware gives it one; NULL: none */
    struct vnc *vnc; /* NULL: nobody may look */
    int screenshot_fd;
    struct isa_misc *misc;
    uint64_t facs; /* gpa */
    struct fw_cfg *fw_cfg;
    struct pflash *pflash; /* NULL: no UEFI variables */
    unsigned next_slot;
    char disk_path[CONFIG_MAX_DISKS][64]; /* as firmware calls it (Open Firmware) */
    unsigned net_slot;                    /* 0: no network card */
    char disk_id[CONFIG_MAX_DISKS][16];
    struct blk
        *drive[CONFIG_MAX_DISKS]; /* those of removable media (block/drive.h); their controllers' */
    bool uefi_disk;               /* the first disk boots by UEFI alone */
    struct blk_watcher disk_watcher; /* of all disks */
    struct pc_uefi uefi;
    struct chardev *serial, *console, *firmware_log, *parallel;
};

/* machine_pc.c */
struct irq pc_isa_irq(struct machine *m, unsigned line);
/* what: for the user. NULL with a sentence. */
struct chardev *pc_open_stream(struct machine *m, const char *what, const char *where,
                               struct err *e);
unsigned pc_next_devfn(struct machine *m);
/* machine_pc_disks.c */
must_check int pc_create_virtio_disks(struct machine *m, struct err *e);
must_check int pc_create_disk_controllers(struct machine *m, struct err *e); /* after virtio */
/* machine_pc_blk.c */
/* Disk number index of the configuration, opened as it says; who attaches it owns it. */
struct blk *pc_open_disk(struct machine *m, unsigned index, struct err *e);
struct blk_opts;
void pc_blk_opts(const struct machine *m, const struct config_disk *d, struct blk_opts *o);
/* machine_pc_media.c */
/* The drive of disk number index, with the medium (NULL: none) in it, which it owns if it succeeds. */
struct blk *pc_create_drive(struct machine *m, unsigned index, struct blk *medium, struct err *e);
must_check int pc_create_media(struct machine *m, struct err *e); /* after all controllers */

/* machine_pc_memory.c */
must_check int pc_create_ram(struct machine *m, struct err *e);
/* Maps the image (of whole pages, at least 64 KiB) as ROM that ends at 4 GiB. Before the vCPUs are created. */
must_check int pc_create_rom(struct machine *m, const void *image, uint64_t len, struct err *e);
/* And the UEFI variables below it. fd: the file that follows them, or -1; the machine's once this succeeds. */
must_check int pc_create_vars(struct machine *m, const void *vars, uint64_t len, int fd,
                              struct err *e);
void pc_free_memory(struct machine *m);
uint64_t pc_ram_end(const struct machine *m); /* of RAM above 4 GiB; 4 GiB if there is none */

/* machine_pc_boot.c */
void pc_acpi_desc(const struct machine *m, struct acpi_desc *d);
void pc_uuid(const struct vm_config *cfg, uint8_t uuid[16]);
must_check int pc_smbios(const struct machine *m, uint64_t base, struct smbios_tables *out,
                         struct err *e);

/* machine_pc_cmos.c */
/* Finds the geometries of the disks (members chs), and tells firmware of them. */
void pc_ide_geometry(struct machine *m, struct ide_media media[IDE_DRIVES]);

/* machine_pc_display.c */
must_check int pc_create_vga(struct machine *m, struct err *e);
must_check int pc_create_display(struct machine *m, struct err *e); /* after the VGA */
void pc_destroy_display(struct machine *m);
/* Leaves the screen as a BIOS would, in text mode, and the BIOS data area too. Before a kernel is loaded. */
must_check int pc_show_text(struct machine *m, struct err *e);
void pc_place_vram(struct machine *m); /* where its BAR says; vCPUs stopped */

/* machine_pc_legacy.c */
must_check int pc_create_dma(struct machine *m, struct err *e);
must_check int pc_create_parallel(struct machine *m, struct err *e);
must_check int pc_create_floppies(struct machine *m, struct err *e);

/* machine_pc_net.c */
must_check int pc_create_net(struct machine *m, unsigned devfn, struct err *e);

/* machine_pc_disks.c: how firmware calls the disk of this number */
void pc_set_path(struct machine *m, unsigned index, const char *format, ...) printf_like(3, 4);

/* machine_pc_usb.c */
must_check int pc_create_usb(struct machine *m, struct err *e);

/* machine_pc_uefi.c: a line in the log when UEFI firmware finds nothing to boot */
void pc_listen_to_uefi(struct machine *m);

/* machine_pc_firmware.c */
must_check int pc_create_firmware(struct machine *m, struct err *e); /* after all devices */

#endif
