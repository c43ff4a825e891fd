/*
 * machine_pc_blk.c: opens the disks of the configuration, as its options say, and stops the VM while one of
 * them cannot go on.
 */
#include "vm/machine_pc_priv.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/log.h"
#include "boot/firmware.h"

enum { PC_KEY_MAX = 1024 };

/* --- a disk that is stuck --- */

/* The terminal may be raw, for the guest's console. */
static void pc_tell(const char *text)
{
    const char *end = isatty(STDERR_FILENO) ? "\r\n" : "\n";

    if (!log_on_stderr())
        fprintf(stderr, "%sruche: %s%s", end[0] == '\r' ? end : "", text, end);
    log_warn("disk", "%s", text);
}

static void pc_disk_stuck(struct blk_watcher *w, const char *why)
{
    struct machine *m = container_of(w, struct machine, disk_watcher);

    pc_tell(why);
    vm_stall(m->vm, why);
}

static void pc_disk_unstuck(struct blk_watcher *w)
{
    struct machine *m = container_of(w, struct machine, disk_watcher);

    if (!m->vm->paused)
        pc_tell("the disk works again: the VM goes on");
    vm_unstall(m->vm);
}

/* --- opening --- */

/* The first disk says which firmware it wants; one that cannot be read is left to the guest to find out. */
static void pc_look_at_disk(struct machine *m, struct blk *disk)
{
    uint8_t *head = calloc(1, FIRMWARE_DISK_HEAD);

    if (head && !blk_read_sync(disk, 0, head, min_u64(disk->size, FIRMWARE_DISK_HEAD)))
        m->uefi_disk = firmware_disk_is_uefi(head);
    free(head);
}

static bool pc_is_first_disk(const struct vm_config *cfg, unsigned index)
{
    unsigned i = 0;

    while (i < index && !config_disk_is_hard(&cfg->disk[i]))
        i++;
    return i == index && config_disk_is_hard(&cfg->disk[i]);
}

/* config_check() has seen to it that the word is one of these; NULL is the first. */
static unsigned pc_word(const char *word, const char *const *words, unsigned n)
{
    for (unsigned i = 1; word && i < n; i++)
        if (!strcmp(word, words[i]))
            return i;
    return 0;
}

static enum blk_cache pc_cache(const char *word)
{
    static const char *const words[] = {
        [BLK_CACHE_WRITEBACK] = "writeback", [BLK_CACHE_WRITETHROUGH] = "writethrough",
        [BLK_CACHE_NONE] = "none",           [BLK_CACHE_DIRECTSYNC] = "directsync",
        [BLK_CACHE_UNSAFE] = "unsafe",
    };

    return pc_word(word, words, ARRAY_SIZE(words));
}

static enum blk_detect pc_detect(const char *word)
{
    static const char *const words[] = {
        [BLK_DETECT_OFF] = "off", [BLK_DETECT_ON] = "on", [BLK_DETECT_UNMAP] = "unmap"
    };

    return pc_word(word, words, ARRAY_SIZE(words));
}

static enum blk_on_error pc_on_error(const char *word)
{
    static const char *const words[] = {
        [BLK_ON_ERROR_ENOSPC] = "enospc",
        [BLK_ON_ERROR_REPORT] = "report",
        [BLK_ON_ERROR_PAUSE] = "pause",
        [BLK_ON_ERROR_IGNORE] = "ignore",
    };

    return pc_word(word, words, ARRAY_SIZE(words));
}

void pc_blk_opts(const struct machine *m, const struct config_disk *d, struct blk_opts *o)
{
    *o = (struct blk_opts){
        .path = d->path,
        .format = d->format,
        .readonly = d->readonly,
        .loop = m->vm->loop,
        .timeout_ms = d->timeout_ms,
        .cancel_fd = m->vm->cancel_fd,
        .no_uring = d->aio && !strcmp(d->aio, "threads"),
        .cache = pc_cache(d->cache),
        .detect_zeroes = pc_detect(d->detect_zeroes),
        .no_discard = d->discard && !strcmp(d->discard, "ignore"),
        .limits = { .iops = { d->iops, d->iops_rd, d->iops_wr },
                    .bps = { d->bps, d->bps_rd, d->bps_wr },
                    .burst_ms = d->burst_ms },
    };
}

/* The passphrase in a file, into buf, without the newline that editors put there. */
static int pc_read_key(const char *path, char *buf, size_t size, struct err *e)
{
    FILE *f = fopen(path, "re");
    size_t n;

    if (!f)
        return err_set(e, errno, "the key file '%s' cannot be opened: %s", path, strerror(errno));
    n = fread(buf, 1, size, f);
    fclose(f);
    if (n == size)
        return err_set(e, EINVAL, "the key file '%s' is longer than a passphrase can be: %zu bytes",
                       path, size - 1);
    while (n && (buf[n - 1] == '\n' || buf[n - 1] == '\r'))
        n--;
    buf[n] = '\0';
    return 0;
}

/* The image, or NULL with a sentence. */
static struct blk *pc_open_image(struct machine *m, const struct config_disk *d, struct err *e)
{
    char key[PC_KEY_MAX] = "";
    struct blk_opts o;
    struct blk *disk;

    pc_blk_opts(m, d, &o);
    if (d->key_file && pc_read_key(d->key_file, key, sizeof(key), e))
        return NULL;
    o.passphrase = d->key_file ? key : NULL;
    disk = blk_open(&o, e);
    explicit_bzero(key, sizeof(key));
    return disk;
}

/* A drive for media, with the medium that the VM starts with. */
static struct blk *pc_open_drive(struct machine *m, unsigned index, struct err *e)
{
    const struct config_disk *d = &m->vm->cfg->disk[index];
    struct blk *medium = NULL, *drive;

    if (!config_disk_is_empty(d)) {
        medium = pc_open_image(m, d, e);
        if (!medium)
            return NULL;
    }
    drive = pc_create_drive(m, index, medium, e);
    if (!drive)
        blk_close(medium);
    return drive;
}

struct blk *pc_open_disk(struct machine *m, unsigned index, struct err *e)
{
    const struct vm_config *cfg = m->vm->cfg;
    const struct config_disk *d = &cfg->disk[index];
    struct blk *disk = config_disk_is_hard(d) ? pc_open_image(m, d, e) : pc_open_drive(m, index, e);

    if (!disk)
        return NULL;
    if (pc_is_first_disk(cfg, index))
        pc_look_at_disk(m, disk);
    m->disk_watcher = (struct blk_watcher){ pc_disk_stuck, pc_disk_unstuck };
    if (blk_guard_add(disk, disk->path,
                      pc_on_error(d->on_io_error ? d->on_io_error : cfg->on_io_error),
                      &m->disk_watcher, e)) {
        blk_close(disk);
        return NULL;
    }
    return disk;
}
