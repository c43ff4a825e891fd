/*
 * file_lock.c: see file_lock.h. The bytes (QEMU's block/file-posix.c defines them):
 *
 *     100 + n  "I use permission n"            n: 0 consistent read, 1 write, 2 write unchanged, 3 resize
 *     200 + n  "nobody else may use permission n"
 *
 * All are read locks, so taking them never fails; whoever comes asks afterwards whether somebody holds
 * the opposite byte of one that it took.
 */
#include "block/file_lock.h"

#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/log.h"

enum {
    BYTE_USED = 100,
    BYTE_DENIED = 200,
    PERM_COUNT = 4,
    PERM_READ = BIT(0),
    PERM_WRITE = BIT(1),
    PERM_RESIZE = BIT(3),
};

static int file_lock_byte(int fd, int cmd, short type, unsigned byte, struct flock *fl)
{
    *fl = (struct flock){ .l_type = type, .l_whence = SEEK_SET, .l_start = byte, .l_len = 1 };
    return fcntl(fd, cmd, fl) ? -errno : 0;
}

static int file_lock_bytes(int fd, unsigned first, unsigned perms)
{
    struct flock fl;
    int rc = 0;

    for (unsigned i = 0; i < PERM_COUNT && !rc; i++)
        if (perms & BIT(i))
            rc = file_lock_byte(fd, F_OFD_SETLK, F_RDLCK, first + i, &fl);
    return rc;
}

/* -EAGAIN if another open file holds one of these bytes. */
static int file_lock_ask(int fd, unsigned first, unsigned perms)
{
    struct flock fl;

    for (unsigned i = 0; i < PERM_COUNT; i++) {
        int rc = perms & BIT(i) ? file_lock_byte(fd, F_OFD_GETLK, F_WRLCK, first + i, &fl) : 0;

        if (rc)
            return rc;
        if ((perms & BIT(i)) && fl.l_type != F_UNLCK)
            return -EAGAIN;
    }
    return 0;
}

/* Does /proc/PID/fdinfo/FD say that this open file holds such a lock? */
static bool file_lock_in_fdinfo(const char *pid, const char *fd)
{
    char path[64], line[256];
    bool found = false;
    FILE *f;

    snprintf(path, sizeof(path), "/proc/%.12s/fdinfo/%.12s", pid, fd);
    f = fopen(path, "re");
    if (!f)
        return false;
    while (!found && fgets(line, sizeof(line), f))
        found = !strncmp(line, "lock:", 5) && strstr(line, "OFDLCK");
    fclose(f);
    return found;
}

static bool file_lock_is_holder(const char *pid, const struct stat *image, int own_fd)
{
    char path[64];
    struct dirent *de;
    bool found = false;
    DIR *dir;

    snprintf(path, sizeof(path), "/proc/%.12s/fd", pid);
    dir = opendir(path);
    if (!dir)
        return false;
    while (!found && (de = readdir(dir))) {
        struct stat st;

        if (fstatat(dirfd(dir), de->d_name, &st, 0) || st.st_dev != image->st_dev ||
            st.st_ino != image->st_ino)
            continue;
        if (strtol(pid, NULL, 10) == getpid() && strtol(de->d_name, NULL, 10) == own_fd)
            continue;
        found = file_lock_in_fdinfo(pid, de->d_name);
    }
    closedir(dir);
    return found;
}

static void file_lock_describe(const char *pid, char *buf, size_t len)
{
    char path[64], comm[64] = "?";
    FILE *f;

    if (strtol(pid, NULL, 10) == getpid()) {
        snprintf(buf, len, "this VM itself: it is given twice");
        return;
    }
    snprintf(path, sizeof(path), "/proc/%.12s/comm", pid);
    f = fopen(path, "re");
    if (f && fgets(comm, sizeof(comm), f))
        comm[strcspn(comm, "\n")] = '\0';
    if (f)
        fclose(f);
    snprintf(buf, len, "process %.12s (%s)", pid, comm);
}

/* The lock itself does not tell: OFD locks have no owner. Only processes that we may look at are found. */
static void file_lock_holder(int fd, char *buf, size_t len)
{
    struct dirent *de;
    struct stat image;
    DIR *dir = opendir("/proc");

    snprintf(buf, len, "a process that only its owner or root can see");
    if (dir && !fstat(fd, &image)) {
        while ((de = readdir(dir)))
            if (isdigit((unsigned char)de->d_name[0]) &&
                file_lock_is_holder(de->d_name, &image, fd)) {
                file_lock_describe(de->d_name, buf, len);
                break;
            }
    }
    if (dir)
        closedir(dir);
}

int file_lock(int fd, const char *path, bool write, struct err *e)
{
    unsigned use = PERM_READ | (write ? PERM_WRITE | PERM_RESIZE : 0u);
    unsigned deny = PERM_WRITE | PERM_RESIZE;
    char holder[128];
    int rc = file_lock_bytes(fd, BYTE_USED, use);

    if (!rc)
        rc = file_lock_bytes(fd, BYTE_DENIED, deny);
    if (!rc)
        rc = file_lock_ask(fd, BYTE_DENIED, use);
    if (!rc)
        rc = file_lock_ask(fd, BYTE_USED, deny);
    if (!rc)
        return 0;
    if (rc != -EAGAIN && rc != -EACCES) {
        log_warn("block", "disk '%s' is used without a lock: %s", path, strerror(-rc));
        return 0;
    }
    file_lock_holder(fd, holder, sizeof(holder));
    return err_set(e, EAGAIN, "disk '%s' is in use by %s; %s", path, holder,
                   write ? "stop that first, or give each VM a disk of its own"
                         : "it may be written to meanwhile: stop that first");
}
