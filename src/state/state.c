#include "state/state.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/endian.h"

enum { STATE_NAME_MAX = 63 };

void state_init_save(struct state *s)
{
    *s = (struct state){ .saving = true };
}

void state_init_load(struct state *s, const void *buf, size_t len)
{
    *s = (struct state){ .buf = (uint8_t *)(uintptr_t)buf, .len = len };
}

void state_fini(struct state *s)
{
    if (s->saving)
        free(s->buf);
    *s = (struct state){ .error = -EBADF };
}

static void state_fail(struct state *s, int error, const char *what)
{
    if (s->error)
        return;
    s->error = error;
    snprintf(s->what, sizeof(s->what), "%s", what);
}

static bool state_grow(struct state *s, size_t more)
{
    size_t want, cap = s->cap ? s->cap : 4096;
    uint8_t *buf;

    if (ckd_add(&want, s->len, more)) {
        state_fail(s, -E2BIG, "state too large");
        return false;
    }
    if (want <= s->cap)
        return true;
    while (cap < want)
        cap *= 2;
    buf = realloc(s->buf, cap);
    if (!buf) {
        state_fail(s, -ENOMEM, "out of memory");
        return false;
    }
    s->buf = buf;
    s->cap = cap;
    return true;
}

static void state_put(struct state *s, const void *p, size_t len)
{
    if (s->error || !state_grow(s, len))
        return;
    if (len)
        memcpy(s->buf + s->len, p, len);
    s->len += len;
}

static void state_get(struct state *s, void *p, size_t len, size_t end)
{
    if (!s->error && end - s->pos < len)
        state_fail(s, -EINVAL, "state is cut short");
    if (s->error) {
        if (len)
            memset(p, 0, len);
        return;
    }
    if (len)
        memcpy(p, s->buf + s->pos, len);
    s->pos += len;
}

void state_bytes(struct state *s, void *p, size_t len)
{
    if (s->saving)
        state_put(s, p, len);
    else
        state_get(s, p, len, s->end);
}

void state_u8(struct state *s, uint8_t *v)
{
    state_bytes(s, v, 1);
}

void state_u16(struct state *s, uint16_t *v)
{
    state_bytes(s, v, 2); /* the host is little-endian: x86-64 only */
}

void state_u32(struct state *s, uint32_t *v)
{
    state_bytes(s, v, 4);
}

void state_u64(struct state *s, uint64_t *v)
{
    state_bytes(s, v, 8);
}

void state_i64(struct state *s, int64_t *v)
{
    state_bytes(s, v, 8);
}

void state_bool(struct state *s, bool *v)
{
    uint8_t byte = *v;

    state_u8(s, &byte);
    state_require(s, byte <= 1, "a truth value is neither 0 nor 1");
    *v = byte == 1;
}

void state_require(struct state *s, bool ok, const char *what)
{
    if (!ok)
        state_fail(s, -EINVAL, what);
}

static void state_put_name(struct state *s, const char *name)
{
    uint8_t len = (uint8_t)strnlen(name, STATE_NAME_MAX);

    state_put(s, &len, 1);
    state_put(s, name, len);
}

static void state_match_name(struct state *s, const char *name)
{
    char got[STATE_NAME_MAX + 1] = { 0 };
    char what[sizeof(s->what)];
    uint8_t len;

    state_get(s, &len, 1, s->len);
    if (len > STATE_NAME_MAX) {
        state_fail(s, -EINVAL, "a section's name is too long");
        return;
    }
    state_get(s, got, len, s->len);
    if (s->error || !strcmp(got, name))
        return;
    snprintf(what, sizeof(what), "expected section '%.32s', found '%.32s'", name, got);
    state_fail(s, -EINVAL, what);
}

void state_begin(struct state *s, const char *type, const char *id, unsigned max_version)
{
    uint32_t version = max_version;
    uint64_t len = 0;

    if (s->saving) {
        state_put_name(s, type);
        state_put_name(s, id);
        state_put(s, &version, 4);
        s->section_at = s->len;
        state_put(s, &len, sizeof(len));
        s->version = max_version;
        return;
    }
    state_match_name(s, type);
    state_match_name(s, id);
    state_get(s, &version, 4, s->len);
    state_get(s, &len, sizeof(len), s->len);
    if (!s->error && (version == 0 || version > max_version))
        state_fail(s, -ENOTSUP, "a section was saved by a newer version of this program");
    if (!s->error && len > s->len - s->pos)
        state_fail(s, -EINVAL, "state is cut short");
    s->version = version;
    s->end = s->error ? s->pos : s->pos + len;
}

void state_end(struct state *s)
{
    if (s->error)
        return;
    if (s->saving) {
        st_le64(s->buf + s->section_at, s->len - s->section_at - sizeof(uint64_t));
        return;
    }
    if (s->pos != s->end)
        state_fail(s, -EINVAL, "a section is longer than its fields");
}

void state_skip(struct state *s)
{
    if (!s->error)
        s->pos = s->end;
}

unsigned state_version(const struct state *s)
{
    return s->version;
}

int state_error(const struct state *s)
{
    return s->error;
}

const char *state_what(const struct state *s)
{
    return s->error ? s->what : "";
}
