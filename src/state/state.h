/*
 * state.h: one cursor for saving and loading a machine's state by the same lines of code.
 *
 * A device's state() function names its fields once; the cursor's direction decides whether they are
 * written or read. Fields are little-endian, without padding. Errors are sticky: after the first one
 * every load yields zeros and every save is dropped, so state() functions need no checks of their own.
 *
 * A stream is a header and sections; a section is {type, id, version, length, payload}, so that an
 * unknown, short or long section is found out before anything is applied. Single thread.
 */
#ifndef STATE_STATE_H
#define STATE_STATE_H

#include "base/err.h"

struct state {
    bool saving;
    unsigned version;  /* of the section being loaded or saved */
    uint8_t *buf;      /* saving: owned, grows; loading: the caller's bytes */
    size_t len, cap;   /* saving: used, allocated; loading: available */
    size_t pos;        /* loading: next byte */
    size_t end;        /* loading: end of the current section */
    size_t section_at; /* saving: where the current section's length (u64) goes */
    int error;         /* 0 or the first failure, -errno */
    char what[320];    /* and what it was */
};

void state_init_save(struct state *s);                              /* then state_fini() */
void state_init_load(struct state *s, const void *buf, size_t len); /* buf outlives the cursor */
void state_fini(struct state *s);

/*
 * Saving: opens a section. Loading: the next section must have this type and id and a version of at
 * most max_version, which state_version() then tells; else an error. Sections do not nest.
 */
void state_begin(struct state *s, const char *type, const char *id, unsigned max_version);
void state_end(struct state *s); /* loading: the section must be used up exactly */
/* Loading: passes over the rest of the section, so that a stream's shape can be checked before its use. */
void state_skip(struct state *s);

unsigned state_version(const struct state *s);
void state_u8(struct state *s, uint8_t *v);
void state_u16(struct state *s, uint16_t *v);
void state_u32(struct state *s, uint32_t *v);
void state_u64(struct state *s, uint64_t *v);
void state_i64(struct state *s, int64_t *v);
void state_bool(struct state *s, bool *v); /* loading: anything but 0 and 1 is refused */
void state_bytes(struct state *s, void *p, size_t len);
/* Refuses absurd input on load; on save a false `ok` is our own error and is reported the same way. */
void state_require(struct state *s, bool ok, const char *what);
static inline bool state_loading(const struct state *s)
{
    return !s->saving;
}
int state_error(const struct state *s); /* 0, or the first failure as -errno */
const char *state_what(const struct state *s);

#endif
