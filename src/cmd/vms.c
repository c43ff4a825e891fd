/* vms.c: see vms.h. */
#include "cmd/vms.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>

#include "cmd/cmd.h"

enum { VMS_POLL_NS = 5000000, NS_PER_MS = 1000000 };

/* "; running: a, b", as far as there is room. */
static void vms_running(char *buf, size_t len)
{
    struct rundir_names l;
    size_t at = 0;

    snprintf(buf, len, "none is");
    if (rundir_list(&l))
        return;
    for (size_t i = 0; i < l.n && at < len; i++) {
        struct rundir dir;

        if (rundir_open(&dir, l.name[i]))
            continue;
        if (rundir_holder(&dir))
            at += (size_t)snprintf(buf + at, len - at, "%s%s", at ? ", " : "running: ", l.name[i]);
        rundir_close(&dir);
    }
    rundir_names_free(&l);
}

static int vms_none(const char *name, const struct rundir *dir, struct err *e)
{
    char running[256], cure[128] = "";
    struct stat st;

    vms_running(running, sizeof(running));
    if (dir->fd >= 0 && !fstatat(dir->fd, "log", &st, 0))
        snprintf(cure, sizeof(cure), "; `ruche logs %s` tells how the last one ended", name);
    return err_set(e, ENOENT, "no VM named %.64s is running; %s%s", name, running, cure);
}

int vms_connect(struct vms_vm *vm, const char *name, struct err *e)
{
    int rc = rundir_open(&vm->dir, name), fd;
    pid_t pid = rc ? 0 : rundir_holder(&vm->dir);

    vm->name = name;
    vm->client.fd = -1;
    fd = pid ? rundir_connect(&vm->dir, "control") : -ENOENT;
    if (fd >= 0) {
        rpc_client_init(&vm->client, fd);
        return 0;
    }
    if (!pid)
        rc = vms_none(name, &vm->dir, e);
    else if (fd == -ENOENT || fd == -ECONNREFUSED)
        rc = err_set(e, EAGAIN, "the VM %s (process %d) is just starting or ending: try again",
                     name, (int)pid);
    else
        rc = err_set(e, -fd, "cannot reach the VM %s (process %d): %s", name, (int)pid,
                     strerror(-fd));
    rundir_close(&vm->dir);
    return rc;
}

void vms_close(struct vms_vm *vm)
{
    rpc_client_fini(&vm->client);
    rundir_close(&vm->dir);
}

int vms_call(struct vms_vm *vm, const char *method, json_t *params, int timeout_ms, json_t **result,
             struct err *e)
{
    int rc = rpc_client_call(&vm->client, method, params, timeout_ms, result, e);

    if (rc == -ETIMEDOUT) {
        *e = (struct err){ 0 };
        err_set(e, ETIMEDOUT,
                "the VM %s does not answer; its process %d may be stopped, or is at work", vm->name,
                (int)rundir_holder(&vm->dir));
    } else if (rc) {
        err_prefix(e, "%s", vm->name);
    }
    return rc;
}

int vms_wait_end(struct vms_vm *vm, int timeout_ms)
{
    const struct timespec nap = { .tv_nsec = VMS_POLL_NS };
    uint64_t until = util_monotonic_ns() + (uint64_t)timeout_ms * NS_PER_MS;
    int rc = rpc_client_wait_end(&vm->client, timeout_ms);

    while (!rc && rundir_holder(&vm->dir)) { /* the disks are being closed */
        if (util_monotonic_ns() > until)
            rc = -ETIMEDOUT;
        nanosleep(&nap, NULL);
    }
    return rc;
}

int vms_failed(int rc, const struct err *e)
{
    fprintf(stderr, "ruche: %s\n", e->msg);
    if (rc == -ENOENT)
        return CMD_NO_VM;
    return rc == -EMFILE || rc == -ENOMEM || rc == -EACCES || rc == -EPERM ? CMD_HOST : CMD_REFUSED;
}
