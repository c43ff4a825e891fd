/*
 * machine_pc.h: the `pc` machine: i440FX/PIIX3 layout. machine_pc.c is the only file with addresses and
 * irq numbers.
 */
#ifndef VM_MACHINE_PC_H
#define VM_MACHINE_PC_H

#include "vm/vm.h"

/* RAM, chips, buses and devices of vm->cfg; vm_destroy() takes them down again. */
must_check int machine_pc_create(struct vm *vm, struct err *e);
/* Puts kernel, tables and the BSP's registers in place; after creation and after every reset. */
must_check int machine_pc_boot(struct vm *vm, struct err *e);
/* After vm_run() gave VM_END_WAKE: RAM stays, the rest is reset, the BSP is at the guest's waking vector. */
must_check int machine_pc_wake(struct vm *vm, struct err *e);
/* The host presses the power button. Loop thread. */
void machine_pc_power_button(struct vm *vm);
/* A drive whose medium can be changed. file, format: NULL if it is empty; valid until the next change. */
enum { MACHINE_DRIVE_NAME = 16 };
struct machine_drive {
    char name[MACHINE_DRIVE_NAME]; /* "cd0", "fd1" */
    const char *file, *format;
    uint64_t size;
    bool floppy, readonly, open, locked; /* open, locked: its tray, by the guest */
};
/* Of disk number index of the configuration; false: it is a hard disk. Loop thread. */
bool machine_pc_drive(struct vm *vm, unsigned index, struct machine_drive *d);
/* An image to be put in: open, because the VM may open no file any more. */
struct machine_medium {
    int fd;                    /* not 0; the caller's */
    const char *path, *format; /* path: what it is called; format NULL: as at the start */
    bool readonly;
};
/*
 * Puts the medium into the drive of this name, instead of the one that is there; NULL: leaves it empty. force: also
 * if the guest has locked the tray. 0, or -errno with a sentence. Loop thread.
 */
must_check int machine_pc_change_medium(struct vm *vm, const char *name,
                                        const struct machine_medium *from, bool force,
                                        struct err *e);
/* Where to put keys and pointer events (display/input.h). */
struct input *machine_pc_input(struct vm *vm);
/* Writes the screen to the file of --screenshot, if there is one. Loop thread. */
void machine_pc_screenshot(struct vm *vm);
/* What the guest writes to its serial port is also kept there; f outlives the VM. Before it runs. */
struct tail_file;
void machine_pc_keep_serial(struct vm *vm, struct tail_file *f);
bool machine_pc_has_screen(struct vm *vm);
/*
 * The screen as PNG, or as text ("" in a graphics mode); malloc'd, *len bytes. NULL: out of memory, or the guest
 * is between two modes. It has a screen. Loop thread.
 */
void *machine_pc_screen(struct vm *vm, bool text, size_t *len);
/* Where viewers find the screen, "" if nowhere. */
void machine_pc_display_where(struct vm *vm, char *buf, size_t len);
/*
 * Presses or lets go a key (display/keymap.h), if the guest has taken all before and its firmware has room: 0,
 * -EAGAIN (not yet) or -ENODEV (there is no keyboard). Loop thread.
 */
must_check int machine_pc_key(struct vm *vm, uint8_t key, bool down);

#endif
