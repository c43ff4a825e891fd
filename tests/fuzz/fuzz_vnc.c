/*
 * fuzz_vnc.c: a viewer that sends anything, in front of a screen that changes its size; with a password or
 * without, and past the handshake or before.
 *
 * Input: flags, then {operation, operands}.
 */
#include "fuzz.h"

#include "display/vnc_priv.h"

enum { MAX_OPS = 200, PIECE = 64 };
enum { FLAG_PASSWORD = 1, FLAG_SHAKEN = 2 };

static bool fuzz_vnc_enabled(struct input_sink *s)
{
    (void)s;
    return true;
}

static void fuzz_vnc_key(struct input_sink *s, uint8_t key, bool down)
{
    uint8_t code[KEYMAP_CODE_MAX];

    (void)s;
    BUG_ON(keymap_set2(key, down, code) > KEYMAP_CODE_MAX);
}

static void fuzz_vnc_point(struct input_sink *s, unsigned x, unsigned y, unsigned buttons,
                           int wheel)
{
    (void)s;
    BUG_ON(x > INPUT_AXIS_MAX || y > INPUT_AXIS_MAX || buttons > 7 || wheel * wheel > 1);
}

static const struct input_sink_ops fuzz_vnc_ops = {
    .enabled = fuzz_vnc_enabled,
    .key = fuzz_vnc_key,
    .absolute = fuzz_vnc_point,
};

/* Bytes wait while something is to be sent: it leaves at once. */
static void fuzz_vnc_feed(struct vnc_client *c, const uint8_t *bytes, size_t n)
{
    while (n && c->phase != VNC_ENDED) {
        size_t taken = vnc_client_feed(c, bytes, n);

        BUG_ON(!taken && !c->tx.len && c->phase != VNC_ENDED);
        c->tx.len = 0;
        bytes += taken;
        n -= taken;
    }
}

static void fuzz_vnc_op(struct vnc_client *c, struct surface *s, struct fuzz_input *in)
{
    static const uint8_t ask[10] = { 3 };
    uint8_t op = fuzz_u8(in), bytes[PIECE];
    size_t len;
    int rc;

    switch (op & 3) {
    case 0:
    case 1:
        len = op >> 2;
        fuzz_bytes(in, bytes, len);
        fuzz_vnc_feed(c, bytes, len);
        break;
    case 2:
        rc = surface_resize(s, 1 + fuzz_u8(in), 1 + fuzz_u8(in));
        (void)rc;
        break;
    default:
        fuzz_vnc_feed(c, ask, sizeof(ask));
        vnc_client_update(c);
        BUG_ON(c->tx.failed);
        c->tx.len = 0;
        break;
    }
}

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
    (void)argc;
    (void)argv;
    fuzz_confine();
    return 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    static const uint8_t random[VNC_CHALLENGE] = "0123456789abcde";
    static struct vnc_client c; /* large */
    struct input_sink sink = { .ops = &fuzz_vnc_ops };
    const struct vnc_source source = { NULL, NULL, input_create(NULL) };
    struct fuzz_input in = { data, len };
    struct surface s = { 0 };
    uint8_t flags = fuzz_u8(&in);

    BUG_ON(!source.input || surface_resize(&s, 80, 50) != 0);
    input_add(source.input, &sink);
    c = (struct vnc_client){ .source = &source, .screen = &s };
    c.password = flags & FLAG_PASSWORD ? "secret" : NULL;
    vnc_client_start(&c, random);
    c.tx.len = 0;
    if (flags & FLAG_SHAKEN) {
        c.password = NULL;
        fuzz_vnc_feed(&c, (const uint8_t *)"RFB 003.008\n\1\1", 14);
    }
    for (unsigned i = 0; in.len && i < MAX_OPS; i++)
        fuzz_vnc_op(&c, &s, &in);
    vnc_client_fini(&c);
    surface_fini(&s);
    input_destroy(source.input);
    return 0;
}
