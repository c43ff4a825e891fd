/*
 * rundir.c: see rundir.h. The lock is an open-file-description lock: it is asked for without being taken,
 * and goes with the process however that ends.
 */
#include "control/rundir.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

enum { RUNDIR_TRIES = 1000, RUNDIR_BACKLOG = 16, RUNDIR_LIST_MAX = 100000 };

bool rundir_name_ok(const char *name)
{
    static const char chars[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-";
    size_t len = strlen(name);

    return len && len <= RUNDIR_NAME_MAX && name[0] != '.' && name[0] != '-' &&
           strspn(name, chars) == len;
}

/* --- the folder of all --- */

/* Somebody else's folder at that place would have our sockets. */
static int rundir_check_owner(const char *path, struct err *e)
{
    struct stat st;

    if (lstat(path, &st))
        return err_set(e, errno, "%s: %s", path, strerror(errno));
    if (!S_ISDIR(st.st_mode) || st.st_uid != geteuid() || (st.st_mode & 022))
        return err_set(e, EPERM,
                       "%s must be a folder that only you can write to: remove it, or set "
                       "XDG_RUNTIME_DIR",
                       path);
    return 0;
}

static int rundir_make(const char *path, struct err *e)
{
    if (mkdir(path, 0700) && errno != EEXIST)
        return err_set(e, errno, "cannot make the folder %s: %s", path, strerror(errno));
    return rundir_check_owner(path, e);
}

static bool rundir_is_writable(const char *path)
{
    return !access(path, W_OK | X_OK);
}

static void rundir_base(char *path, size_t len)
{
    const char *ours = getenv("RUCHE_RUNTIME_DIR"), *xdg = getenv("XDG_RUNTIME_DIR");
    char user[64];

    snprintf(user, sizeof(user), "/run/user/%u", geteuid());
    if (ours && *ours == '/')
        snprintf(path, len, "%s", ours);
    else if (!geteuid() && rundir_is_writable("/run"))
        snprintf(path, len, "/run/ruche");
    else if (xdg && *xdg == '/')
        snprintf(path, len, "%s/ruche", xdg);
    else if (rundir_is_writable(user))
        snprintf(path, len, "%s/ruche", user);
    else
        snprintf(path, len, "/tmp/ruche-%u", geteuid());
}

/* --- one VM's --- */

static void rundir_init(struct rundir *r)
{
    r->fd = r->lock_fd = -1;
    r->path[0] = '\0';
}

static int rundir_path(struct rundir *r, const char *name, bool make, struct err *e)
{
    char base[PATH_MAX - RUNDIR_NAME_MAX - 2];
    int rc = 0;

    rundir_base(base, sizeof(base));
    snprintf(r->path, sizeof(r->path), "%s/%s", base, name);
    if (make)
        rc = rundir_make(base, e);
    if (make && !rc)
        rc = rundir_make(r->path, e);
    return rc;
}

int rundir_open(struct rundir *r, const char *name)
{
    rundir_init(r);
    if (!rundir_name_ok(name))
        return -ENOENT;
    if (rundir_path(r, name, false, NULL))
        return -ENOENT;
    r->fd = open(r->path, O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    return r->fd < 0 ? -errno : 0;
}

static pid_t rundir_read_pid(int fd)
{
    char text[16] = "";

    return pread(fd, text, sizeof(text) - 1, 0) > 0 ? (pid_t)strtol(text, NULL, 10) : 0;
}

pid_t rundir_holder(const struct rundir *r)
{
    struct flock lock = { .l_type = F_WRLCK, .l_whence = SEEK_SET };
    int fd = openat(r->fd, "lock", O_RDWR | O_CLOEXEC | O_NOFOLLOW);
    pid_t pid = 0;

    if (fd < 0)
        return 0;
    if (!fcntl(fd, F_OFD_GETLK, &lock) && lock.l_type != F_UNLCK)
        pid = rundir_read_pid(fd);
    close(fd);
    return pid;
}

/* The lock, and our process id in it. */
static int rundir_lock(struct rundir *r, const char *name, struct err *e)
{
    struct flock lock = { .l_type = F_WRLCK, .l_whence = SEEK_SET };
    char text[16];

    r->lock_fd = openat(r->fd, "lock", O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (r->lock_fd < 0)
        return err_set(e, errno, "%s/lock: %s", r->path, strerror(errno));
    if (fcntl(r->lock_fd, F_OFD_SETLK, &lock))
        return err_set(e, errno == EAGAIN || errno == EACCES ? EBUSY : errno,
                       "a VM named %s is running already, as process %d: give --name another one, "
                       "or end it with `ruche stop %s`",
                       name, (int)rundir_read_pid(r->lock_fd), name);
    snprintf(text, sizeof(text), "%d\n", (int)getpid());
    if (ftruncate(r->lock_fd, 0) || pwrite(r->lock_fd, text, strlen(text), 0) < 0)
        return err_set(e, errno, "%s/lock: %s", r->path, strerror(errno));
    return 0;
}

static void rundir_empty(const struct rundir *r)
{
    static const char *const files[] = { "control", "log", "serial" };

    for (size_t i = 0; i < ARRAY_SIZE(files); i++)
        unlinkat(r->fd, files[i], 0);
}

int rundir_claim(struct rundir *r, const char *name, struct err *e)
{
    int rc;

    rundir_init(r);
    if (!rundir_name_ok(name))
        return err_set(e, EINVAL, "%s is not a name for a VM", name);
    rc = rundir_path(r, name, true, e);
    if (rc)
        return rc;
    r->fd = open(r->path, O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (r->fd < 0)
        return err_set(e, errno, "%s: %s", r->path, strerror(errno));
    rc = rundir_lock(r, name, e);
    if (rc) {
        util_close(&r->lock_fd);
        util_close(&r->fd);
        return rc;
    }
    rundir_empty(r);
    return 0;
}

int rundir_claim_any(struct rundir *r, const char *stem, char *name, struct err *e)
{
    for (unsigned i = 1; i <= RUNDIR_TRIES; i++) {
        struct err one = { 0 };
        int rc;

        if (i == 1)
            snprintf(name, RUNDIR_NAME_MAX + 1, "%s", stem);
        else
            snprintf(name, RUNDIR_NAME_MAX + 1, "%.58s%u", stem, i);
        rc = rundir_claim(r, name, &one);
        if (rc != -EBUSY)
            return rc ? err_set(e, one.code, "%s", one.msg) : 0;
    }
    return err_set(e, EBUSY, "%d VMs named %s and so on are running: give --name", RUNDIR_TRIES,
                   stem);
}

void rundir_close(struct rundir *r)
{
    if (r->lock_fd >= 0)
        unlinkat(r->fd, "control", 0);
    util_close(&r->lock_fd);
    util_close(&r->fd);
}

int rundir_create(const struct rundir *r, const char *file)
{
    int fd = openat(r->fd, file, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600);

    return fd < 0 ? -errno : fd;
}

/* --- sockets --- */

/* By way of the folder's descriptor: a socket's address has little room. */
static void rundir_address(const struct rundir *r, const char *file, struct sockaddr_un *a)
{
    *a = (struct sockaddr_un){ .sun_family = AF_UNIX };
    snprintf(a->sun_path, sizeof(a->sun_path), "/proc/self/fd/%d/%s", r->fd, file);
}

int rundir_listen(const struct rundir *r, const char *file, struct err *e)
{
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    struct sockaddr_un a;

    rundir_address(r, file, &a);
    if (fd < 0 || fchmod(fd, 0600) || bind(fd, (struct sockaddr *)&a, sizeof(a)) ||
        listen(fd, RUNDIR_BACKLOG)) {
        int rc = err_set(e, errno, "cannot listen at %s/%s: %s", r->path, file, strerror(errno));

        util_close(&fd);
        return rc;
    }
    return fd;
}

int rundir_connect(const struct rundir *r, const char *file)
{
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    struct sockaddr_un a;

    if (fd < 0)
        return -errno;
    rundir_address(r, file, &a);
    if (connect(fd, (struct sockaddr *)&a, sizeof(a))) {
        int error = errno;

        close(fd);
        return -error;
    }
    return fd;
}

/* --- the list --- */

static int rundir_compare(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

static int rundir_list_add(struct rundir_names *l, const char *name)
{
    char **more = realloc(l->name, (l->n + 1) * sizeof(*more));

    if (!more)
        return -ENOMEM;
    l->name = more;
    l->name[l->n] = strdup(name);
    if (!l->name[l->n])
        return -ENOMEM;
    l->n++;
    return 0;
}

int rundir_list(struct rundir_names *l)
{
    char base[PATH_MAX];
    struct dirent *d;
    int rc = 0;
    DIR *dir;

    *l = (struct rundir_names){ 0 };
    rundir_base(base, sizeof(base));
    dir = opendir(base);
    if (!dir)
        return errno == ENOENT ? 0 : -errno;
    while (!rc && l->n < RUNDIR_LIST_MAX && (d = readdir(dir)))
        if (rundir_name_ok(d->d_name))
            rc = rundir_list_add(l, d->d_name);
    closedir(dir);
    if (rc)
        rundir_names_free(l);
    else if (l->n)
        qsort(l->name, l->n, sizeof(*l->name), rundir_compare);
    return rc;
}

void rundir_names_free(struct rundir_names *l)
{
    for (size_t i = 0; i < l->n; i++)
        free(l->name[i]);
    free(l->name);
    *l = (struct rundir_names){ 0 };
}
