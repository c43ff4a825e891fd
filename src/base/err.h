/*
 * err.h: one English sentence for the user (what, why, what to do), carried up from set-up paths
 * to the terminal or the API reply unchanged. Any thread; the struct belongs to its caller.
 */
#ifndef BASE_ERR_H
#define BASE_ERR_H

#include "base/util.h"

struct err {
    int code; /* positive errno of the first failure; 0: none */
    char msg[512];
};

/* Sets the sentence (the first one wins) and returns -code. e may be NULL. */
int err_set(struct err *e, int code, const char *fmt, ...) printf_like(3, 4);

/* Puts "what: " before the sentence already there and returns -code of it. */
int err_prefix(struct err *e, const char *fmt, ...) printf_like(2, 3);

/* "out of memory"; returns NULL, so that constructors can `return err_oom(e);`. */
void *err_oom(struct err *e);

#endif
