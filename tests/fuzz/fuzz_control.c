/*
 * fuzz_control.c: clients of the control socket that send anything, in any pieces, to a whole machine which
 * nobody runs: they come and go, several at once, and need not read what comes back.
 *
 * Input: {operation, operands}: a client comes; leaves; sends raw bytes; sends a method of the table with
 * parameters from the input; reads; time passes.
 */
#include "fuzz.h"

#include <stdio.h>
#include <sys/socket.h>
#include <unistd.h>

#include "control/control.h"
#include "fuzz_pc.h"

enum { OP_COME, OP_LEAVE, OP_RAW, OP_METHOD, OP_READ, OP_TURN, OPS };
enum { MAX_OPS = 64, CLIENTS = 4, TEXT_MAX = 2048, TURNS = 4 };

static const char *const fuzz_control_methods[] = {
    "key",   "methods", "pause",      "power-button", "quit",
    "reset", "resume",  "screenshot", "status",       "type",
};

static struct fuzz_control {
    struct fuzz_pc pc;
    struct control *control;
    int client[CLIENTS]; /* -1: none */
} fuzz_control;

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
    (void)argc;
    (void)argv;
    fuzz_confine();
    fuzz_signals_save();
    fuzz_pc_create(&fuzz_control.pc);
    fuzz_signals_chain();
    return 0;
}

static void fuzz_control_leave(unsigned i)
{
    if (fuzz_control.client[i] >= 0)
        close(fuzz_control.client[i]);
    fuzz_control.client[i] = -1;
}

static void fuzz_control_come(unsigned i)
{
    int pair[2];

    fuzz_control_leave(i);
    BUG_ON(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, pair) != 0);
    fuzz_control.client[i] = pair[0];
    if (control_adopt(fuzz_control.control, pair[1]))
        close(pair[1]);
}

static void fuzz_control_send(unsigned i, const char *text, size_t len)
{
    if (fuzz_control.client[i] < 0)
        fuzz_control_come(i);
    (void)!send(fuzz_control.client[i], text, len, MSG_DONTWAIT | MSG_NOSIGNAL);
}

static size_t fuzz_control_text(struct fuzz_input *in, char *text, size_t max)
{
    size_t len = min_u64(fuzz_u16(in) % max, in->len);

    fuzz_bytes(in, text, len);
    text[len] = '\0';
    return len;
}

static void fuzz_control_method(struct fuzz_input *in, unsigned i)
{
    char params[TEXT_MAX], line[TEXT_MAX + 128];
    const char *method = fuzz_control_methods[fuzz_u8(in) % ARRAY_SIZE(fuzz_control_methods)];
    int len;

    fuzz_control_text(in, params, sizeof(params));
    len = snprintf(line, sizeof(line),
                   "{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"%s\",\"params\":{%s}}\n", method,
                   params);
    fuzz_control_send(i, line, (size_t)len);
}

static void fuzz_control_op(struct fuzz_input *in)
{
    unsigned op = fuzz_u8(in), i = op / OPS % CLIENTS;
    char text[TEXT_MAX];

    switch (op % OPS) {
    case OP_COME:
        fuzz_control_come(i);
        break;
    case OP_LEAVE:
        fuzz_control_leave(i);
        break;
    case OP_RAW:
        fuzz_control_send(i, text, fuzz_control_text(in, text, sizeof(text)));
        break;
    case OP_METHOD:
        fuzz_control_method(in, i);
        break;
    case OP_READ:
        if (fuzz_control.client[i] >= 0)
            (void)!recv(fuzz_control.client[i], text, sizeof(text), MSG_DONTWAIT);
        break;
    default:
        fuzz_pc_poll(&fuzz_control.pc);
        break;
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    struct fuzz_input in = { data, len };

    fuzz_control.control = control_create(fuzz_control.pc.vm, NULL, NULL);
    BUG_ON(!fuzz_control.control);
    for (unsigned i = 0; i < CLIENTS; i++)
        fuzz_control.client[i] = -1;
    for (unsigned i = 0; i < MAX_OPS && in.len; i++)
        fuzz_control_op(&in);
    for (unsigned i = 0; i < TURNS; i++)
        fuzz_pc_poll(&fuzz_control.pc);
    for (unsigned i = 0; i < CLIENTS; i++)
        fuzz_control_leave(i);
    control_destroy(fuzz_control.control);
    return 0;
}
