/*
 * term.h: the process's terminal: raw mode, and its way back at every end of the process.
 * A process has one controlling terminal and signal handlers have no argument, so this is one of the
 * few places that keep file-scope state. Set-up: one thread; term_restore(): any.
 */
#ifndef CHARDEV_TERM_H
#define CHARDEV_TERM_H

#include "base/err.h"

/*
 * fd becomes raw until term_restore(), which also runs at exit() and at fatal signals that have no other
 * handler by then. In a background job: as soon as it is brought to the foreground.
 */
must_check int term_raw(int fd, struct err *e);

/*
 * A non-blocking descriptor (CLOEXEC, the caller's) for what fd refers to. Where possible it is an open
 * file of its own, so that the shell and others who share fd notice nothing; else O_NONBLOCK is set on
 * the shared one until term_restore(). mode: O_RDONLY or O_WRONLY. -errno if there is no such fd.
 */
must_check int term_nonblocking(int fd, int mode);

/* As found. Idempotent; async-signal-safe: also for handlers that end the process by themselves. */
void term_restore(void);

#endif
