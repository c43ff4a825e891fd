/*
 * progress.h: a bar on stderr for what takes long. Single thread.
 */
#ifndef CMD_PROGRESS_H
#define CMD_PROGRESS_H

#include "base/util.h"

struct progress {
    bool on, drawn;
    bool bar;      /* a bar on a terminal; else qemu-img's lines of percent */
    unsigned last; /* tenths of a percent */
    uint64_t started_ns;
};

/* Shown on a terminal unless quiet, elsewhere if asked for. */
void progress_start(struct progress *p, bool asked, bool quiet);
/* As copy_opts.progress; opaque is the struct. */
void progress_show(void *opaque, uint64_t done, uint64_t total);
void progress_end(struct progress *p, bool complete);

#endif
