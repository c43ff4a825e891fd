/*
 * remote.c: the commands that tell a running VM what to do: key, type, stop, reset, pause, resume.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "cmd/args.h"
#include "cmd/cmd.h"
#include "cmd/vms.h"

enum {
    REMOTE_WORDS_MAX = 4096,
    REMOTE_CHUNK = 4096, /* of text in a call */
    REMOTE_TEXT_MAX = MIB,
    REMOTE_STOP_S = 60,
    REMOTE_PRESS_MS = 10000, /* a guest that starts may miss the power button the first time */
};

/* --- keys --- */

/* Typed in pieces: a call has its limit. */
static int remote_type(struct vms_vm *vm, const char *text, size_t len, struct err *e)
{
    int rc = 0;

    while (!rc && len) {
        size_t n = len < REMOTE_CHUNK ? len : REMOTE_CHUNK;
        json_t *piece;

        while (n < len && n > 1 && ((uint8_t)text[n] & 0xc0) == 0x80)
            n--; /* not in the middle of a character */
        piece = json_stringn(text, n);
        if (!piece)
            return err_set(e, EINVAL, "the text is not valid UTF-8");
        rc = vms_call(vm, "type", json_pack("{s:o}", "text", piece), RPC_NO_LIMIT, NULL, e);
        text += n;
        len -= n;
    }
    return rc;
}

/* The words with spaces between, or what stdin has if there is one "-"; malloc'd. */
static char *remote_text(char **words, int n, bool enter, size_t *len, struct err *e)
{
    bool from_stdin = n == 1 && !strcmp(words[0], "-");
    char *text = malloc(REMOTE_TEXT_MAX + 2);

    *len = 0;
    if (!text)
        return err_oom(e);
    if (from_stdin)
        *len = fread(text, 1, REMOTE_TEXT_MAX + 1, stdin);
    for (int i = 0; !from_stdin && i < n && *len <= REMOTE_TEXT_MAX; i++)
        *len += (size_t)snprintf(text + *len, REMOTE_TEXT_MAX + 1 - *len, "%s%s", i ? " " : "",
                                 words[i]);
    if (*len > REMOTE_TEXT_MAX) {
        err_set(e, E2BIG, "the text is longer than a million characters");
        free(text);
        return NULL;
    }
    if (enter)
        text[(*len)++] = '\n';
    return text;
}

int cmd_type(int argc, char **argv)
{
    bool enter = false;
    const struct arg_option options[] = { { "--enter", .given = &enter } };
    struct err e = { 0 };
    struct vms_vm vm;
    char *text;
    size_t len;
    int n, rc = args_words(argc, argv, options, ARRAY_SIZE(options), 2, REMOTE_WORDS_MAX, &n, &e);

    if (rc)
        return args_failed(rc, &e);
    text = remote_text(argv + 2, n - 1, enter, &len, &e);
    if (!text)
        return cmd_fail(&e);
    rc = vms_connect(&vm, argv[1], &e);
    if (!rc) {
        rc = remote_type(&vm, text, len, &e);
        vms_close(&vm);
    }
    free(text);
    return rc ? vms_failed(rc, &e) : CMD_OK;
}

int cmd_key(int argc, char **argv)
{
    struct err e = { 0 };
    struct vms_vm vm;
    json_t *keys;
    int n, rc = args_words(argc, argv, NULL, 0, 2, REMOTE_WORDS_MAX, &n, &e);

    if (rc)
        return args_failed(rc, &e);
    rc = vms_connect(&vm, argv[1], &e);
    if (rc)
        return vms_failed(rc, &e);
    keys = json_array();
    for (int i = 2; i <= n; i++)
        json_array_append_new(keys, json_string(argv[i]));
    rc = vms_call(&vm, "key", json_pack("{s:o}", "keys", keys), RPC_NO_LIMIT, NULL, &e);
    vms_close(&vm);
    return rc ? vms_failed(rc, &e) : CMD_OK;
}

/* --- life --- */

/* A method without parameters, on the VM that argv names. */
static int remote_simple(int argc, char **argv, const char *method)
{
    struct err e = { 0 };
    struct vms_vm vm;
    int n, rc = args_words(argc, argv, NULL, 0, 1, 1, &n, &e);

    if (rc)
        return args_failed(rc, &e);
    rc = vms_connect(&vm, argv[1], &e);
    if (!rc) {
        rc = vms_call(&vm, method, NULL, VMS_TIMEOUT_MS, NULL, &e);
        vms_close(&vm);
    }
    return rc ? vms_failed(rc, &e) : CMD_OK;
}

int cmd_reset(int argc, char **argv)
{
    return remote_simple(argc, argv, "reset");
}

int cmd_pause(int argc, char **argv)
{
    return remote_simple(argc, argv, "pause");
}

int cmd_resume(int argc, char **argv)
{
    return remote_simple(argc, argv, "resume");
}

/* -ECONNRESET: it ended before it could answer, which is what was wanted. */
static int remote_ask_to_end(struct vms_vm *vm, const char *method, struct err *e)
{
    int rc = vms_call(vm, method, NULL, VMS_TIMEOUT_MS, NULL, e);

    return rc == -ECONNRESET ? 0 : rc;
}

static int remote_press_power(struct vms_vm *vm, int timeout_ms, struct err *e)
{
    int left = timeout_ms;

    for (;;) {
        int wait = left < REMOTE_PRESS_MS ? left : REMOTE_PRESS_MS;
        int rc = remote_ask_to_end(vm, "power-button", e);

        if (rc || !vms_wait_end(vm, wait))
            return rc;
        left -= wait;
        if (left <= 0)
            return err_set(e, ETIMEDOUT,
                           "%s has not ended within %d s of its power button: its system may not "
                           "listen to that; `ruche stop --now %s` ends it at once",
                           vm->name, timeout_ms / 1000, vm->name);
    }
}

static int remote_end_now(struct vms_vm *vm, int timeout_ms, struct err *e)
{
    int rc = remote_ask_to_end(vm, "quit", e);

    if (!rc && vms_wait_end(vm, timeout_ms))
        rc = err_set(e, ETIMEDOUT, "%s has not ended within %d s: its process is %d", vm->name,
                     timeout_ms / 1000, (int)rundir_holder(&vm->dir));
    return rc;
}

static int remote_seconds(const char *text, int *ms, struct err *e)
{
    char *end;
    long s = strtol(text, &end, 10);

    if (!*text || *end || s < 1 || s > 86400)
        return err_set(e, EINVAL, "--timeout %s: a number of seconds, 1 to 86400", text);
    *ms = (int)s * 1000;
    return 0;
}

int cmd_stop(int argc, char **argv)
{
    bool now = false;
    const char *timeout = NULL;
    const struct arg_option options[] = { { "--now", "--force", .given = &now },
                                          { "--timeout", "-t", .value = &timeout } };
    struct err e = { 0 };
    struct vms_vm vm;
    int n, timeout_ms = REMOTE_STOP_S * 1000,
           rc = args_words(argc, argv, options, ARRAY_SIZE(options), 1, 1, &n, &e);

    if (!rc && timeout)
        rc = remote_seconds(timeout, &timeout_ms, &e);
    if (rc)
        return args_failed(rc, &e);
    rc = vms_connect(&vm, argv[1], &e);
    if (!rc) {
        rc = now ? remote_end_now(&vm, timeout_ms, &e) : remote_press_power(&vm, timeout_ms, &e);
        vms_close(&vm);
    }
    return rc ? vms_failed(rc, &e) : CMD_OK;
}
