#include "fuzz_pc.h"

#include <stdio.h>
#include <sys/mman.h>
#include <unistd.h>

#include "accel/bt/bt.h"
#include "fuzz.h"
#include "hw/pflash.h"
#include "vm/exit.h"
#include "vm/machine_pc.h"

enum {
    SLOTS = 8,
    CONFIG_ADDRESS = 0xcf8,
    CONFIG_DATA = 0xcfc,
    BAR0 = 0x10,
    IDE_SLOT = 1,
    IDE_FUNCTION = 1 << 8,
    IDE_BM_BAR = 0x20,
    VGA_SLOT = 31,
    IDE_BM = 0xc000,
    COMMAND = 4,
    DISK = 64 * KIB
};

static void fuzz_pc_disk(struct fuzz_pc *pc, const char *bus, bool cdrom)
{
    struct config_disk *d = &pc->cfg.disk[pc->cfg.n_disks++];
    char path[64];
    int fd = memfd_create("disk", MFD_CLOEXEC);

    BUG_ON(fd < 0 || ftruncate(fd, DISK) != 0);
    snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
    d->path = strdup(path);
    d->format = strdup("raw");
    d->bus = strdup(bus);
    d->cdrom = d->readonly = cdrom;
}

/* An image without code: what is seen of it, and where, is what matters. */
static void fuzz_pc_firmware(struct fuzz_pc *pc)
{
    char path[64];
    int fd = memfd_create("firmware", MFD_CLOEXEC);

    BUG_ON(fd < 0 || ftruncate(fd, FUZZ_PC_IMAGE) != 0);
    snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
    pc->cfg.firmware = strdup(path);
}

/* The chip that UEFI's variables would be in. */
static void fuzz_pc_flash(struct fuzz_pc *pc)
{
    struct err e = { 0 };

    BUG_ON(ram_alloc(&pc->flash, "flash", FUZZ_PC_FLASH, FUZZ_PC_FLASH_LEN, &e) != 0);
    BUG_ON(!pflash_create(pc->vm, &pc->flash, -1, &e));
}

void fuzz_pc_create(struct fuzz_pc *pc)
{
    struct err e = { 0 };

    fuzz_confine();
    fuzz_signals_save();
    config_init(&pc->cfg);
    pc->cfg.cpus = 2;
    pc->cfg.memory = FUZZ_PC_RAM;
    pc->cfg.debug_exit_port = 0xf4;
    free(pc->cfg.serial);
    pc->cfg.serial = strdup("none");
    free(pc->cfg.net);
    pc->cfg.net = strdup("user");
    fuzz_pc_disk(pc, "virtio", false);
    fuzz_pc_disk(pc, "ide", false);
    fuzz_pc_disk(pc, "ide", true);
    fuzz_pc_firmware(pc);
    /* Without an accelerator the clock is a manual one. */
    BUG_ON(vm_create(&pc->vm, &pc->cfg, NULL, &e) != 0);
    pc->vm->accel = &accel_bt;
    BUG_ON(accel_bt.vm_init(pc->vm, &e) != 0);
    if (machine_pc_create(pc->vm, &e))
        fprintf(stderr, "%s\n", e.msg);
    BUG_ON(e.code != 0);
    fuzz_pc_flash(pc);
    BUG_ON(vm_create_vcpus(pc->vm, &e) != 0);
    for (unsigned i = 0; i < ARRAY_SIZE(pc->stepper); i++) {
        pc->stepper[i] = bt_cpu_create(pc->vm->vcpu[i], &e);
        BUG_ON(!pc->stepper[i]);
    }
    fuzz_signals_chain();
}

static void fuzz_pc_config(struct vcpu *c, unsigned slot, unsigned reg, uint32_t val)
{
    uint32_t addr = 0x80000000u | slot << 11 | reg;

    exit_pio(c, CONFIG_ADDRESS, 4, true, &addr);
    exit_pio(c, CONFIG_DATA, 4, true, &val);
}

void fuzz_pc_reset(struct fuzz_pc *pc)
{
    struct err e = { 0 };

    BUG_ON(!machine_pc_has_screen(pc->vm));
    device_quiesce_all(pc->vm->devices);
    clock_set(pc->vm->clock, 0, 0);
    BUG_ON(vm_reset(pc->vm, &e) != 0);
    device_sync_all(pc->vm->devices);
    memset(pc->vm->mem.region[0]->hva, 0, FUZZ_PC_RAM);
    for (unsigned slot = 2; slot < SLOTS; slot++) {
        for (unsigned bar = 0; bar < 6; bar += 2) {
            fuzz_pc_config(pc->vm->vcpu[0], slot, BAR0 + 4 * bar,
                           0xe0000000u + (slot * 8 + bar) * 0x10000);
            fuzz_pc_config(pc->vm->vcpu[0], slot, BAR0 + 4 * bar + 4, 0);
        }
        fuzz_pc_config(pc->vm->vcpu[0], slot, COMMAND, 7);
    }
    fuzz_pc_config(pc->vm->vcpu[0], VGA_SLOT, BAR0, FUZZ_PC_VRAM);
    fuzz_pc_config(pc->vm->vcpu[0], VGA_SLOT, COMMAND, 3);
    fuzz_pc_config(pc->vm->vcpu[0], IDE_SLOT, IDE_FUNCTION | IDE_BM_BAR, IDE_BM);
    fuzz_pc_config(pc->vm->vcpu[0], IDE_SLOT, IDE_FUNCTION | COMMAND, 5);
}

void fuzz_pc_poll(struct fuzz_pc *pc)
{
    loop_unpost(pc->vm->loop, &pc->vm->end_work); /* a wish to end the VM: nobody runs it */
    pc->vm->end = VM_RUNNING;
    loop_poll(pc->vm->loop, 0);
}

void fuzz_pc_step(struct fuzz_pc *pc, unsigned cpu)
{
    struct vcpu *c = pc->vm->vcpu[cpu];

    BUG_ON(vcpu_get_state(c, &pc->regs) != 0);
    bt_step_one(pc->stepper[cpu], &pc->regs);
    BUG_ON(vcpu_set_state(c, &pc->regs) != 0);
}
