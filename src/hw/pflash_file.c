/*
 * pflash_file.c: the file behind a flash chip: made, checked, locked. See pflash.h.
 */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "block/file_lock.h"
#include "hw/pflash.h"

static int pflash_file_fail(const char *path, const char *what, struct err *e)
{
    return err_set(e, errno, "the UEFI variable store '%s' cannot be %s: %s%s", path, what,
                   strerror(errno),
                   errno == EACCES || errno == EROFS
                       ? "; variables are written at every start: give yourself access, or a copy"
                       : "");
}

/* Under another name first, so that a half-written one is never taken for a store. */
static int pflash_file_make(const char *path, const uint8_t *contents, uint64_t len, struct err *e)
{
    char temp[PATH_MAX];
    int fd, rc = 0;

    if (snprintf(temp, sizeof(temp), "%s.%d.new", path, (int)getpid()) >= (int)sizeof(temp))
        return err_set(e, ENAMETOOLONG, "the name of the UEFI variable store is too long");
    fd = open(temp, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    if (fd < 0)
        return pflash_file_fail(path, "made", e);
    for (uint64_t done = 0; !rc && done < len;) {
        ssize_t n = write(fd, contents + done, (size_t)(len - done));

        if (n < 0 && errno != EINTR)
            rc = pflash_file_fail(path, "made", e);
        done += n > 0 ? (uint64_t)n : 0;
    }
    if (!rc && (fsync(fd) || rename(temp, path)))
        rc = pflash_file_fail(path, "made", e);
    if (rc)
        unlink(temp);
    close(fd);
    return rc;
}

static int pflash_file_read(int fd, const char *path, uint8_t *contents, uint64_t len,
                            struct err *e)
{
    struct stat st;

    if (fstat(fd, &st))
        return pflash_file_fail(path, "looked at", e);
    if (!S_ISREG(st.st_mode) || (uint64_t)st.st_size != len)
        return err_set(e, EINVAL,
                       "the UEFI variable store '%s' is not a file of %llu bytes, as this firmware "
                       "needs it: was it made for another one?",
                       path, (unsigned long long)len);
    for (uint64_t done = 0; done < len;) {
        ssize_t n = pread(fd, contents + done, (size_t)(len - done), (off_t)done);

        if (n == 0)
            errno = EIO;
        if (n <= 0 && errno != EINTR)
            return pflash_file_fail(path, "read", e);
        done += n > 0 ? (uint64_t)n : 0;
    }
    return 0;
}

int pflash_file_open(const char *path, uint8_t *contents, uint64_t len, struct err *e)
{
    int fd, rc = 0;

    if (access(path, F_OK) && errno == ENOENT)
        rc = pflash_file_make(path, contents, len, e);
    if (rc)
        return rc;
    fd = open(path, O_RDWR | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0)
        return pflash_file_fail(path, "opened for writing", e);
    rc = file_lock(fd, path, true, e);
    if (!rc)
        rc = pflash_file_read(fd, path, contents, len, e);
    if (rc)
        close(fd);
    return rc ? rc : fd;
}
