/*
 * machine_pc_media.c: the drives whose medium can be changed: CD-ROM drives cd0, cd1, ... and floppy drives fd0 and
 * fd1, in the order of the configuration. Which media are in them is part of the machine's state, as a device of its
 * own: a reset leaves them where they are.
 */
#include "vm/machine_pc_priv.h"

#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "block/drive.h"

enum { PC_MEDIUM_NAME = 256 };

static bool pc_is_floppy(const struct config_disk *d)
{
    return config_disk_bus(d) == CONFIG_BUS_FLOPPY;
}

/* "cd0": of disk number index, which is no hard disk. */
static void pc_drive_name(const struct vm_config *cfg, unsigned index, char *buf, size_t len)
{
    bool floppy = pc_is_floppy(&cfg->disk[index]);
    unsigned n = 0;

    for (unsigned i = 0; i < index; i++)
        n += !config_disk_is_hard(&cfg->disk[i]) && pc_is_floppy(&cfg->disk[i]) == floppy;
    snprintf(buf, len, "%s%u", floppy ? "fd" : "cd", n);
}

struct blk *pc_create_drive(struct machine *m, unsigned index, struct blk *medium, struct err *e)
{
    char name[MACHINE_DRIVE_NAME];
    struct blk *drive;

    pc_drive_name(m->vm->cfg, index, name, sizeof(name));
    drive = drive_create(m->vm->loop, name, medium, e);
    m->drive[index] = drive;
    return drive;
}

/* --- names that users give --- */

/* The number behind one of the words: "sr1" is 1, "cdrom" 0; -1: it is none of them. */
static int pc_numbered(const char *text, const char *const *words)
{
    for (; *words; words++) {
        size_t len = strlen(*words);

        if (strncasecmp(text, *words, len))
            continue;
        if (!text[len])
            return 0;
        if (isdigit((unsigned char)text[len]) && !text[len + 1])
            return text[len] - '0';
    }
    return -1;
}

/* Our name for it, also where it is called as guests and other hypervisors do. */
static void pc_canonical(const char *text, char *buf, size_t len)
{
    static const char *const cds[] = { "cdrom", "cd", "dvd", "sr", NULL };
    static const char *const floppies[] = { "floppy", "fd", NULL };
    static const char *const letters[][3] = { { "a:", "a", "fda" }, { "b:", "b", "fdb" } };
    int cd = pc_numbered(text, cds), floppy = pc_numbered(text, floppies);

    for (unsigned i = 0; i < ARRAY_SIZE(letters) * ARRAY_SIZE(letters[0]); i++)
        if (!strcasecmp(text, letters[i / 3][i % 3]))
            floppy = (int)i / 3;
    if (cd >= 0)
        snprintf(buf, len, "cd%d", cd);
    else if (floppy >= 0)
        snprintf(buf, len, "fd%d", floppy);
    else
        snprintf(buf, len, "%s", text);
}

static int pc_no_drive(const struct machine *m, const char *name, struct err *e)
{
    char have[128] = "";
    size_t at = 0;

    for (unsigned i = 0; i < m->vm->cfg->n_disks; i++)
        if (m->drive[i] && at < sizeof(have))
            at += (size_t)snprintf(have + at, sizeof(have) - at, "%s%s", at ? ", " : "it has ",
                                   m->drive[i]->path);
    return err_set(e, ENOENT, "there is no drive %.32s whose medium can be changed: %s", name,
                   at ? have
                      : "start the VM with --cdrom none or --floppy none to have an empty one");
}

static struct blk *pc_find_drive(struct machine *m, const char *name, struct err *e)
{
    char canonical[32];

    pc_canonical(name, canonical, sizeof(canonical));
    for (unsigned i = 0; i < m->vm->cfg->n_disks; i++)
        if (m->drive[i] && !strcmp(m->drive[i]->path, canonical))
            return m->drive[i];
    pc_no_drive(m, name, e);
    return NULL;
}

/* --- for the control socket --- */

bool machine_pc_drive(struct vm *vm, unsigned index, struct machine_drive *d)
{
    const struct blk *drive = vm->machine->drive[index], *medium;

    if (!drive)
        return false;
    medium = drive_medium(drive);
    *d = (struct machine_drive){
        .floppy = pc_is_floppy(&vm->cfg->disk[index]),
        .open = drive_tray(drive) & DRIVE_OPEN,
        .locked = drive_tray(drive) & DRIVE_LOCKED,
    };
    snprintf(d->name, sizeof(d->name), "%s", drive->path);
    if (medium) {
        d->file = medium->path;
        d->format = blk_image((struct blk *)(uintptr_t)medium)->ops->format;
        d->size = medium->size;
        d->readonly = medium->readonly;
    }
    return true;
}

/* May the host take the medium out? A guest that has locked the tray is asked for it. */
static int pc_may_take_out(struct blk *drive, bool force, struct err *e)
{
    unsigned tray = drive_tray(drive);

    if (force || drive->empty || (tray & DRIVE_OPEN) || !(tray & DRIVE_LOCKED))
        return 0;
    drive_ask(drive);
    return err_set(
        e, EBUSY,
        "the guest uses the disc in %s and has locked the tray; it has been asked to give it "
        "out: unmount it there and try again, or take it out at once with --force",
        drive->path);
}

static struct blk *pc_open_medium(struct machine *m, unsigned index,
                                  const struct machine_medium *from, struct err *e)
{
    struct blk_opts o;
    bool floppy = pc_is_floppy(&m->vm->cfg->disk[index]);

    pc_blk_opts(m, &m->vm->cfg->disk[index], &o);
    o.path = from->path;
    o.fd = from->fd;
    o.format = from->format ? from->format : floppy ? "raw" : NULL;
    o.readonly = from->readonly || !floppy;
    return blk_open(&o, e);
}

/*
 * With everything at rest. What the guest still wants of the old medium (a stalled disk's requests are begun anew)
 * it does not get from the new one: the drive is empty for a moment.
 */
static void pc_change(struct vm *vm, struct blk *drive, struct blk *medium)
{
    bool paused = vm->paused;

    vm_pause(vm);
    if (!drive->empty || !medium)
        drive_change(drive, NULL);
    if (medium && !paused) {
        vm_resume(vm);
        vm_pause(vm);
    }
    if (medium)
        drive_change(drive, medium);
    if (!paused)
        vm_resume(vm);
}

int machine_pc_change_medium(struct vm *vm, const char *name, const struct machine_medium *from,
                             bool force, struct err *e)
{
    struct machine *m = vm->machine;
    struct blk *drive = pc_find_drive(m, name, e), *medium = NULL;
    unsigned index = 0;
    int rc = drive ? 0 : -ENOENT;

    while (drive && m->drive[index] != drive)
        index++;
    if (!rc && from) {
        medium = pc_open_medium(m, index, from, e);
        rc = medium ? drive_fits(drive, medium, e) : -EINVAL;
    }
    if (!rc)
        rc = pc_may_take_out(drive, force, e);
    if (rc) {
        blk_close(medium);
        return rc;
    }
    pc_change(vm, drive, medium);
    log_info("media", "%s: %s", drive->path, from ? from->path : "empty");
    return 0;
}

/* --- state --- */

struct pc_media {
    struct device dev;
    struct machine *m;
};

static void pc_medium_state(const struct blk *drive, struct state *s)
{
    const struct blk *medium = drive_medium(drive);
    char name[PC_MEDIUM_NAME] = "", what[PC_MEDIUM_NAME + 64];
    bool there = medium != NULL, same;
    uint64_t size = drive->size;

    if (medium)
        snprintf(name, sizeof(name), "%s", medium->path);
    state_bool(s, &there);
    state_u64(s, &size);
    state_bytes(s, name, sizeof(name));
    name[sizeof(name) - 1] = '\0';
    same = there == (medium != NULL) && size == drive->size;
    snprintf(what, sizeof(what), "saved with %s%.100s in the drive %s: change that first",
             there ? "" : "no medium", name, drive->path);
    state_require(s, same, what);
}

static void pc_media_state(struct device *d, struct state *s)
{
    const struct machine *m = container_of(d, struct pc_media, dev)->m;

    for (unsigned i = 0; i < ARRAY_SIZE(m->drive); i++)
        if (m->drive[i])
            pc_medium_state(m->drive[i], s);
}

/* Media stay where they are. */
static void pc_media_reset(struct device *d)
{
    (void)d;
}

int pc_create_media(struct machine *m, struct err *e)
{
    static const struct device_ops ops = {
        .type = "media", .version = 1, .state = pc_media_state, .reset = pc_media_reset
    };
    struct pc_media *p;
    bool any = false;
    int rc;

    for (unsigned i = 0; i < ARRAY_SIZE(m->drive); i++)
        any |= m->drive[i] != NULL;
    if (!any)
        return 0;
    p = calloc(1, sizeof(*p));
    if (!p)
        return err_set(e, ENOMEM, "out of memory");
    p->dev = (struct device){ .ops = &ops, .vm = m->vm, .id = "media" };
    p->m = m;
    rc = device_add(m->vm, &p->dev, e);
    if (rc)
        free(p);
    return rc;
}
