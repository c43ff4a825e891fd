/*
 * state_rig.h: a Linux guest in this process, whose serial port is a file that is looked at while it runs; saved,
 * and loaded into a fresh VM. One thread. What goes wrong is written down and makes the case fail.
 */
#ifndef GUEST_STATE_RIG_H
#define GUEST_STATE_RIG_H

#include <time.h>

#include "state/state.h"
#include "vm/machine_pc.h"

enum {
    RIG_DISK_BYTES = 4 << 20,
    RIG_CONSOLE_MAX = 1 << 20,
};

struct rig {
    const char *folder; /* kernel and initrd */
    const struct accel_ops *accel;
    unsigned cpus;
    const char *model;                                 /* --cpu; NULL: what it is without */
    const char *words;                                 /* what the guest's init does */
    void (*equip)(struct rig *t, struct vm_config *c); /* NULL, or adds disks and the like */

    char dir[32], disk[64], console[64], append[160], serial[80];
    struct vm_config cfg;
    struct vm *vm;
    int listener;
    uint16_t port;

    /* while it runs */
    struct loop_timer poll;
    const char *marker; /* stop when the console shows it; NULL: run to the end */
    unsigned pauses;    /* that are still to be made */
    bool timed_out;
    uint64_t deadline_ns;
    char text[RIG_CONSOLE_MAX];

    int conn;
    char said[32];     /* over TCP, by the guest */
    time_t clock_seen; /* when it showed its clocks */
    char problems[4096];
};

void printf_like(2, 3) rig_problem(struct rig *t, const char *fmt, ...);
/* The last answer "TEST name=value" into buf; an empty one if there is none. */
const char *rig_answer(struct rig *t, const char *name, char *buf, size_t len);
void rig_expect(struct rig *t, const char *name, const char *want);
void rig_expect_near(struct rig *t, const char *name, long long want, long long before,
                     long long after);
/* A folder for the case, a disk, a listener on the loopback; 0 or -errno. And away with them. */
int rig_prepare(struct rig *t);
void rig_clean(struct rig *t);
/* A `pc` with nothing in its memory; n numbers the console file. */
int rig_build(struct rig *t, unsigned n, struct err *e);
void rig_drop(struct rig *t);
/* Builds one and puts the kernel in place; the case's time begins. */
bool rig_boot(struct rig *t);
/* Runs until the console shows marker (NULL: to the end); false and a problem if it does not. */
bool rig_run_until(struct rig *t, const char *marker);
/* The whole machine with its RAM, paused, either way; `what` names the attempt in a problem. */
bool rig_transfer(struct rig *t, struct state *s, const char *what);
/* Into a VM that never ran, with console n; saved again, it must give the same bytes. */
bool rig_load_fresh(struct rig *t, unsigned n, const struct state *saved);
void rig_print_problems(const struct rig *t);

/* device_cases.c: everything at work that linux_state.c's machine has not. */
void case_old_and_new(struct rig *t);
void case_usb1_and_rtl(struct rig *t);

#endif
