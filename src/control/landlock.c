/*
 * landlock.c: which files the process may still open, by Landlock (Documentation/userspace-api/
 * landlock.rst). By raw system calls: the C library has no wrappers. Constants of newer ABIs are our own,
 * because build hosts have older headers; the kernel is asked which of them it knows.
 */
#include "control/sandbox_priv.h"

#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <limits.h>
#include <linux/landlock.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/log.h"

#define LANDLOCK_FS_TRUNCATE  BIT64(14) /* ABI 3 */
#define LANDLOCK_FS_IOCTL_DEV BIT64(15) /* ABI 5 */
#define LANDLOCK_FS_V1        (BIT64(13) - 1)
#define LANDLOCK_FS_READ      (LANDLOCK_ACCESS_FS_READ_FILE | LANDLOCK_ACCESS_FS_READ_DIR)
#define LANDLOCK_FS_FILE                                                                           \
    (LANDLOCK_ACCESS_FS_READ_FILE | LANDLOCK_ACCESS_FS_WRITE_FILE | LANDLOCK_FS_TRUNCATE |         \
     LANDLOCK_FS_IOCTL_DEV)
#define LANDLOCK_FS_WRITE                                                                          \
    (LANDLOCK_FS_FILE | LANDLOCK_FS_READ | LANDLOCK_ACCESS_FS_REMOVE_FILE |                        \
     LANDLOCK_ACCESS_FS_MAKE_REG | LANDLOCK_ACCESS_FS_MAKE_SOCK)

/* struct landlock_ruleset_attr as of ABI 6; older kernels take the part they know. */
struct landlock_attr {
    uint64_t fs, net, scoped;
};
enum { LANDLOCK_SCOPE_ABSTRACT_UNIX = 1 };

static int landlock_abi(void)
{
    return (int)syscall(SYS_landlock_create_ruleset, NULL, 0, LANDLOCK_CREATE_RULESET_VERSION);
}

/* All rights on files that this kernel can restrict. */
static uint64_t landlock_known(int abi)
{
    uint64_t fs = LANDLOCK_FS_V1;

    if (abi >= 2)
        fs |= LANDLOCK_ACCESS_FS_REFER;
    if (abi >= 3)
        fs |= LANDLOCK_FS_TRUNCATE;
    if (abi >= 5)
        fs |= LANDLOCK_FS_IOCTL_DEV;
    return fs;
}

static int landlock_ruleset(int abi, uint64_t known)
{
    struct landlock_attr attr = { .fs = known };
    size_t size = sizeof(attr.fs);

    if (abi >= 6) {
        attr.scoped = LANDLOCK_SCOPE_ABSTRACT_UNIX;
        size = sizeof(attr);
    }
    return (int)syscall(SYS_landlock_create_ruleset, &attr, size, 0);
}

static int landlock_allow(int ruleset, const char *path, uint64_t rights, struct err *e)
{
    struct landlock_path_beneath_attr attr = { .allowed_access = rights };
    struct stat st;
    int rc = 0;

    attr.parent_fd = open(path, O_PATH | O_CLOEXEC);
    if (attr.parent_fd < 0)
        return errno == ENOENT || errno == EACCES
                   ? 0 /* could not be opened later either */
                   : err_set(e, errno, "cannot confine the VM: %s: %s", path, strerror(errno));
    if (!fstat(attr.parent_fd, &st) && !S_ISDIR(st.st_mode))
        attr.allowed_access &= LANDLOCK_FS_FILE;
    if (syscall(SYS_landlock_add_rule, ruleset, LANDLOCK_RULE_PATH_BENEATH, &attr, 0))
        rc = err_set(e, errno, "cannot confine the VM to %s: %s", path, strerror(errno));
    close(attr.parent_fd);
    return rc;
}

/*
 * The resolver's configuration. Network managers replace the file, so where it is a link elsewhere the
 * whole of that folder is readable; never the whole of /etc.
 */
static int landlock_allow_resolver(int ruleset, uint64_t known, struct err *e)
{
    char target[PATH_MAX];
    const char *dir;
    int rc = landlock_allow(ruleset, "/etc/resolv.conf", LANDLOCK_FS_READ & known, e);

    if (rc || !realpath("/etc/resolv.conf", target))
        return rc;
    dir = dirname(target);
    return strcmp(dir, "/etc") && strcmp(dir, "/")
               ? landlock_allow(ruleset, dir, LANDLOCK_FS_READ & known, e)
               : 0;
}

static int landlock_allow_all(int ruleset, const struct sandbox_opts *o, uint64_t known,
                              struct err *e)
{
    int rc = 0;

    for (unsigned i = 0; !rc && i < o->n_read; i++)
        rc = landlock_allow(ruleset, o->read[i], LANDLOCK_FS_READ & known, e);
    for (unsigned i = 0; !rc && i < o->n_write; i++)
        rc = landlock_allow(ruleset, o->write[i], LANDLOCK_FS_WRITE & known, e);
    if (!rc && o->network)
        rc = landlock_allow_resolver(ruleset, known, e);
    return rc;
}

int landlock_enter(const struct sandbox_opts *o, struct err *e)
{
    int abi = landlock_abi(), ruleset, rc = 0;
    uint64_t known = landlock_known(abi);

    if (abi < 1)
        return -ENOSYS;
    ruleset = landlock_ruleset(abi, known);
    if (ruleset < 0)
        return err_set(e, errno, "cannot confine the VM's files: %s", strerror(errno));
    if (o)
        rc = landlock_allow_all(ruleset, o, known, e);
    if (!rc && syscall(SYS_landlock_restrict_self, ruleset, 0))
        rc = err_set(e, errno, "cannot confine the VM's files: %s", strerror(errno));
    close(ruleset);
    if (!rc)
        log_debug("sandbox", "Landlock ABI %d is on", abi);
    return rc;
}
