/* store.c: see store.h. A folder is renamed when it is whole: who is killed leaves nothing that has a name. */
#include "image/store.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <linux/fs.h>
#include <openssl/evp.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

enum { STORE_BUFFER = MIB, STORE_DEPTH = 8 };

static const char *const store_kinds[] = { [STORE_IMAGES] = "images", [STORE_VMS] = "vms" };
static const char *const store_meta[] = { [STORE_IMAGES] = "image.json", [STORE_VMS] = "vm.json" };

bool store_name_ok(const char *name)
{
    static const char chars[] =
        "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-:";
    size_t len = strlen(name);

    return len && len <= STORE_NAME_MAX && name[0] != '.' && name[0] != '-' &&
           strspn(name, chars) == len;
}

/* --- folders --- */

/* sub: what is kept there. */
static int store_root(char *path, size_t len, const char *sub, struct err *e)
{
    const char *ours = getenv("RUCHE_DATA_DIR"), *xdg = getenv("XDG_DATA_HOME");
    const char *home = getenv("HOME");
    int n;

    if (ours && *ours == '/')
        n = snprintf(path, len, "%s/%s", ours, sub);
    else if (!geteuid())
        n = snprintf(path, len, "/var/lib/ruche/%s", sub);
    else if (xdg && *xdg == '/')
        n = snprintf(path, len, "%s/ruche/%s", xdg, sub);
    else if (home && *home == '/')
        n = snprintf(path, len, "%s/.local/share/ruche/%s", home, sub);
    else
        return err_set(e, ENOENT, "there is no place for images: set HOME or RUCHE_DATA_DIR");
    return n < (int)len ? 0 : err_set(e, ENAMETOOLONG, "the path of the images is too long");
}

static int store_make_folders(char *path, struct err *e)
{
    for (char *p = path + 1;; p++) {
        char c = *p;

        if (c && c != '/')
            continue;
        *p = '\0';
        if (mkdir(path, 0700) && errno != EEXIST)
            return err_set(e, errno, "cannot make the folder %s: %s", path, strerror(errno));
        *p = c;
        if (!c)
            return 0;
    }
}

void store_file(const struct store_entry *s, const char *file, char *path, size_t len)
{
    if ((size_t)snprintf(path, len, "%s/%s", s->dir, file) >= len)
        path[0] = '\0'; /* nothing can be opened by that */
}

void store_disk(const struct store_entry *s, char *path, size_t len)
{
    const char *disk = json_string_value(json_object_get(s->meta, "disk"));

    store_file(s, disk && !strchr(disk, '/') ? disk : "disk", path, len);
}

static int store_remove_one(const char *path, const struct stat *st, int kind, struct FTW *ftw)
{
    (void)st;
    (void)kind;
    (void)ftw;
    return remove(path) ? -errno : 0;
}

/* All of it; links are not followed. 0 or -errno. */
static int store_remove_folder(const char *path)
{
    int rc = nftw(path, store_remove_one, STORE_DEPTH, FTW_DEPTH | FTW_PHYS | FTW_MOUNT);

    return rc == -1 ? -errno : rc;
}

/* --- what is there --- */

static int store_set_name(struct store_entry *s, enum store_kind kind, const char *prefix,
                          const char *name, struct err *e)
{
    char root[PATH_MAX - STORE_NAME_MAX - 32] = "";
    int rc;

    *s = (struct store_entry){ 0 };
    if (!store_name_ok(name))
        return err_set(e, EINVAL,
                       "%.64s: a name has 1 to 64 letters, digits and characters of . _ - :, and "
                       "does not begin with . or -",
                       name);
    rc = store_root(root, sizeof(root), store_kinds[kind], e);
    if (rc)
        return rc;
    snprintf(s->name, sizeof(s->name), "%s", name);
    snprintf(s->dir, sizeof(s->dir), "%s/%s%s", root, prefix, name);
    return 0;
}

int store_open(struct store_entry *s, enum store_kind kind, const char *name, struct err *e)
{
    char path[PATH_MAX];
    json_error_t je;
    int rc = store_set_name(s, kind, "", name, e);

    if (rc)
        return rc == -EINVAL ? -ENOENT : rc;
    if (access(s->dir, F_OK))
        return err_set(e, ENOENT, "there is no %s %s", kind == STORE_IMAGES ? "image" : "VM", name);
    store_file(s, store_meta[kind], path, sizeof(path));
    s->meta = json_load_file(path, JSON_REJECT_DUPLICATES, &je);
    if (json_is_object(s->meta))
        return 0;
    store_close(s);
    return err_set(e, EIO, "%s cannot be used: %s", path, je.text);
}

void store_close(struct store_entry *s)
{
    json_decref(s->meta);
    s->meta = NULL;
}

static int store_compare(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

static int store_list_add(struct store_names *l, const char *name)
{
    char **more = realloc(l->name, (l->n + 1) * sizeof(*more));

    if (!more)
        return -ENOMEM;
    l->name = more;
    l->name[l->n] = strdup(name);
    return l->name[l->n] && ++l->n ? 0 : -ENOMEM;
}

int store_list(enum store_kind kind, struct store_names *l)
{
    char root[PATH_MAX];
    struct dirent *f;
    DIR *d;
    int rc;

    *l = (struct store_names){ 0 };
    rc = store_root(root, sizeof(root), store_kinds[kind], NULL);
    d = rc ? NULL : opendir(root);
    if (!d)
        return rc || errno == ENOENT ? rc : -errno;
    while (!rc && (f = readdir(d)))
        if (store_name_ok(f->d_name))
            rc = store_list_add(l, f->d_name);
    closedir(d);
    if (rc)
        store_names_free(l);
    else if (l->n)
        qsort(l->name, l->n, sizeof(*l->name), store_compare);
    return rc;
}

void store_names_free(struct store_names *l)
{
    for (size_t i = 0; i < l->n; i++)
        free(l->name[i]);
    free(l->name);
    *l = (struct store_names){ 0 };
}

/* --- new ones --- */

/* ".PID.NAME" of a process that was killed. */
static void store_sweep(const char *root)
{
    DIR *d = opendir(root);
    struct dirent *f;

    while (d && (f = readdir(d))) {
        char path[PATH_MAX + NAME_MAX + 2], *end;
        long pid = f->d_name[0] == '.' ? strtol(f->d_name + 1, &end, 10) : 0;

        if (pid <= 0 || *end != '.' || !kill((pid_t)pid, 0) || errno != ESRCH)
            continue;
        snprintf(path, sizeof(path), "%s/%s", root, f->d_name);
        (void)!store_remove_folder(path);
    }
    if (d)
        closedir(d);
}

int store_begin(struct store_entry *s, enum store_kind kind, const char *name, struct err *e)
{
    char root[PATH_MAX] = "", prefix[24];
    int rc = store_set_name(s, kind, "", name, e);

    if (!rc && !access(s->dir, F_OK))
        rc = err_set(e, EEXIST, "there is a%s %s already, in %s",
                     kind == STORE_IMAGES ? "n image" : " VM", name, s->dir);
    if (!rc)
        rc = store_root(root, sizeof(root), store_kinds[kind], e);
    if (!rc)
        rc = store_make_folders(root, e);
    if (rc)
        return rc;
    store_sweep(root);
    snprintf(prefix, sizeof(prefix), ".%d.", (int)getpid());
    rc = store_set_name(s, kind, prefix, name, e);
    if (!rc && mkdir(s->dir, 0700))
        rc = err_set(e, errno, "cannot make the folder %s: %s", s->dir, strerror(errno));
    if (!rc)
        s->meta = json_object();
    return rc;
}

int store_commit(struct store_entry *s, enum store_kind kind, struct err *e)
{
    struct store_entry to;
    char path[PATH_MAX];
    int rc = store_set_name(&to, kind, "", s->name, e);

    if (rc)
        return rc;
    store_file(s, store_meta[kind], path, sizeof(path));
    if (json_dump_file(s->meta, path, JSON_INDENT(2) | JSON_PRESERVE_ORDER))
        return err_set(e, EIO, "cannot write %s: is the disk full?", path);
    if (kind == STORE_IMAGES) {
        store_disk(s, path, sizeof(path));
        if (chmod(path, 0444))
            return err_set(e, errno, "%s: %s", path, strerror(errno));
    }
    if (rename(s->dir, to.dir))
        return err_set(e, errno, "cannot make %s: %s", to.dir, strerror(errno));
    memcpy(s->dir, to.dir, sizeof(s->dir));
    return 0;
}

void store_abort(struct store_entry *s)
{
    (void)!store_remove_folder(s->dir);
    store_close(s);
}

int store_uefi_vars(const char *name, bool make, char *path, size_t len, struct err *e)
{
    char root[PATH_MAX - STORE_NAME_MAX - 32] = "";
    int rc = store_name_ok(name) ? store_root(root, sizeof(root), "uefi", e)
                                 : err_set(e, EINVAL, "%.64s is no name for a file", name);

    if (!rc && make)
        rc = store_make_folders(root, e);
    if (!rc && (size_t)snprintf(path, len, "%s/%s.vars", root, name) >= len)
        rc = err_set(e, ENAMETOOLONG, "the path of the UEFI variables is too long");
    return rc;
}

int store_remove(enum store_kind kind, const char *name, struct err *e)
{
    struct store_entry s, gone;
    char prefix[24];
    int rc = store_set_name(&s, kind, "", name, e);

    if (rc)
        return rc;
    snprintf(prefix, sizeof(prefix), ".%d.", (int)getpid());
    rc = store_set_name(&gone, kind, prefix, name, e);
    if (rc)
        return rc;
    if (rename(s.dir, gone.dir)) /* at once, whatever comes then */
        return errno == ENOENT ? err_set(e, ENOENT, "there is no %s %s",
                                         kind == STORE_IMAGES ? "image" : "VM", name)
                               : err_set(e, errno, "cannot remove %s: %s", s.dir, strerror(errno));
    rc = store_remove_folder(gone.dir);
    return rc ? err_set(e, -rc, "cannot remove all of %s: %s", gone.dir, strerror(-rc)) : 0;
}

/* --- files --- */

static int store_hash_file(int fd, EVP_MD_CTX *ctx, uint8_t *buf)
{
    ssize_t n;

    while ((n = read(fd, buf, STORE_BUFFER)) > 0)
        if (!EVP_DigestUpdate(ctx, buf, (size_t)n))
            return -EIO;
    return n ? -errno : 0;
}

int store_sha256(const char *path, char hex[STORE_SHA256_LEN + 1], struct err *e)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC), rc = fd < 0 ? -errno : 0;
    EVP_MD_CTX *ctx = EVP_MD_CTX_new();
    uint8_t *buf = malloc(STORE_BUFFER), digest[32];

    if (!rc && (!ctx || !buf || !EVP_DigestInit_ex(ctx, EVP_sha256(), NULL)))
        rc = -ENOMEM;
    if (!rc)
        rc = store_hash_file(fd, ctx, buf);
    if (!rc && !EVP_DigestFinal_ex(ctx, digest, NULL))
        rc = -EIO;
    for (size_t i = 0; !rc && i < sizeof(digest); i++)
        snprintf(hex + 2 * i, 3, "%02x", digest[i]);
    EVP_MD_CTX_free(ctx);
    free(buf);
    util_close(&fd);
    return rc ? err_set(e, -rc, "cannot read %s: %s", path, strerror(-rc)) : 0;
}

/* From data to hole to data: what is between is never written. 0 or -errno. */
static int store_copy_data(int from, int to, uint64_t size)
{
    off_t at = 0;

    while ((uint64_t)at < size) {
        off_t data = lseek(from, at, SEEK_DATA), hole;

        if (data < 0)
            return errno == ENXIO ? 0 : -errno;
        hole = lseek(from, data, SEEK_HOLE);
        if (hole < 0 || lseek(to, data, SEEK_SET) < 0)
            return -errno;
        for (at = data; at < hole;) {
            ssize_t n = copy_file_range(from, &at, to, NULL, (size_t)(hole - at), 0);

            if (n <= 0)
                return n ? -errno : -EIO;
        }
    }
    return 0;
}

int store_copy(const char *from, const char *to, struct err *e)
{
    int in = open(from, O_RDONLY | O_CLOEXEC), out, rc;
    struct stat st;

    if (in < 0 || fstat(in, &st)) {
        rc = err_set(e, errno, "cannot read %s: %s", from, strerror(errno));
        util_close(&in);
        return rc;
    }
    if (!S_ISREG(st.st_mode)) {
        close(in);
        return err_set(e, EINVAL, "%s is not a regular file", from);
    }
    out = open(to, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    if (out < 0)
        rc = -errno;
    else if (!ioctl(out, FICLONE, in))
        rc = 0;
    else
        rc = ftruncate(out, st.st_size) ? -errno : store_copy_data(in, out, (uint64_t)st.st_size);
    close(in);
    if (out >= 0 && close(out) && !rc)
        rc = -errno;
    return rc ? err_set(e, -rc, "cannot copy %s to %s: %s", from, to, strerror(-rc)) : 0;
}
