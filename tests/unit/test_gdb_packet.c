#include "control/gdb_packet.h"

#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

/* The event of the last byte. */
static enum gdb_event push(struct gdb_parser *p, const char *bytes)
{
    enum gdb_event last = GDB_EV_NONE;

    for (; *bytes; bytes++)
        last = gdb_parser_push(p, (uint8_t)*bytes);
    return last;
}

static void test_packets(void **state)
{
    struct gdb_parser p;

    (void)state;
    gdb_parser_init(&p);
    assert_int_equal(push(&p, "$g#67"), GDB_EV_PACKET);
    assert_string_equal(p.data, "g");
    assert_int_equal(push(&p, "noise$m0,4#fd"), GDB_EV_PACKET);
    assert_string_equal(p.data, "m0,4");
    assert_int_equal(push(&p, "$#00"), GDB_EV_PACKET);
    assert_int_equal(p.len, 0);
    assert_int_equal(push(&p, "$g#68"), GDB_EV_BAD);
    assert_int_equal(push(&p, "$g#x7"), GDB_EV_BAD);
    assert_int_equal(push(&p, "$lost$g#67"), GDB_EV_PACKET);
    assert_string_equal(p.data, "g");
}

static void test_single_bytes(void **state)
{
    struct gdb_parser p;

    (void)state;
    gdb_parser_init(&p);
    assert_int_equal(push(&p, "+"), GDB_EV_ACK);
    assert_int_equal(push(&p, "-"), GDB_EV_NAK);
    assert_int_equal(push(&p, "\3"), GDB_EV_INTERRUPT);
    assert_int_equal(push(&p, "$\3+-"), GDB_EV_NONE); /* data */
}

static void test_escapes(void **state)
{
    struct gdb_parser p;

    (void)state;
    gdb_parser_init(&p);
    assert_int_equal(push(&p, "$}\3a#e1"), GDB_EV_PACKET);
    assert_int_equal(p.len, 2);
    assert_memory_equal(p.data, "#a", 2);
}

static void test_too_long(void **state)
{
    struct gdb_parser *p = malloc(sizeof(*p));

    (void)state;
    assert_non_null(p);
    gdb_parser_init(p);
    gdb_parser_push(p, '$');
    for (unsigned i = 0; i < 3 * GDB_PACKET_MAX; i++)
        assert_int_equal(gdb_parser_push(p, 'a'), GDB_EV_NONE);
    assert_int_equal(push(p, "#00"), GDB_EV_BAD);
    assert_int_equal(push(p, "$g#67"), GDB_EV_PACKET);
    free(p);
}

static void test_replies(void **state)
{
    struct gdb_reply *r = calloc(1, sizeof(*r));
    char out[GDB_FRAME_MAX];

    (void)state;
    assert_non_null(r);
    gdb_put(r, "OK");
    assert_int_equal(gdb_frame(r, out), 6);
    assert_memory_equal(out, "$OK#9a", 6);
    r->len = 0;
    gdb_put_hex(r, "\x01\xfe", 2);
    gdb_putf(r, "%x", 10);
    gdb_put_binary(r, "#*", 2);
    assert_memory_equal(r->data, "01fea}\3}\n", r->len);
    while (!r->overflow)
        gdb_put(r, "0123456789");
    assert_int_equal(gdb_frame(r, out), 7);
    assert_memory_equal(out, "$E07#ac", 7);
    free(r);
}

static void test_numbers(void **state)
{
    const char *p = "1f,", *none = ",", *most = "ffffffffffffffff:", *many = "10000000000000000";
    uint8_t bytes[2];
    uint64_t v;

    (void)state;
    assert_true(gdb_scan_hex_to(&p, &v, ','));
    assert_int_equal(v, 0x1f);
    assert_false(gdb_scan_hex(&none, &v));
    assert_true(gdb_scan_hex_to(&most, &v, ':'));
    assert_true(v == UINT64_MAX);
    assert_false(gdb_scan_hex(&many, &v));
    assert_true(gdb_scan_bytes("Ab01", bytes, 2));
    assert_memory_equal(bytes, "\xab\x01", 2);
    assert_false(gdb_scan_bytes("ab0", bytes, 2));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_packets), cmocka_unit_test(test_single_bytes),
        cmocka_unit_test(test_escapes), cmocka_unit_test(test_too_long),
        cmocka_unit_test(test_replies), cmocka_unit_test(test_numbers),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
