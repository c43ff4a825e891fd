/*
 * sandbox_priv.h: the parts of the sandbox; see sandbox.h. Each applies to the calling thread unless
 * said otherwise, and returns -ENOSYS (nothing done) where the kernel lacks it.
 */
#ifndef CONTROL_SANDBOX_PRIV_H
#define CONTROL_SANDBOX_PRIV_H

#include "control/sandbox.h"

/* o NULL: no files at all. */
must_check int landlock_enter(const struct sandbox_opts *o, struct err *e);

enum seccomp_profile { SECCOMP_LOOP, SECCOMP_VCPU };
/* SECCOMP_LOOP: for all threads of the process. network: may make sockets. */
must_check int seccomp_enter(enum seccomp_profile profile, bool network, struct err *e);
/* Catches violations from then on; process-wide. */
must_check int seccomp_catch(void (*before_exit)(void), struct err *e);

#endif
