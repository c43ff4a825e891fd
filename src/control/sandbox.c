/*
 * sandbox.c: the order in which a VMM gives up what it does not need: namespaces (while it still may),
 * capabilities, files, system calls.
 */
#include "control/sandbox.h"

#include <cap-ng.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <time.h>
#include <unistd.h>

#include "base/log.h"
#include "control/sandbox_priv.h"

static void sandbox_missing(const char *what, const char *why)
{
    log_info("sandbox", "goes on without %s: %s", what, why);
}

/* SysV IPC, host name and (without a network) the network of our own: empty ones. */
static void sandbox_namespaces(bool network)
{
    int flags = CLONE_NEWIPC | CLONE_NEWUTS | (network ? 0 : CLONE_NEWNET);

    if (unshare(flags))
        sandbox_missing("namespaces", errno == EPERM ? "only root may make them" : strerror(errno));
}

/* Of this thread. The bounding set can be emptied only by who has capabilities at all. */
static int sandbox_drop_capabilities(struct err *e)
{
    bool privileged = capng_have_capability(CAPNG_EFFECTIVE, CAP_SETPCAP) == 1;

    capng_clear(CAPNG_SELECT_ALL);
    if (capng_apply(privileged ? CAPNG_SELECT_ALL : CAPNG_SELECT_CAPS))
        return err_set(e, EPERM, "cannot drop the capabilities of the VM's process");
    return 0;
}

static int sandbox_no_new_privileges(struct err *e)
{
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0))
        return err_set(e, errno, "cannot give up new privileges: %s", strerror(errno));
    return 0;
}

static int sandbox_files(const struct sandbox_opts *o, struct err *e)
{
    int rc = landlock_enter(o, e);

    if (rc != -ENOSYS)
        return rc;
    sandbox_missing("a limit on files", "this kernel has no Landlock");
    return 0;
}

static int sandbox_system_calls(enum seccomp_profile profile, bool network, struct err *e)
{
    int rc = seccomp_enter(profile, network, e);

    if (rc != -ENOSYS)
        return rc;
    sandbox_missing("a filter of system calls", "this kernel has no seccomp");
    return 0;
}

int sandbox_enter(const struct sandbox_opts *o, struct err *e)
{
    int rc;

    tzset(); /* the first conversion of a time reads files: a log line must not be a violation */
    sandbox_namespaces(o->network);
    rc = sandbox_no_new_privileges(e);
    if (!rc)
        rc = sandbox_drop_capabilities(e);
    if (!rc)
        rc = sandbox_files(o, e);
    if (!rc)
        rc = seccomp_catch(o->before_exit, e);
    if (!rc)
        rc = sandbox_system_calls(SECCOMP_LOOP, o->network, e);
    return rc;
}

int sandbox_vcpu_thread(struct err *e)
{
    sigset_t set;
    int rc;

    sigemptyset(&set);
    sigaddset(&set, SIGSYS);
    pthread_sigmask(SIG_UNBLOCK, &set, NULL); /* blocked, a violation would kill without a word */
    rc = sandbox_no_new_privileges(e);
    if (!rc)
        rc = sandbox_drop_capabilities(e);
    if (!rc)
        rc = sandbox_files(NULL, e);
    if (!rc)
        rc = sandbox_system_calls(SECCOMP_VCPU, false, e);
    return rc;
}
