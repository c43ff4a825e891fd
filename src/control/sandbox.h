/*
 * sandbox.h: a VMM that a guest has taken over must find nothing to take: after set-up the process
 * drops privileges, namespaces, files and system calls that it does not need. What the host's kernel
 * lacks is said in the log, and the rest is done all the same.
 *
 * A system call outside the filter ends the process with SANDBOX_EXIT_STATUS and one line that names
 * it. For that the signal SIGSYS belongs to the sandbox, and threads must not block it.
 */
#ifndef CONTROL_SANDBOX_H
#define CONTROL_SANDBOX_H

#include "base/err.h"

enum { SANDBOX_EXIT_STATUS = 14, SANDBOX_MAX_PATHS = 64 };

struct sandbox_opts {
    /* Files and folders that are opened again later; those that do not exist are skipped. */
    const char *read[SANDBOX_MAX_PATHS];
    unsigned n_read;
    const char *write[SANDBOX_MAX_PATHS]; /* read, written, and (folders) created and removed in */
    unsigned n_write;
    bool network; /* sockets to the outside, and the resolver's configuration */
    /* Async-signal-safe, or NULL: before the process ends for a violation (the terminal's modes). */
    void (*before_exit)(void);
};

/*
 * Confines the process: all its threads for system calls, this one and those it starts later for
 * files and privileges. Set-up is over and the VM does not run yet. -errno and a sentence only if a
 * part that exists here failed in an unexpected way.
 */
must_check int sandbox_enter(const struct sandbox_opts *o, struct err *e);

/* After sandbox_enter(), on a vCPU thread itself: no files, no sockets, no new threads. */
must_check int sandbox_vcpu_thread(struct err *e);

#endif
