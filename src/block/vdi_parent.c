/*
 * vdi_parent.c: the parent of a differencing VDI image, of which it knows nothing but two UUIDs: looked for among
 * the .vdi files beside it, and in the folder above, because VirtualBox puts snapshots into one of their own.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/endian.h"
#include "block/foreign.h"
#include "block/vdi_format.h"

enum { PARENT_FILES_MAX = 10000 };

/* Is it a VDI image with that UUID? Its header then. */
static bool parent_is(int dir, const char *name, const uint8_t *uuid, uint8_t *header)
{
    size_t n = strlen(name);
    struct stat st;
    bool is = false;
    int fd;

    if (n < 5 || strcasecmp(name + n - 4, ".vdi"))
        return false;
    fd = openat(dir, name, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
    if (fd < 0)
        return false;
    if (!fstat(fd, &st) && S_ISREG(st.st_mode) && pread(fd, header, VDI_HEADER, 0) == VDI_HEADER)
        is = ld_le32(header + VDI_SIGNATURE) == VDI_MAGIC &&
             !memcmp(header + VDI_UUID_IMAGE, uuid, VDI_UUID_LEN);
    close(fd);
    return is;
}

/* In one folder: the name as the image would give it, the caller's; NULL: it is not there. */
static char *parent_search(const char *folder, const char *prefix, const uint8_t *uuid,
                           uint8_t *header)
{
    DIR *d = opendir(folder);
    const struct dirent *entry;
    char *found = NULL;

    for (unsigned i = 0; d && !found && i < PARENT_FILES_MAX && (entry = readdir(d)); i++) {
        size_t n = strlen(prefix) + strlen(entry->d_name) + 1;

        if (!parent_is(dirfd(d), entry->d_name, uuid, header))
            continue;
        found = malloc(n);
        if (!found)
            break;
        snprintf(found, n, "%s%s", prefix, entry->d_name);
    }
    if (d)
        closedir(d);
    return found;
}

static void parent_uuid(const uint8_t *u, char *text, size_t len)
{
    snprintf(text, len, "%08x-%04x-%04x-%02x%02x-%02x%02x%02x%02x%02x%02x", ld_le32(u),
             ld_le16(u + 4), ld_le16(u + 6), u[8], u[9], u[10], u[11], u[12], u[13], u[14], u[15]);
}

int vdi_parent_find(struct foreign *f, const uint8_t *header, struct err *e)
{
    static const struct {
        const char *name, *prefix;
    } folders[] = { { ".", "" }, { "..", "../" } };
    static const uint8_t none[VDI_UUID_LEN];
    const uint8_t *uuid = header + VDI_UUID_LINK, *state = header + VDI_UUID_PARENT;
    uint8_t parent[VDI_HEADER];
    char text[40];

    for (unsigned i = 0; !f->backing && i < ARRAY_SIZE(folders); i++) {
        char *folder = blk_resolve(f->path, folders[i].name);

        if (folder)
            f->backing = parent_search(folder, folders[i].prefix, uuid, parent);
        free(folder);
    }
    f->backing_format = "vdi";
    parent_uuid(uuid, text, sizeof(text));
    if (!f->backing)
        return f->alone
                   ? 0
                   : err_set(e, ENOENT,
                             "disk '%s': its parent, the VDI image with the UUID %s, is neither "
                             "beside it nor in the folder above: put it there",
                             f->path, text);
    if (!f->alone && memcmp(state, none, sizeof(none)) &&
        memcmp(state, parent + VDI_UUID_SNAPSHOT, VDI_UUID_LEN))
        return err_set(
            e, ESTALE,
            "disk '%s': its parent '%s' was written to since, so that the two do not fit "
            "together any more",
            f->path, f->backing);
    return 0;
}
