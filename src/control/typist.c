/* typist.c: see typist.h. All that is to be pressed for a call is known before its first key goes out. */
#include "control/typist.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "display/keymap.h"

#define TYPIST_GAP_NS   10000000ull /* from one event to the next: what even a poll sees */
#define TYPIST_RETRY_NS 2000000ull
#define TYPIST_GIVE_UP_NS                                                                          \
    20000000000ull /* a guest that took no key for so long does not read them */
enum { TYPIST_DOWN = 0x100, TYPIST_KEY = 0xff };

struct typist_job {
    struct typist_job *next;
    struct rpc_call *call;
    uint16_t *event; /* a key, and TYPIST_DOWN */
    size_t n, at, room;
    uint64_t since_ns; /* it waits for the guest; 0: it does not */
};

struct typist {
    struct loop *loop;
    struct typist_keyboard keyboard;
    struct loop_timer timer;
    struct typist_job *first; /* the one at work */
};

/* --- what to press --- */

static int typist_add(struct typist_job *j, uint8_t key, bool down)
{
    if (j->n == j->room) {
        size_t room = j->room ? 2 * j->room : 64;
        uint16_t *more = realloc(j->event, room * sizeof(*more));

        if (!more)
            return -ENOMEM;
        j->event = more;
        j->room = room;
    }
    j->event[j->n++] = (uint16_t)(key | (down ? TYPIST_DOWN : 0));
    return 0;
}

/* Down in their order, up in the opposite one. */
static int typist_add_combo(struct typist_job *j, const uint8_t *key, unsigned n)
{
    int rc = 0;

    for (unsigned i = 0; !rc && i < n; i++)
        rc = typist_add(j, key[i], true);
    for (unsigned i = n; !rc && i-- > 0;)
        rc = typist_add(j, key[i], false);
    return rc;
}

/* The keys for a character: with shift where it needs it; their number, 0: no key bears it. */
static unsigned typist_char(uint32_t keysym, uint8_t *key)
{
    unsigned n = 0;

    if (keymap_shifted(keysym))
        key[n++] = keymap_key(0xffe1);
    key[n] = keymap_key(keysym);
    return key[n] ? n + 1 : 0;
}

static uint32_t typist_keysym_of(char c)
{
    switch (c) {
    case '\n':
    case '\r':
        return 0xff0d;
    case '\t':
        return 0xff09;
    case '\b':
        return 0xff08;
    case 0x1b:
        return 0xff1b;
    default:
        return (uint8_t)c;
    }
}

static int typist_add_text(struct typist_job *j, const char *text, struct err *e)
{
    for (const char *p = text; *p; p++) {
        uint8_t key[2];
        unsigned n = (uint8_t)*p < 0x80 ? typist_char(typist_keysym_of(*p), key) : 0;

        if (!n)
            return err_set(
                e, EINVAL, "the US keyboard has no key for character %zu of the text (%s0x%02x)",
                (size_t)(p - text) + 1, (uint8_t)*p < 0x80 ? "" : "a byte of it is ", (uint8_t)*p);
        if (typist_add_combo(j, key, n))
            return err_set(e, ENOMEM, "out of memory");
    }
    return 0;
}

/* By name or by character: its keys; 0: there is none. */
static unsigned typist_named(const char *name, size_t len, uint8_t *key)
{
    static const struct {
        const char *name;
        uint32_t keysym;
    } names[] = {
#define KEY(name, keysym) { name, keysym },
#include "control/key_names.def"
#undef KEY
    };

    if (len == 1)
        return typist_char((uint8_t)*name, key);
    for (size_t i = 0; i < ARRAY_SIZE(names); i++)
        if (strlen(names[i].name) == len && !strncasecmp(names[i].name, name, len)) {
            key[0] = keymap_key(names[i].keysym);
            return 1;
        }
    return 0;
}

int typist_parse_combo(const char *text, uint8_t key[TYPIST_COMBO_MAX], struct err *e)
{
    const char *p = text;
    unsigned n = 0;

    for (;;) {
        /* A separator in first place is a key itself: "-", "ctrl--". */
        size_t len = *p ? 1 + strcspn(p + 1, "-+") : 0;
        uint8_t one[2] = { 0 };
        unsigned got = len ? typist_named(p, len, one) : 0;

        if (!got)
            return err_set(e, EINVAL,
                           "%.64s: there is no key \"%.*s\"; keys are characters and names such as "
                           "ctrl, alt, shift, win, enter, esc, tab, del, up, pgdn, f1, joined by -",
                           text, (int)min_u64(len, 32), p);
        if (n + got > TYPIST_COMBO_MAX)
            return err_set(e, EINVAL, "%.64s: at most %d keys are held together", text,
                           TYPIST_COMBO_MAX);
        memcpy(key + n, one, got);
        n += got;
        p += len;
        if (!*p)
            return (int)n;
        p++;
    }
}

static int typist_add_keys(struct typist_job *j, const json_t *keys, struct err *e)
{
    const json_t *item;
    size_t i;

    json_array_foreach(keys, i, item)
    {
        uint8_t key[TYPIST_COMBO_MAX];
        int n;

        if (!json_is_string(item))
            return err_set(e, EINVAL, "keys must be an array of strings");
        n = typist_parse_combo(json_string_value(item), key, e);
        if (n < 0)
            return n;
        if (typist_add_combo(j, key, (unsigned)n))
            return err_set(e, ENOMEM, "out of memory");
    }
    return 0;
}

/* --- at work --- */

static void typist_job_free(struct typist_job *j)
{
    free(j->event);
    free(j);
}

/* The job is taken off before its caller hears of it, who may come with the next one at once. */
static struct rpc_call *typist_take_off(struct typist *t)
{
    struct typist_job *j = t->first;
    struct rpc_call *c = j->call;

    t->first = j->next;
    typist_job_free(j);
    return c;
}

static void typist_arm(struct typist *t, uint64_t in_ns)
{
    if (t->first)
        loop_timer_set(&t->timer, util_monotonic_ns() + in_ns);
}

/* The guest did not take the next key. false: it never will. */
static bool typist_wait(struct typist *t, struct typist_job *j)
{
    uint64_t now = util_monotonic_ns();

    if (!t->keyboard.running(t->keyboard.opaque) || !j->since_ns)
        j->since_ns = now;
    return now - j->since_ns < TYPIST_GIVE_UP_NS;
}

static void typist_fail(struct typist *t, const struct typist_job *j, int rc)
{
    size_t left = j->n - j->at, n = j->n;
    struct rpc_call *c = typist_take_off(t);

    if (rc == -ENODEV)
        rpc_refuse(c, RPC_FAILED,
                   "this VM has no keyboard: a kernel booted without firmware gets one with "
                   "--display");
    else
        rpc_refuse(c, RPC_FAILED,
                   "the guest does not read its keyboard: %zu of %zu presses and releases were "
                   "left when it took none for %u s",
                   left, n, (unsigned)(TYPIST_GIVE_UP_NS / 1000000000));
}

static void typist_fire(struct loop_timer *timer)
{
    struct typist *t = container_of(timer, struct typist, timer);
    struct typist_job *j = t->first;
    int rc = 0;

    if (j->at < j->n)
        rc = t->keyboard.key(t->keyboard.opaque, (uint8_t)(j->event[j->at] & TYPIST_KEY),
                             j->event[j->at] & TYPIST_DOWN);
    if (rc == -EAGAIN && typist_wait(t, j)) {
        typist_arm(t, TYPIST_RETRY_NS);
        return;
    }
    if (rc) {
        typist_fail(t, j, rc);
    } else {
        j->since_ns = 0;
        if (++j->at >= j->n)
            rpc_answer(typist_take_off(t), json_object());
    }
    typist_arm(t, TYPIST_GAP_NS);
}

static void typist_start(struct typist *t, struct rpc_call *c, struct typist_job *job)
{
    struct typist_job **end = &t->first, *j = malloc(sizeof(*j));
    bool idle = !t->first;

    if (!j) {
        free(job->event);
        rpc_refuse(c, RPC_FAILED, "out of memory");
        return;
    }
    *j = *job;
    j->call = c;
    while (*end)
        end = &(*end)->next;
    *end = j;
    if (idle)
        typist_arm(t, 0);
}

void typist_type(struct typist *t, struct rpc_call *c, const char *text)
{
    struct typist_job j = { 0 };
    struct err e = { 0 };

    if (strlen(text) > TYPIST_TEXT_MAX) {
        rpc_refuse(c, RPC_INVALID_PARAMS, "a text has at most %d characters", TYPIST_TEXT_MAX);
    } else if (typist_add_text(&j, text, &e)) {
        free(j.event);
        rpc_refuse(c, RPC_INVALID_PARAMS, "%s", e.msg);
    } else {
        typist_start(t, c, &j);
    }
}

void typist_press(struct typist *t, struct rpc_call *c, const json_t *keys)
{
    struct typist_job j = { 0 };
    struct err e = { 0 };

    if (typist_add_keys(&j, keys, &e)) {
        free(j.event);
        rpc_refuse(c, RPC_INVALID_PARAMS, "%s", e.msg);
    } else {
        typist_start(t, c, &j);
    }
}

struct typist *typist_create(struct loop *l, const struct typist_keyboard *k, struct err *e)
{
    struct typist *t = calloc(1, sizeof(*t));

    if (!t)
        return err_oom(e);
    t->loop = l;
    t->keyboard = *k;
    loop_timer_init(l, &t->timer, typist_fire);
    return t;
}

void typist_destroy(struct typist *t)
{
    if (!t)
        return;
    loop_timer_cancel(&t->timer);
    while (t->first)
        rpc_refuse(typist_take_off(t), RPC_FAILED, "the VM has ended");
    free(t);
}
