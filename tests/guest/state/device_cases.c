/*
 * device_cases.c: a stock Linux that reads and writes disks behind every controller at once, and pings, is saved
 * twice with requests in flight and goes on in a fresh VM each time. It compares what it reads itself.
 */
#include "state_rig.h"

#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

enum { SAVES = 2, FLOPPY_BYTES = 1440 << 10 };

/* One disk at each bus; made when the first VM is, gone when the case ends. */
static void add_disk(struct rig *t, struct vm_config *c, const char *bus)
{
    struct config_disk *d = &c->disk[c->n_disks];
    char path[64];
    int fd;

    snprintf(path, sizeof(path), "%s/%s", t->dir, bus);
    fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (fd < 0 || ftruncate(fd, strcmp(bus, "floppy") != 0 ? RIG_DISK_BYTES : FLOPPY_BYTES))
        rig_problem(t, "cannot make %s", path);
    if (fd >= 0)
        close(fd);
    *d = (struct config_disk){ .path = strdup(path), .format = strdup("raw"), .bus = strdup(bus) };
    c->n_disks++;
}

static void remove_disks(const struct rig *t)
{
    static const char *const all[] = { "ide", "ahci", "nvme", "scsi", "usb", "floppy", "vnc" };
    char path[64];

    for (size_t i = 0; i < ARRAY_SIZE(all); i++) {
        snprintf(path, sizeof(path), "%s/%s", t->dir, all[i]);
        unlink(path);
    }
}

static void add_screen(struct rig *t, struct vm_config *c)
{
    char where[64];

    snprintf(where, sizeof(where), "vnc=unix:%s/vnc", t->dir);
    free(c->display);
    c->display = strdup(where);
}

static void equip_old_and_new(struct rig *t, struct vm_config *c)
{
    add_disk(t, c, "ide");
    add_disk(t, c, "ahci");
    add_disk(t, c, "nvme");
    add_disk(t, c, "scsi");
    add_disk(t, c, "usb");
    add_disk(t, c, "floppy");
    add_screen(t, c);
    c->net_model = strdup("e1000");
}

static void equip_usb1_and_rtl(struct rig *t, struct vm_config *c)
{
    add_disk(t, c, "ahci");
    add_disk(t, c, "usb");
    c->usb = strdup("uhci");
    c->net_model = strdup("rtl8139");
}

/* The screen's text has to be the same in the new VM before that runs. */
static char *screen_of(struct rig *t)
{
    size_t len = 0;
    char *text = machine_pc_has_screen(t->vm) ? machine_pc_screen(t->vm, true, &len) : NULL, *copy;

    copy = text ? strndup(text, len) : strdup("");
    free(text);
    return copy;
}

static bool move_once(struct rig *t, unsigned n)
{
    struct state saved;
    char *before = screen_of(t), *after = NULL;
    bool ok;

    state_init_save(&saved);
    ok = rig_transfer(t, &saved, "save");
    if (ok) {
        rig_drop(t);
        ok = rig_load_fresh(t, n, &saved);
    }
    if (ok)
        after = screen_of(t);
    if (ok && (!before || !after || strcmp(before, after) != 0))
        rig_problem(t, "the screen shows '%s', not '%s'", after, before);
    free(before);
    free(after);
    state_fini(&saved);
    return ok;
}

static void work_and_move(struct rig *t, unsigned disks)
{
    char marker[32], want[16];

    if (!rig_boot(t))
        return;
    for (unsigned i = 1; i <= SAVES; i++) {
        snprintf(marker, sizeof(marker), "TEST count=%u0\r", i);
        if (!rig_run_until(t, marker) || !move_once(t, i % 2))
            return;
    }
    if (!rig_run_until(t, NULL))
        return;
    snprintf(want, sizeof(want), "%u", disks);
    rig_expect(t, "disks", want);
    rig_expect(t, "worked", want);
    rig_expect(t, "wrong", "0");
    rig_expect(t, "pinged", "yes");
    rig_expect(t, "complaints", "0");
}

void case_old_and_new(struct rig *t)
{
    t->words = "moved,poweroff nic=e1000 "
               "modules=ide,ahci,nvme,virtio_scsi,xhci_pci,usb_storage,floppy disks=7";
    t->equip = equip_old_and_new;
    work_and_move(t, 7);
    remove_disks(t);
}

void case_usb1_and_rtl(struct rig *t)
{
    t->words = "moved,poweroff nic=8139cp modules=ide,ahci,uhci_hcd,usb_storage disks=3";
    t->equip = equip_usb1_and_rtl;
    work_and_move(t, 3);
    remove_disks(t);
}
