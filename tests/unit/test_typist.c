/* What is pressed for a text or a combination, in which order, and that it waits for the guest. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "control/typist.h"

struct fixture {
    struct loop *loop;
    struct rpc_server *server;
    struct typist *typist;
    int fd;
    int state; /* what key() gives */
    char seen[512];
};

static int keyboard_key(void *opaque, uint8_t key, bool down)
{
    struct fixture *f = opaque;
    size_t at = strlen(f->seen);

    if (!f->state)
        snprintf(f->seen + at, sizeof(f->seen) - at, "%c%02x ", down ? '+' : '-', key);
    return f->state;
}

static bool keyboard_running(void *opaque)
{
    (void)opaque;
    return true;
}

static void call_type(void *opaque, struct rpc_call *c, json_t *params)
{
    typist_type(((struct fixture *)opaque)->typist, c,
                json_string_value(json_object_get(params, "text")));
}

static void call_key(void *opaque, struct rpc_call *c, json_t *params)
{
    typist_press(((struct fixture *)opaque)->typist, c, json_object_get(params, "keys"));
}

static const struct rpc_method methods[] = { { "type", "", "", call_type },
                                             { "key", "", "", call_key } };

static int set_up(void **state)
{
    struct fixture *f = calloc(1, sizeof(*f));
    struct typist_keyboard k = { f, keyboard_key, keyboard_running };
    int pair[2];

    f->loop = loop_create(NULL);
    f->typist = typist_create(f->loop, &k, NULL);
    f->server = rpc_server_create(f->loop, -1, methods, ARRAY_SIZE(methods), f, NULL);
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, pair), 0);
    assert_int_equal(rpc_server_adopt(f->server, pair[1]), 0);
    f->fd = pair[0];
    *state = f;
    return 0;
}

static int tear_down(void **state)
{
    struct fixture *f = *state;

    typist_destroy(f->typist);
    rpc_server_destroy(f->server);
    loop_destroy(f->loop);
    close(f->fd);
    free(f);
    return 0;
}

/* Sends a request and turns the loop until its answer is there. */
static const char *ask(struct fixture *f, const char *method, const char *params)
{
    static char text[4096];
    ssize_t n;
    int len = snprintf(text, sizeof(text),
                       "{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"%s\",\"params\":%s}\n", method,
                       params);

    assert_int_equal(send(f->fd, text, (size_t)len, 0), len);
    do
        loop_poll(f->loop, 100);
    while ((n = recv(f->fd, text, sizeof(text) - 1, 0)) < 0);
    text[n] = '\0';
    return text;
}

static void test_text(void **state)
{
    struct fixture *f = *state;

    assert_non_null(strstr(ask(f, "type", "{\"text\":\"aB \\n\"}"), "result"));
    assert_string_equal(f->seen, "+1e -1e +2a +30 -30 -2a +39 -39 +1c -1c ");
}

static void test_combinations(void **state)
{
    struct fixture *f = *state;

    assert_non_null(
        strstr(ask(f, "key", "{\"keys\":[\"ctrl-alt-del\",\"F2\",\"ctrl--\",\"A\"]}"), "result"));
    assert_string_equal(f->seen,
                        "+1d +38 +d3 -d3 -38 -1d +3c -3c +1d +0c -0c -1d +2a +1e -1e -2a ");
}

static void test_what_no_key_bears(void **state)
{
    struct fixture *f = *state;

    assert_non_null(strstr(ask(f, "type", "{\"text\":\"a\\u00e9\"}"), "character 2"));
    assert_non_null(strstr(ask(f, "key", "{\"keys\":[\"ctrl-alt-dle\"]}"), "no key \\\"dle\\\""));
    assert_non_null(strstr(ask(f, "key", "{\"keys\":[\"\"]}"), "error"));
    assert_non_null(strstr(ask(f, "key", "{\"keys\":[\"ctrl-\"]}"), "error"));
    assert_non_null(strstr(ask(f, "key", "{\"keys\":[5]}"), "error"));
    assert_non_null(strstr(ask(f, "key", "{\"keys\":[\"a-b-c-d-e-f-g-h-i\"]}"), "at most 8"));
    assert_string_equal(f->seen, ""); /* nothing of what is wrong is typed */
}

static void test_no_keyboard(void **state)
{
    struct fixture *f = *state;

    f->state = -ENODEV;
    assert_non_null(strstr(ask(f, "type", "{\"text\":\"a\"}"), "no keyboard"));
}

static void test_waits_for_the_guest(void **state)
{
    struct fixture *f = *state;
    const char *request =
        "{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"type\",\"params\":{\"text\":\"a\"}}\n";

    f->state = -EAGAIN;
    assert_int_equal(send(f->fd, request, strlen(request), 0), strlen(request));
    for (unsigned i = 0; i < 5; i++)
        loop_poll(f->loop, 20);
    assert_string_equal(f->seen, "");
    f->state = 0;
    ask(f, "type", "{\"text\":\"b\"}");
    while (!strstr(f->seen, "-30"))
        loop_poll(f->loop, 20);
    assert_string_equal(f->seen, "+1e -1e +30 -30 ");
}

/* Every character that a US keyboard has goes out with a key of its own. */
static void test_all_characters(void **state)
{
    struct fixture *f = *state;

    (void)state;
    for (char c = ' '; c <= '~'; c++) {
        char params[64];

        if (c == '"' || c == '\\')
            snprintf(params, sizeof(params), "{\"text\":\"\\%c\"}", c);
        else
            snprintf(params, sizeof(params), "{\"text\":\"%c\"}", c);
        f->seen[0] = '\0';
        assert_non_null(strstr(ask(f, "type", params), "result"));
        assert_int_equal(strchr("~!@#$%^&*()_+{}|:\"<>?", c) || (c >= 'A' && c <= 'Z'),
                         strstr(f->seen, "+2a ") != NULL);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_text, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_combinations, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_what_no_key_bears, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_no_keyboard, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_waits_for_the_guest, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_all_characters, set_up, tear_down),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
