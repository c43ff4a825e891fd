/*
 * config.h: everything that a user can say about a VM, after parsing; plain data, owned by its creator.
 */
#ifndef VM_CONFIG_H
#define VM_CONFIG_H

#include "base/err.h"

enum {
    CONFIG_MAX_DISKS = 16,
    CONFIG_MAX_IDE = 4,
    CONFIG_MAX_FLOPPIES = 2,
    CONFIG_MAX_FORWARDS = 32,
    CONFIG_MAX_CPUS = 64
};

enum config_bus {
    CONFIG_BUS_VIRTIO,
    CONFIG_BUS_IDE,
    CONFIG_BUS_AHCI,
    CONFIG_BUS_NVME,
    CONFIG_BUS_SCSI,
    CONFIG_BUS_USB,
    CONFIG_BUS_FLOPPY,
    CONFIG_BUSES /* none of them */
};
#define CONFIG_NO_MEDIUM       "none"
#define CONFIG_BUS_WORDS       "virtio, ide, ahci, nvme, scsi, usb, floppy"
#define CONFIG_BUS_CDROM_WORDS "ide, ahci, scsi, usb"
#define CONFIG_NET_MODELS      "virtio|e1000|rtl8139|rtl8139c"

struct config_disk {
    char *path;   /* CONFIG_NO_MEDIUM of a CD or floppy: the drive is empty */
    char *format; /* "raw"; NULL: found out at open */
    char *serial; /* NULL: none */
    char *bus;    /* a word of CONFIG_BUS_WORDS; NULL: virtio */
    bool readonly;
    bool cdrom; /* a CD-ROM drive with this medium; readonly */
    /* How it is used, each NULL: the first word (the words: config_disk_io.c) */
    char *cache, *aio, *discard, *detect_zeroes;
    char *key_file;                  /* has the passphrase of an encrypted image; NULL: none */
    char *on_io_error;               /* NULL: the VM's */
    uint64_t iops, iops_rd, iops_wr; /* limits a second; 0: none */
    uint64_t bps, bps_rd, bps_wr;    /* bytes */
    uint64_t burst_ms;               /* for how long saved-up allowance lasts; 0: a default */
    uint64_t timeout_ms;             /* how long its server may be silent; 0: a default */
};
struct config_forward {
    bool udp;
    char host_addr[64]; /* "127.0.0.1" unless given */
    uint16_t host_port, guest_port;
};
struct vm_config {
    char *name;
    bool any_name; /* a number is put behind it if another VM has it */
    unsigned cpus;
    uint64_t memory;                /* bytes */
    char *accel;                    /* "auto", "kvm", "kvm-only", "bt" */
    char *cpu;                      /* CPU model; "host" */
    char *kernel, *initrd, *append; /* NULL: none */
    char *firmware; /* "auto", "bios", "uefi" or a file; NULL: a kernel is booted without */
    char *
        uefi_vars; /* file of the UEFI variables, made if UEFI is what boots; NULL: they are forgotten */
    char *firmware_log; /* what firmware writes to its debug port, as serial; NULL: only the log */
    char *boot_order;   /* letters of devices in their order: a c d n; NULL: firmware's own */
    bool boot_menu;
    struct config_disk disk[CONFIG_MAX_DISKS];
    unsigned n_disks;
    char *on_io_error;  /* of disks that do not say it themselves; NULL: "enospc" */
    char *net;          /* "none", "user" */
    char *net_model;    /* the card: CONFIG_NET_MODELS; NULL: virtio */
    char *net_tftp;     /* folder of which the network serves the files by TFTP; NULL: none */
    char *net_bootfile; /* what DHCP says to boot: a file of that folder, a URL; NULL: nothing */
    uint8_t mac[6];
    struct config_forward forward[CONFIG_MAX_FORWARDS];
    unsigned n_forwards;
    char *serial;           /* "stdio", "none", "file:F", "unix:F", "pty" */
    char *console;          /* of the virtio console, as serial; "none": there is no such device */
    char *parallel;         /* of the parallel port, as serial; NULL, "none": there is none */
    char *display;          /* "none", "vnc", "vnc=ADDR" (base/sock.h); NULL: as none */
    char *display_password; /* of viewers; NULL: none is asked for */
    char *screenshot;  /* file that SIGUSR1 writes the screen to: PNG, or text if it ends in .txt */
    char *gdb;         /* where the debugger's server listens (base/sock.h); NULL: there is none */
    char *usb;         /* controller: "none", "xhci", "uhci"; NULL: one if something needs it */
    bool usb_keyboard; /* in it, besides the tablet */
    bool gdb_wait;     /* stopped until a debugger lets it go */
    bool perf_map;     /* name generated code for perf */
    char *perf_symbols; /* by this file (base/symbols.h); NULL: by address */
    bool no_reboot;
    int debug_exit_port; /* -1: none */
    bool test_device;    /* hw/testdev.h */
    bool no_sandbox;     /* for debugging the VMM itself */
};

void config_init(struct vm_config *c); /* defaults */
void config_fini(struct vm_config *c);
/* The whole effective configuration as JSON text (malloc'd), and back. */
char *config_to_json(const struct vm_config *c);
/* *c need not be initialised; config_fini() is due also after a failure. */
must_check int config_from_json(struct vm_config *c, const char *json, struct err *e);
/* "52:54:00:12:34:56"; 0 or -EINVAL. */
must_check int config_parse_mac(const char *text, uint8_t mac[6]);
/* The controller that there is: NULL, "xhci" or "uhci". */
const char *config_usb(const struct vm_config *c);
bool config_usb_tablet(const struct vm_config *c);
bool config_has_viewers(const struct vm_config *c); /* may somebody look at the screen? */
must_check int config_check_usb(const struct vm_config *c, struct err *e);
/* config_bus.c: what the disk is attached to; as Linux calls the first such disk. */
enum config_bus config_disk_bus(const struct config_disk *d);
/* Neither a CD nor a floppy. */
bool config_disk_is_hard(const struct config_disk *d);
bool config_disk_is_empty(const struct config_disk *d); /* a drive without a medium */
bool config_disk_is_ide(const struct config_disk *d);
const char *config_disk_linux_root(const struct config_disk *d);
must_check int config_check_bus(const struct vm_config *c, const struct config_disk *d,
                                struct err *e);
/* Whether its path names something else than a file: a server's export. */
bool config_disk_is_remote(const struct config_disk *d);
/* config_disk_io.c: cache, limits and the like: refuses unknown words; frees. */
must_check int config_check_disk_io(const struct config_disk *d, struct err *e);
must_check int config_check_on_io_error(const char *word, struct err *e);
void config_disk_io_fini(struct config_disk *d);
/* config_effective.c: puts in what is in force where nothing was said, to be shown: a VM needs no such call. */
must_check int config_effective(struct vm_config *c, struct err *e);
/* Refuses what cannot work, with a sentence, before anything is started. */
must_check int config_check(const struct vm_config *c, struct err *e);

#endif
