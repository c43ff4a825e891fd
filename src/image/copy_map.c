#include "image/copy_map.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "block/formats.h"

int copy_map_init(struct copy_map *m, struct blk *const *disk, unsigned n, uint32_t chunk,
                  struct err *e)
{
    *m = (struct copy_map){ .disk = disk, .n_disks = n, .chunk = chunk };
    if (!n || n > COPY_MAP_DISKS)
        return err_set(e, EINVAL, "at most %d disks can be joined", COPY_MAP_DISKS);
    for (unsigned i = 0; i < n; i++)
        m->start[i + 1] = m->start[i] + disk[i]->size;
    m->extent = malloc((COPY_MAP_EXTENTS + chunk / BLK_SECTOR) * sizeof(*m->extent));
    return m->extent ? 0 : err_set(e, ENOMEM, "out of memory");
}

void copy_map_piece(struct copy_map *m, uint64_t skip, uint64_t len)
{
    m->skip = skip;
    m->start[1] = len;
}

void copy_map_fini(struct copy_map *m)
{
    for (unsigned i = 0; i < m->n_files; i++)
        if (m->file[i].fd >= 0)
            close(m->file[i].fd);
    free(m->extent);
}

/*
 * The file of a layer, to be read without detours; -1 if it is none. Its lock is held by the layer; closing
 * this descriptor does not touch it, because it belongs to the open file.
 */
static int copy_map_file(struct copy_map *m, const struct blk *layer)
{
    int fd = -1;

    for (unsigned i = 0; i < m->n_files; i++)
        if (m->file[i].layer == layer)
            return m->file[i].fd;
    if (m->n_files == COPY_MAP_FILES || layer->ops != &blk_file_ops)
        return -1;
    fd = open(layer->path, O_RDONLY | O_CLOEXEC | O_NOCTTY);
    if (fd >= 0)
        posix_fadvise(fd, 0, 0, POSIX_FADV_SEQUENTIAL);
    m->file[m->n_files].layer = layer;
    m->file[m->n_files++].fd = fd;
    return fd;
}

/* Is x what is copied at all? */
static bool copy_map_wants(const struct copy_map *m, const struct blk_extent *x)
{
    if (m->top_only && (x->depth || !(x->flags & BLK_X_ALLOCATED)))
        return false;
    return !(x->flags & BLK_X_ZERO) || m->zeros || m->top_only;
}

static void copy_map_add(struct copy_map *m, unsigned disk, const struct blk_extent *x)
{
    struct copy_extent n = { .off = m->done, .len = x->len, .fd = -1, .disk = disk };
    struct copy_extent *last = m->n ? &m->extent[m->n - 1] : NULL;

    n.zero = x->flags & BLK_X_ZERO;
    if (!n.zero && ((x->flags & BLK_X_OFFSET) || x->packed_len)) {
        n.fd = copy_map_file(m, x->layer);
        n.host_off = x->host_off;
        n.packed_len = x->packed_len;
        n.packer = x->packer;
        n.layer = x->layer;
    }
    if (last && !last->packed_len && !n.packed_len && last->off + last->len == n.off &&
        last->zero == n.zero && last->fd == n.fd && last->disk == disk &&
        (n.fd < 0 || last->host_off + last->len == n.host_off))
        last->len += n.len;
    else
        m->extent[m->n++] = n;
}

/* How far to ask: to the end of the disk, or once the list is full only to that of the chunk; 0: enough. */
static uint64_t copy_map_ahead(const struct copy_map *m, unsigned disk)
{
    uint64_t left = m->start[disk + 1] - m->done;

    return m->n < COPY_MAP_EXTENTS ? left
                                   : min_u64(left, (m->chunk - m->done % m->chunk) % m->chunk);
}

int copy_map_next(struct copy_map *m, struct err *e)
{
    unsigned disk = 0;

    m->n = 0;
    while (m->done < m->start[m->n_disks]) {
        struct blk_extent x;
        uint64_t len;
        int rc;

        while (m->done >= m->start[disk + 1])
            disk++;
        len = copy_map_ahead(m, disk);
        if (!len)
            break;
        rc = blk_status(m->disk[disk], m->done - m->start[disk] + m->skip, len, &x);
        if (rc)
            return err_set(e, -rc, "disk '%s': what is at byte %llu cannot be found out: %s",
                           m->disk[disk]->path, (unsigned long long)(m->done - m->start[disk]),
                           strerror(-rc));
        if (copy_map_wants(m, &x))
            copy_map_add(m, disk, &x);
        m->done += x.len;
    }
    return 0;
}
