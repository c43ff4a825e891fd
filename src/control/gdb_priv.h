/*
 * gdb_priv.h: what the files of the debugger's server share:
 *
 *   gdb.c          the sockets: one client, bytes in and out
 *   gdb_packet.c   frames
 *   gdb_cmd.c      the table of packets; registers and memory
 *   gdb_query.c    q and Q packets: features, threads, target description
 *   gdb_monitor.c  the commands of `monitor`
 *   gdb_points.c   Z and z packets: breakpoints and watchpoints
 *   gdb_run.c      going and stopping
 *   gdb_regs.c     the register file
 *
 * Loop thread, except `connected` and the two functions of struct debugger.
 */
#ifndef CONTROL_GDB_PRIV_H
#define CONTROL_GDB_PRIV_H

#include <stdatomic.h>

#include "base/loop.h"
#include "control/gdb.h"
#include "control/gdb_packet.h"
#include "vm/vm.h"

enum { GDB_RX = 4096 };
enum { /* numbers of "E" answers: Linux's, though clients only show them */
       GDB_ENOENT = 2,
       GDB_EFAULT = 14,
       GDB_EINVAL = 22,
       GDB_ENOSPC = 28,
};
enum { GDB_SIGINT = 2, GDB_SIGTRAP = 5, GDB_SIGSEGV = 11 }; /* GDB's own numbers */

enum gdb_action { GDB_HOLD, GDB_CONTINUE, GDB_STEP };

struct gdb {
    struct debugger debugger; /* wired into the VM */
    struct vm *vm;
    char *xml;
    bool avx;

    /* gdb.c's: fds are -1 in tests, which use gdb_feed() and tx */
    int listen_fd, fd;
    struct loop_fd listen_watch, watch;
    atomic_bool connected;
    uint8_t rx[GDB_RX];
    size_t rx_len, rx_at;
    char tx[2 * GDB_FRAME_MAX + 16]; /* room for an acknowledgement, some text and an answer */
    size_t tx_len, tx_at;
    bool tx_failed; /* it did not fit: the client is lost */
    struct gdb_parser parser;
    struct gdb_reply reply;
    bool answered; /* the packet's function did it, or there is to be no answer */
    bool no_ack;

    /* The client's choices */
    bool swbreak, hwbreak; /* it knows these stop reasons */
    bool physical;         /* memory by physical address */
    bool step_irqs;
    unsigned cpu;      /* that registers and memory are seen through */
    unsigned stop_cpu; /* that stopped last */

    struct x86_state *state; /* of state_cpu, if state_valid */
    unsigned state_cpu;
    bool state_valid;

    bool running; /* by the client's leave; the VM may have ended all the same */
    struct loop_work stop_work;

    struct debug_points points;
    struct { /* of software breakpoints that are in memory now (accel_ops.debug_int3) */
        bool there;
        uint8_t byte;
        uint64_t gpa;
    } int3[DEBUG_POINTS_MAX];
};

/* --- gdb.c --- */
/* Without sockets: for gdb_create() and tests. */
struct gdb *gdb_new(struct vm *vm, bool wait, struct err *e);
/* A client came, or went: stops the guest, and lets it go. */
void gdb_attach(struct gdb *g);
void gdb_leave(struct gdb *g);
/* Bytes from the client, up to the first that makes an answer; how many were taken. */
size_t gdb_feed(struct gdb *g, const uint8_t *bytes, size_t n);
/* Bytes to and from the client, as far as they go. */
void gdb_turn(struct gdb *g);
/* Sends g->reply. */
void gdb_send(struct gdb *g);

/* --- gdb_cmd.c --- */
/* The packet in g->parser: answers it, or not. The guest is stopped. */
void gdb_packet(struct gdb *g);
void gdb_ok(struct gdb *g);
void gdb_error(struct gdb *g, unsigned number);
/* The registers of a vCPU, read once a stop; NULL: the accelerator does not give them. */
struct x86_state *gdb_state(struct gdb *g, unsigned cpu);
/* A thread's number as clients write it: *cpu, or -1 for all or any. false: there is none such. */
must_check bool gdb_scan_thread(const struct gdb *g, const char **p, int *cpu);

/* --- the tables' functions; args: behind the packet's name, NUL-terminated, in g->parser --- */
void gdb_query_supported(struct gdb *g, const char *args);
void gdb_query_xfer(struct gdb *g, const char *args);
void gdb_query_first_threads(struct gdb *g, const char *args);
void gdb_query_more_threads(struct gdb *g, const char *args);
void gdb_query_thread_info(struct gdb *g, const char *args);
void gdb_query_current(struct gdb *g, const char *args);
void gdb_query_attached(struct gdb *g, const char *args);
void gdb_query_no_ack(struct gdb *g, const char *args);
void gdb_monitor(struct gdb *g, const char *args);
void gdb_point_insert(struct gdb *g, const char *args);
void gdb_point_remove(struct gdb *g, const char *args);
void gdb_run_why(struct gdb *g, const char *args);
void gdb_run_continue(struct gdb *g, const char *args);
void gdb_run_step(struct gdb *g, const char *args);
void gdb_run_vcont_ask(struct gdb *g, const char *args);
void gdb_run_vcont(struct gdb *g, const char *args);
void gdb_run_detach(struct gdb *g, const char *args);
void gdb_run_kill(struct gdb *g, const char *args);

/* "halted" and the like, for a human. */
void gdb_describe_cpu(struct gdb *g, unsigned cpu, char *buf, size_t len);

/* --- gdb_points.c --- */
void gdb_points_clear(struct gdb *g);
/* Before the guest runs, and after it stopped: INT3s into memory, and out of it. */
void gdb_points_enter(struct gdb *g);
void gdb_points_leave(struct gdb *g);

/* --- gdb_run.c --- */
void gdb_run_init(struct gdb *g);
/* Stops the guest without a word. */
void gdb_halt(struct gdb *g);
/* The client's Ctrl-C. */
void gdb_interrupt(struct gdb *g);
/* Nobody debugs any more: everything goes on. */
void gdb_release(struct gdb *g);

#endif
