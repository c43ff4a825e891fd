#include "boot/boot_file.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* The cure that goes with an errno of open(). */
static const char *boot_file_cure(int code)
{
    switch (code) {
    case ENOENT:
        return "check the path";
    case EACCES:
    case EPERM:
        return "make it readable for this user (distributions keep /boot/vmlinuz-* for root: copy "
               "it)";
    default:
        return "check the file";
    }
}

int boot_file_open(struct boot_file *f, const char *path, const char *what, struct err *e)
{
    struct stat st;

    /* O_NONBLOCK: a FIFO must be refused, not waited for. */
    *f = (struct boot_file){ .path = path, .what = what };
    f->fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (f->fd < 0)
        return err_set(e, errno, "cannot open the %s '%s': %s; %s", what, path, strerror(errno),
                       boot_file_cure(errno));
    if (fstat(f->fd, &st)) {
        err_set(e, errno, "cannot look at the %s '%s': %s", what, path, strerror(errno));
    } else if (!S_ISREG(st.st_mode)) {
        err_set(e, EINVAL, "the %s '%s' is %s, not a file", what, path,
                S_ISDIR(st.st_mode) ? "a directory" : "a device, pipe or socket");
        errno = EINVAL;
    } else if (!st.st_size) {
        err_set(e, EINVAL, "the %s '%s' is empty: was it written completely?", what, path);
        errno = EINVAL;
    } else {
        f->len = (uint64_t)st.st_size;
        return 0;
    }
    int ret = -errno;
    util_close(&f->fd);
    return ret;
}

void boot_file_close(struct boot_file *f)
{
    util_close(&f->fd);
}

int boot_file_read(struct boot_file *f, uint64_t off, void *buf, uint64_t len, struct err *e)
{
    uint8_t *to = buf;

    while (len) {
        ssize_t n = pread(f->fd, to, len, (off_t)off);

        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return err_set(e, errno, "cannot read the %s '%s': %s", f->what, f->path,
                           strerror(errno));
        if (!n)
            return err_set(e, EINVAL, "the %s '%s' became shorter while it was read", f->what,
                           f->path);
        to += n;
        off += (uint64_t)n;
        len -= (uint64_t)n;
    }
    return 0;
}
