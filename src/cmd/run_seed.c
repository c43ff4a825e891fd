/* run_seed.c: see run_seed.h. */
#include "cmd/run_seed.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "cmd/text_file.h"
#include "image/seed.h"

enum { SEED_TEXT_MAX = MIB };

/* A descriptor with the volume, to be inherited; -errno. */
static int run_seed_fd(const uint8_t *volume, size_t len)
{
    int fd = memfd_create("ruche-seed", 0), rc;

    if (fd < 0)
        return -errno;
    rc = util_write_all(fd, volume, len);
    if (rc)
        close(fd);
    return rc ? rc : fd;
}

static int run_seed_add(struct options *o, const struct seed_opts *s, struct err *e)
{
    char path[64];
    size_t len;
    uint8_t *volume = seed_make(s, &len, e);
    int fd;

    if (!volume)
        return -e->code;
    fd = run_seed_fd(volume, len);
    free(volume);
    if (fd < 0)
        return err_set(e, -fd, "cannot hand the guest its settings: %s", strerror(-fd));
    snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
    return options_last_disk(o, path, "raw", e);
}

/* One who has no key must have a password, or nobody could log in. */
static int run_seed_password(struct seed_opts *s, char **password, struct err *e)
{
    int rc;

    if (!s->user || s->ssh_keys)
        return 0;
    rc = options_make_password(password, e);
    s->password = *password;
    if (!rc)
        fprintf(stderr, "ruche: the password of %s is %s (--ssh-key FILE does without)\n", s->user,
                *password);
    return rc;
}

static int run_seed_check(const struct options_seed *seed, struct err *e)
{
    if (seed->cloud_init && (seed->user || seed->ssh_key))
        return err_set(e, EINVAL,
                       "--cloud-init brings its own users and keys: put what --user and --ssh-key "
                       "say into that file");
    return seed->ssh_key ? text_file_check_key("--ssh-key", seed->ssh_key, e) : 0;
}

/* cloud-init ignores what does not begin as one of its kinds of user-data, and says so only in the guest's log. */
static int run_seed_read(const char *path, char **text, struct err *e)
{
    int rc = text_file_read("--cloud-init", path, SEED_TEXT_MAX, text, e);

    if (!rc && **text && **text != '#' && strncmp(*text, "Content-Type:", 13) != 0 &&
        strncmp(*text, "MIME-Version:", 13) != 0)
        rc = err_set(e, EINVAL,
                     "--cloud-init %s: cloud-init would ignore it: its first line has to be "
                     "#cloud-config, or #! of a script, or the head of a MIME message",
                     path);
    return rc;
}

int run_seed_prepare(struct options *o, struct err *e)
{
    const struct options_seed *seed = &o->seed;
    struct seed_opts s = { .name = o->config.name, .hostname = seed->hostname, .user = seed->user };
    char *keys = NULL, *user_data = NULL, *password = NULL;
    int rc;

    if (!seed->user && !seed->ssh_key && !seed->hostname && !seed->cloud_init)
        return 0;
    rc = run_seed_check(seed, e);
    if (!rc && seed->ssh_key)
        rc = text_file_read("--ssh-key", seed->ssh_key, SEED_TEXT_MAX, &keys, e);
    if (!rc && seed->cloud_init)
        rc = run_seed_read(seed->cloud_init, &user_data, e);
    s.ssh_keys = keys;
    s.user_data = user_data;
    if (!rc)
        rc = run_seed_password(&s, &password, e);
    if (!rc)
        rc = run_seed_add(o, &s, e);
    free(keys);
    free(user_data);
    free(password);
    return rc;
}
