/*
 * typist.h: presses keys for callers, one after the other, no faster than the guest takes them: a key
 * waits until the guest has fetched the one before and its firmware has room for it. Loop thread.
 */
#ifndef CONTROL_TYPIST_H
#define CONTROL_TYPIST_H

#include "control/rpc_server.h"

enum { TYPIST_TEXT_MAX = 16384, TYPIST_COMBO_MAX = 8 };

struct typist;
/* Where keys go. */
struct typist_keyboard {
    void *opaque;
    /* Presses or lets go a key (display/keymap.h). 0; -EAGAIN: not yet; -ENODEV: there is no keyboard. */
    int (*key)(void *opaque, uint8_t key, bool down);
    bool (*running)(void *opaque); /* does the guest run, so that it can take keys? */
};

struct typist *typist_create(struct loop *l, const struct typist_keyboard *k, struct err *e);
void typist_destroy(struct typist *t); /* calls that still wait are refused; NULL is fine */

/* Each answers c when its last key has been let go, or refuses it. */
void typist_type(struct typist *t, struct rpc_call *c, const char *text);
/* keys: an array of names like "ctrl-alt-del", "f2", "a". */
void typist_press(struct typist *t, struct rpc_call *c, const json_t *keys);

/* "ctrl-alt-del" into the keys to be held together; their number, or -EINVAL with a sentence. */
must_check int typist_parse_combo(const char *text, uint8_t key[TYPIST_COMBO_MAX], struct err *e);

#endif
