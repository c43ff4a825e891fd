/* The JSON-RPC server and its client, over a socket pair: what is answered, refused, kept waiting. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include "control/rpc_client.h"
#include "control/rpc_server.h"

struct fixture {
    struct loop *loop;
    struct rpc_server *server;
    int fd; /* the client's end */
    struct rpc_call *waiting;
    unsigned calls;
};

static void answer_sum(void *opaque, struct rpc_call *c, json_t *params)
{
    struct fixture *f = opaque;

    f->calls++;
    rpc_answer(c, json_integer(json_integer_value(json_object_get(params, "a")) +
                               json_integer_value(json_object_get(params, "b"))));
}

static void answer_later(void *opaque, struct rpc_call *c, json_t *params)
{
    (void)params;
    ((struct fixture *)opaque)->waiting = c;
}

static void answer_no(void *opaque, struct rpc_call *c, json_t *params)
{
    (void)opaque;
    (void)params;
    rpc_refuse(c, RPC_FAILED, "cannot %s", "do it");
}

/* Reads a byte through the descriptor that came beside the request. */
static void answer_passed(void *opaque, struct rpc_call *c, json_t *params)
{
    int fd = rpc_take_fd(c);
    char byte = '-';

    (void)opaque;
    (void)params;
    if (fd >= 0)
        assert_int_equal(pread(fd, &byte, 1, 0), 1);
    util_close(&fd);
    rpc_answer(c, json_integer(byte));
}

static const struct rpc_method methods[] = {
    { "later", "", "", answer_later },
    { "no", "", "", answer_no },
    { "passed", "", "", answer_passed },
    { "sum", "", "", answer_sum },
};

static int connect_client(struct fixture *f)
{
    int pair[2];

    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, pair), 0);
    assert_int_equal(rpc_server_adopt(f->server, pair[1]), 0);
    return pair[0];
}

static int set_up(void **state)
{
    struct fixture *f = calloc(1, sizeof(*f));

    f->loop = loop_create(NULL);
    f->server = rpc_server_create(f->loop, -1, methods, ARRAY_SIZE(methods), f, NULL);
    assert_non_null(f->server);
    f->fd = connect_client(f);
    *state = f;
    return 0;
}

static int tear_down(void **state)
{
    struct fixture *f = *state;

    rpc_server_destroy(f->server);
    loop_destroy(f->loop);
    close(f->fd);
    free(f);
    return 0;
}

static void put(struct fixture *f, int fd, const char *text)
{
    assert_int_equal(send(fd, text, strlen(text), 0), strlen(text));
    loop_poll(f->loop, 0);
}

/* What came back, as text; "" if nothing did. */
static const char *get(int fd)
{
    static char text[4096];
    ssize_t n = recv(fd, text, sizeof(text) - 1, 0);

    text[n > 0 ? n : 0] = '\0';
    return text;
}

static void check_reply(struct fixture *f, const char *request, const char *reply)
{
    put(f, f->fd, request);
    assert_string_equal(get(f->fd), reply);
}

static void check_code(struct fixture *f, const char *request, int code)
{
    char want[32];

    snprintf(want, sizeof(want), "\"code\":%d,", code);
    put(f, f->fd, request);
    if (!strstr(get(f->fd), want))
        fail_msg("%s: not %d", request, code);
}

static void test_answers(void **state)
{
    struct fixture *f = *state;

    check_reply(f,
                "{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"sum\",\"params\":{\"a\":2,\"b\":3}}\n",
                "{\"jsonrpc\":\"2.0\",\"result\":5,\"id\":1}\n");
    check_reply(f, "{\"jsonrpc\":\"2.0\",\"id\":\"x\",\"method\":\"sum\"}\r\n",
                "{\"jsonrpc\":\"2.0\",\"result\":0,\"id\":\"x\"}\n");
    check_reply(f, "{\"jsonrpc\":\"2.0\",\"id\":null,\"method\":\"no\"}\n",
                "{\"jsonrpc\":\"2.0\",\"error\":{\"code\":-32000,\"message\":\"cannot do "
                "it\"},\"id\":null}\n");
    check_reply(f, "{\"jsonrpc\":\"2.0\",\"method\":\"sum\"}\n\n", ""); /* a notification */
    assert_int_equal(f->calls, 3);
}

static void test_refusals(void **state)
{
    struct fixture *f = *state;

    check_code(f, "nonsense\n", RPC_PARSE_ERROR);
    check_code(f, "{\"jsonrpc\":\"2.0\",\"id\":1,\"id\":2,\"method\":\"sum\"}\n", RPC_PARSE_ERROR);
    check_code(f, "\xff\n", RPC_PARSE_ERROR);
    check_code(f, "[]\n", RPC_INVALID_REQUEST);
    check_code(f, "7\n", RPC_INVALID_REQUEST);
    check_code(f, "{}\n", RPC_INVALID_REQUEST);
    check_code(f, "{\"jsonrpc\":\"1.0\",\"id\":1,\"method\":\"sum\"}\n", RPC_INVALID_REQUEST);
    check_code(f, "{\"jsonrpc\":\"2.0\",\"id\":[],\"method\":\"sum\"}\n", RPC_INVALID_REQUEST);
    check_code(f, "{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":5}\n", RPC_INVALID_REQUEST);
    check_code(f, "{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"sum\",\"x\":1}\n",
               RPC_INVALID_REQUEST);
    check_code(f, "{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"sum\",\"params\":[1]}\n",
               RPC_INVALID_PARAMS);
    check_code(f, "{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"dance\"}\n", RPC_NO_METHOD);
    assert_int_equal(f->calls, 0);
}

static void test_pieces_and_crowds(void **state)
{
    struct fixture *f = *state;

    put(f, f->fd, "{\"jsonrpc\":\"2.0\",\"id\":1,");
    assert_string_equal(get(f->fd), "");
    put(f, f->fd, "\"method\":\"sum\"}\n{\"jsonrpc\":\"2.0\",\"id\":2,\"method\":\"sum\"}\n");
    assert_string_equal(get(f->fd), "{\"jsonrpc\":\"2.0\",\"result\":0,\"id\":1}\n"
                                    "{\"jsonrpc\":\"2.0\",\"result\":0,\"id\":2}\n");
}

static void test_one_waits_others_go_on(void **state)
{
    struct fixture *f = *state;
    int other = connect_client(f);

    put(f, f->fd,
        "{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"later\"}\n"
        "{\"jsonrpc\":\"2.0\",\"id\":2,\"method\":\"sum\"}\n");
    assert_string_equal(get(f->fd), "");
    put(f, other, "{\"jsonrpc\":\"2.0\",\"id\":7,\"method\":\"sum\"}\n");
    assert_string_equal(get(other), "{\"jsonrpc\":\"2.0\",\"result\":0,\"id\":7}\n");
    rpc_answer(f->waiting, json_true());
    assert_string_equal(get(f->fd), "{\"jsonrpc\":\"2.0\",\"result\":true,\"id\":1}\n"
                                    "{\"jsonrpc\":\"2.0\",\"result\":0,\"id\":2}\n");
    close(other);
}

static void test_client_leaves_while_waiting(void **state)
{
    struct fixture *f = *state;
    int other = connect_client(f);

    put(f, other, "{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"later\"}\n");
    close(other);
    loop_poll(f->loop, 0);
    rpc_answer(f->waiting, json_true()); /* for nobody */
    check_reply(f, "{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"sum\"}\n",
                "{\"jsonrpc\":\"2.0\",\"result\":0,\"id\":1}\n");
}

static void test_last_requests_of_a_half_closed_client(void **state)
{
    struct fixture *f = *state;

    assert_int_equal(send(f->fd, "{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"sum\"}\n", 41, 0), 41);
    assert_int_equal(shutdown(f->fd, SHUT_WR), 0);
    loop_poll(f->loop, 0);
    assert_string_equal(get(f->fd), "{\"jsonrpc\":\"2.0\",\"result\":0,\"id\":1}\n");
    assert_int_equal(recv(f->fd, (char[1]){ 0 }, 1, 0), 0);
}

static void test_too_long(void **state)
{
    struct fixture *f = *state;
    static char text[RPC_LINE_MAX];

    memset(text, ' ', sizeof(text));
    assert_int_equal(send(f->fd, text, sizeof(text), 0), sizeof(text));
    loop_poll(f->loop, 0);
    assert_non_null(strstr(get(f->fd), "at most 65535 bytes"));
    assert_int_equal(recv(f->fd, (char[1]){ 0 }, 1, 0), 0); /* and it is left */
}

static void test_end_refuses_who_waits(void **state)
{
    struct fixture *f = *state;

    put(f, f->fd, "{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"later\"}\n");
    rpc_server_destroy(f->server);
    f->server = NULL;
    assert_non_null(strstr(get(f->fd), "the VM has ended"));
}

static int file_of(char byte)
{
    int fd = memfd_create("passed", MFD_CLOEXEC);

    assert_true(fd >= 0);
    assert_int_equal(write(fd, &byte, 1), 1);
    return fd;
}

/* Sends both beside the text, and closes them here. */
static void put_with(int to, const char *text, int a, int b)
{
    const int fds[2] = { a, b };
    union {
        struct cmsghdr head;
        char bytes[CMSG_SPACE(sizeof(fds))];
    } control = { .head = { CMSG_LEN(sizeof(fds)), SOL_SOCKET, SCM_RIGHTS } };
    struct iovec iov = { (void *)(uintptr_t)text, strlen(text) };
    struct msghdr msg = { .msg_iov = &iov,
                          .msg_iovlen = 1,
                          .msg_control = control.bytes,
                          .msg_controllen = sizeof(control.bytes) };

    memcpy(CMSG_DATA(&control.head), fds, sizeof(fds));
    assert_int_equal(sendmsg(to, &msg, 0), (ssize_t)strlen(text));
    close(a);
    close(b);
}

/* A client may pass a descriptor. Of several the last counts, and none is left open. */
static void test_descriptors(void **state)
{
    static const char request[] = "{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"passed\"}\n";
    struct fixture *f = *state;
    int free_fd = dup(f->fd), again;

    close(free_fd);
    for (int i = 0; i < 3; i++) {
        put_with(f->fd, request, file_of('A'), file_of('B'));
        loop_poll(f->loop, 0);
        assert_string_equal(get(f->fd), "{\"jsonrpc\":\"2.0\",\"result\":66,\"id\":1}\n");
        check_reply(f, request, "{\"jsonrpc\":\"2.0\",\"result\":45,\"id\":1}\n");
    }
    put_with(f->fd, "\n", file_of('A'), file_of('B')); /* nobody asks for these */
    loop_poll(f->loop, 0);
    close(f->fd);
    loop_poll(f->loop, 0);
    again = f->fd = connect_client(f);
    assert_true(again <= free_fd);
}

static void test_client_passes(void **state)
{
    struct fixture *f = *state;
    struct rpc_client c;
    int fd = file_of('C');
    struct err e = { 0 };

    /* Nobody answers meanwhile: the request and what goes with it are sent all the same. */
    rpc_client_init(&c, f->fd);
    rpc_client_pass(&c, fd);
    assert_int_equal(rpc_client_call(&c, "passed", NULL, 1, NULL, &e), -ETIMEDOUT);
    loop_poll(f->loop, 0);
    assert_non_null(strstr(get(f->fd), "\"result\":67"));
    close(fd);
}

static void test_replies(void **state)
{
    json_t *result = NULL;
    struct err e = { 0 };
    const char *text = "{\"jsonrpc\":\"2.0\",\"result\":5,\"id\":3}";

    (void)state;
    assert_int_equal(rpc_reply_parse(text, strlen(text), 3, &result, &e), 0);
    assert_int_equal(json_integer_value(result), 5);
    json_decref(result);
    assert_int_equal(rpc_reply_parse(text, strlen(text), 4, &result, &e), -EPROTO);
    text = "{\"jsonrpc\":\"2.0\",\"error\":{\"code\":-32000,\"message\":\"no\"},\"id\":3}";
    e = (struct err){ 0 };
    assert_int_equal(rpc_reply_parse(text, strlen(text), 3, &result, &e), RPC_FAILED);
    assert_string_equal(e.msg, "no");
    assert_int_equal(rpc_reply_parse("junk", 4, 3, &result, &e), -EPROTO);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_answers, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_refusals, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_pieces_and_crowds, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_one_waits_others_go_on, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_client_leaves_while_waiting, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_last_requests_of_a_half_closed_client, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(test_too_long, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_end_refuses_who_waits, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_descriptors, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_client_passes, set_up, tear_down),
        cmocka_unit_test(test_replies),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
