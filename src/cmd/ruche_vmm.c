/*
 * ruche_vmm.c: one virtual machine's process, started by `ruche run` (and later by the daemon).
 *
 * usage: ruche-vmm --config-fd N --parent PID. Reads the configuration, builds the machine, confines
 * itself, runs it. The exit status is that of `ruche run` (status.def).
 */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/log.h"
#include "base/tail_file.h"
#include "cmd/cmd.h"
#include "control/control.h"
#include "control/gdb.h"
#include "control/sandbox.h"
#include "vm/machine_pc.h"

enum { VMM_CONFIG_MAX = MIB };

struct vmm {
    struct vm_config cfg;
    struct vm *vm;
    struct gdb *gdb; /* NULL: nobody debugs the guest */
    struct rundir dir;
    struct control *control; /* NULL: there is no folder to have its socket in */
    struct vmm_kept {
        struct tail_file file;
        int fd; /* -1: there is none */
    } log, serial;
    struct loop_fd signals;
    int cancel_fd; /* readable when a signal came that ends the VM: asked while the machine is set up */
    int ended_by; /* signal number, 0: none */
    bool booting; /* what fails now is the kernel's or the initrd's fault */
};

/* Signals end the VM in order: disks are flushed, the terminal is put back. But SIGUSR1 asks for the screen. */
static void vmm_signal(struct loop_fd *w, uint32_t events)
{
    struct vmm *m = container_of(w, struct vmm, signals);
    struct signalfd_siginfo si;

    (void)events;
    if (read(w->fd, &si, sizeof(si)) != (ssize_t)sizeof(si))
        return;
    if (si.ssi_signo == SIGUSR1) {
        machine_pc_screenshot(m->vm);
        return;
    }
    if (!m->ended_by)
        m->ended_by = (int)si.ssi_signo;
    vm_end(m->vm, VM_END_POWEROFF, 0, "ended by signal %u", si.ssi_signo);
}

/* The machine is not complete because a signal came. */
static void vmm_look_for_end(struct vmm *m)
{
    struct signalfd_siginfo si;

    if (read(m->cancel_fd, &si, sizeof(si)) == (ssize_t)sizeof(si))
        m->ended_by = (int)si.ssi_signo;
}

/* Before any thread exists, so that all of them have the signals blocked. */
static int vmm_block_signals(sigset_t *set)
{
    sigemptyset(set);
    sigaddset(set, SIGINT);
    sigaddset(set, SIGTERM);
    sigaddset(set, SIGHUP);
    sigaddset(set, SIGQUIT);
    sigaddset(set, SIGUSR1);
    signal(SIGPIPE, SIG_IGN);
    return sigprocmask(SIG_BLOCK, set, NULL);
}

static int vmm_watch_signals(struct vmm *m, const sigset_t *set, struct err *e)
{
    int fd = signalfd(-1, set, SFD_CLOEXEC | SFD_NONBLOCK), r;
    sigset_t end = *set;

    sigdelset(&end, SIGUSR1);
    m->cancel_fd = signalfd(-1, &end, SFD_CLOEXEC | SFD_NONBLOCK);
    if (fd < 0 || m->cancel_fd < 0)
        return err_set(e, errno, "signalfd: %s", strerror(errno));
    m->vm->cancel_fd = m->cancel_fd;
    r = loop_fd_add(m->vm->loop, &m->signals, fd, EPOLLIN, vmm_signal);
    return r ? err_set(e, -r, "cannot watch for signals: %s", strerror(-r)) : 0;
}

/* A VMM without the process that owns its terminal would be lost: end with it. */
static int vmm_tie_to_parent(pid_t parent)
{
    prctl(PR_SET_PDEATHSIG, SIGTERM);
    return parent && getppid() != parent ? -ESRCH : 0;
}

/* The whole of fd as a string (malloc'd). */
static char *vmm_read_config(int fd, struct err *e)
{
    struct stat st;
    char *text;
    ssize_t n;

    if (fstat(fd, &st) || st.st_size < 0 || st.st_size > VMM_CONFIG_MAX) {
        err_set(e, EINVAL, "descriptor %d has no configuration", fd);
        return NULL;
    }
    text = calloc(1, (size_t)st.st_size + 1);
    if (!text)
        return err_oom(e);
    n = pread(fd, text, (size_t)st.st_size, 0);
    if (n != st.st_size) {
        err_set(e, EIO, "cannot read the configuration");
        free(text);
        return NULL;
    }
    return text;
}

/* Told to whoever started the VM: port 0 is any that is free. */
static int vmm_listen_for_gdb(struct vmm *m, struct err *e)
{
    char where[160];

    if (!m->cfg.gdb)
        return 0;
    m->gdb = gdb_create(m->vm, m->cfg.gdb, m->cfg.gdb_wait, e);
    if (!m->gdb)
        return -e->code;
    gdb_where(m->gdb, where, sizeof(where));
    fprintf(stderr, "ruche: %sgdb -ex 'target remote %s'\n",
            m->cfg.gdb_wait ? "the guest waits for a debugger: " : "debugger: ", where);
    return 0;
}

/* --- its folder, log and control socket --- */

static void vmm_keep(const struct vmm *m, struct vmm_kept *k, const char *name)
{
    k->fd = rundir_create(&m->dir, name);
    if (k->fd >= 0)
        tail_file_init(&k->file, k->fd, RUNDIR_LOG_MAX);
}

static void vmm_keep_no_more(struct vmm_kept *k)
{
    if (k->fd >= 0)
        tail_file_fini(&k->file);
    util_close(&k->fd);
}

/* A VM that cannot be reached from outside is still a VM: only a name that is taken ends it here. */
static int vmm_claim_name(struct vmm *m, struct err *e)
{
    char name[RUNDIR_NAME_MAX + 1];
    struct err why = { 0 };
    int rc = m->cfg.any_name ? rundir_claim_any(&m->dir, m->cfg.name, name, &why)
                             : rundir_claim(&m->dir, m->cfg.name, &why);

    if (rc == -EBUSY)
        return err_set(e, why.code, "%s", why.msg);
    if (rc) {
        log_warn("control", "the VM has no control socket: %s", why.msg);
        return 0;
    }
    if (m->cfg.any_name) {
        char *copy = strdup(name);

        if (!copy)
            return err_set(e, ENOMEM, "out of memory");
        free(m->cfg.name);
        m->cfg.name = copy;
    }
    vmm_keep(m, &m->log, "log");
    vmm_keep(m, &m->serial, "serial");
    if (m->log.fd >= 0)
        log_keep(&m->log.file, LOG_DEBUG);
    log_info("vmm", "VM %s, process %d, ruche %s", m->cfg.name, (int)getpid(), RUCHE_VERSION);
    return 0;
}

static int vmm_listen(struct vmm *m, struct err *e)
{
    if (m->dir.fd < 0)
        return 0;
    if (m->serial.fd >= 0)
        machine_pc_keep_serial(m->vm, &m->serial.file);
    m->control = control_create(m->vm, &m->dir, e);
    return m->control ? 0 : -e->code;
}

/* The log stays, for `ruche logs`. */
static void vmm_leave_folder(struct vmm *m)
{
    log_keep(NULL, LOG_ERROR);
    vmm_keep_no_more(&m->log);
    vmm_keep_no_more(&m->serial);
    rundir_close(&m->dir);
}

/* --- life --- */

static int vmm_build(struct vmm *m, const sigset_t *set, struct err *e)
{
    const struct accel_ops *accel;
    char reason[256] = "";
    int r = accel_choose(m->cfg.accel, &accel, reason, sizeof(reason), e);

    if (r)
        return r;
    log_info("vmm", "accelerator %s: %s", accel->name, reason);
    if (m->cfg.perf_map && accel != &accel_bt)
        return err_set(e, EINVAL,
                       "--perf-map names code that bt generates, and accelerator %s "
                       "generates none: add --accel bt",
                       accel->name);
    r = vm_create(&m->vm, &m->cfg, accel, e);
    if (!r)
        r = vmm_watch_signals(m, set, e);
    if (!r)
        r = machine_pc_create(m->vm, e);
    if (!r)
        r = vm_create_vcpus(m->vm, e);
    if (!r)
        r = vmm_listen_for_gdb(m, e);
    if (!r)
        r = vmm_listen(m, e);
    m->booting = !r;
    return r ? r : machine_pc_boot(m->vm, e);
}

/* Also to reach the server of a disk again. */
static bool vmm_needs_network(const struct vm_config *cfg)
{
    bool needed = strcmp(cfg->net, "none") != 0;

    for (unsigned i = 0; i < cfg->n_disks; i++)
        needed = needed || config_disk_is_remote(&cfg->disk[i]);
    return needed;
}

/* From here on the guest may try to take the process over: nothing is left to take. */
static int vmm_confine(const struct vmm *m, struct err *e)
{
    struct sandbox_opts o = { .network = vmm_needs_network(&m->cfg) };

    if (m->cfg.no_sandbox)
        return 0;
    if (m->cfg.kernel) /* both are loaded again when the guest resets */
        o.read[o.n_read++] = m->cfg.kernel;
    if (m->cfg.initrd)
        o.read[o.n_read++] = m->cfg.initrd;
    if (m->cfg.net_tftp)
        o.read[o.n_read++] = m->cfg.net_tftp;
    if (m->dir.fd >= 0) /* the socket is removed in the end */
        o.write[o.n_write++] = m->dir.path;
    m->vm->vcpu_thread_init = sandbox_vcpu_thread; /* they start with the first run */
    return sandbox_enter(&o, e);
}

static bool vmm_goes_on(const struct vmm *m, enum vm_end end)
{
    if (m->ended_by)
        return false;
    return end == VM_END_WAKE || (end == VM_END_RESET && !m->cfg.no_reboot);
}

/* Runs it through all its resets; the exit status. */
static int vmm_run(struct vmm *m, struct err *e)
{
    struct vm *vm = m->vm;

    while (vmm_goes_on(m, vm_run(vm))) {
        if (vm->end == VM_END_WAKE ? machine_pc_wake(vm, e)
                                   : vm_reset(vm, e) || machine_pc_boot(vm, e))
            return CMD_BAD_INPUT; /* e says more, once the terminal is back */
    }
    if (m->ended_by)
        return 128 + m->ended_by;
    switch (vm->end) {
    case VM_END_DEBUG_EXIT:
        return vm->end_status & 0xff;
    case VM_END_PANIC:
        return CMD_GUEST_PANIC;
    case VM_END_FAILED:
        return CMD_GUEST_FAILED;
    default:
        return CMD_OK;
    }
}

static void vmm_destroy(struct vmm *m)
{
    control_destroy(m->control);
    gdb_destroy(m->gdb);
    vm_destroy(m->vm);
    util_close(&m->signals.fd);
    util_close(&m->cancel_fd);
    config_fini(&m->cfg);
}

/* Set-up failed, or a reset did. */
static int vmm_fail(const struct vmm *m, const struct err *e)
{
    int status = m->ended_by ? 128 + m->ended_by : cmd_fail(e);

    log_info("vmm", "failed: %s", e->msg); /* it is on stderr already */
    return m->booting && e->code == ENOTSUP ? CMD_BAD_INPUT : status;
}

/* Once the terminal is back to normal: why it ended, unless the guest wanted just that. */
static void vmm_report(int status, const char *reason)
{
    log_info("vmm", "ended with status %d: %s", status, reason);
    if (status == CMD_GUEST_FAILED || status == CMD_GUEST_PANIC)
        fprintf(stderr, "ruche: %s\n", reason);
}

static int vmm_main(int config_fd, pid_t parent)
{
    struct vmm m = { .signals.fd = -1,
                     .cancel_fd = -1,
                     .log.fd = -1,
                     .serial.fd = -1,
                     .dir = { .fd = -1, .lock_fd = -1 } };
    struct err e = { 0 };
    char *json, reason[256] = "";
    sigset_t set;
    int status;

    vmm_block_signals(&set);
    json = vmm_read_config(config_fd, &e);
    close(config_fd);
    if (!json || config_from_json(&m.cfg, json, &e) || config_check(&m.cfg, &e)) {
        free(json);
        config_fini(&m.cfg);
        return cmd_fail(&e);
    }
    free(json);
    if (vmm_tie_to_parent(parent))
        status = CMD_VMM_DIED;
    else if (!vmm_claim_name(&m, &e) && !vmm_build(&m, &set, &e) && !vmm_confine(&m, &e))
        status = vmm_run(&m, &e);
    else
        status = CMD_BAD_INPUT;
    if (e.code == ECANCELED)
        vmm_look_for_end(&m);
    if (m.vm)
        snprintf(reason, sizeof(reason), "%s", m.vm->end_reason);
    vmm_destroy(&m);
    if (e.code)
        status = vmm_fail(&m, &e);
    else
        vmm_report(status, reason);
    vmm_leave_folder(&m);
    return status;
}

int main(int argc, char **argv)
{
    int config_fd = -1, parent = 0;

    for (int i = 1; i + 1 < argc; i += 2) {
        if (!strcmp(argv[i], "--config-fd"))
            config_fd = (int)strtol(argv[i + 1], NULL, 10);
        else if (!strcmp(argv[i], "--parent"))
            parent = (int)strtol(argv[i + 1], NULL, 10);
    }
    if (config_fd < 3) {
        fprintf(stderr, "ruche-vmm: this is started by `ruche run`, not by hand\n");
        return CMD_USAGE;
    }
    return vmm_main(config_fd, parent);
}
