/*
 * rundir.h: a VM's folder of the moment: $XDG_RUNTIME_DIR/ruche/NAME, for root /run/ruche/NAME, or below
 * $RUCHE_RUNTIME_DIR. The process that holds the lock in it is the VM of that name; who is killed loses the
 * lock, and what it left is taken over by the next of that name. Single thread.
 *
 *   lock     locked while the VM lives; its content is the process id
 *   control  the control socket (control/control.h)
 *   log      the end of its log; stays until the name is used again
 *   serial   the end of what the guest wrote to its serial port; likewise
 */
#ifndef CONTROL_RUNDIR_H
#define CONTROL_RUNDIR_H

#include <limits.h>
#include <sys/types.h>

#include "base/err.h"

enum { RUNDIR_NAME_MAX = 64, RUNDIR_LOG_MAX = 512 * KIB };

struct rundir {
    char path[PATH_MAX];
    int fd;      /* of the folder; -1: none */
    int lock_fd; /* -1: not ours */
};

/* 1 to 64 letters, digits and . _ - with none of . and - in front. */
bool rundir_name_ok(const char *name);

/*
 * Makes name ours and empties its folder. -EBUSY with a sentence that names the holder; another error if
 * there can be no such folder.
 */
must_check int rundir_claim(struct rundir *r, const char *name, struct err *e);
/* The same for the first of stem, stem2, stem3, ... that is free; name (RUNDIR_NAME_MAX + 1 bytes) tells which. */
must_check int rundir_claim_any(struct rundir *r, const char *stem, char *name, struct err *e);
/* A new file in it, or -errno. */
must_check int rundir_create(const struct rundir *r, const char *file);
/* A socket that listens in it under that name, or -errno. */
must_check int rundir_listen(const struct rundir *r, const char *file, struct err *e);

/* Looks at the folder of a name, whether the VM lives or not: 0 or -errno (-ENOENT: never heard of it). */
must_check int rundir_open(struct rundir *r, const char *name);
/* The process that holds it; 0: none. */
pid_t rundir_holder(const struct rundir *r);
/* A connection to the socket there: a blocking descriptor, or -errno. */
must_check int rundir_connect(const struct rundir *r, const char *file);
/* Gives back a claimed one (its socket goes, its log stays), or closes an opened one. Idempotent. */
void rundir_close(struct rundir *r);

/* All names there are, sorted; rundir_names_free() is due if it returns 0. -errno. */
struct rundir_names {
    char **name;
    size_t n;
};
must_check int rundir_list(struct rundir_names *l);
void rundir_names_free(struct rundir_names *l);

#endif
