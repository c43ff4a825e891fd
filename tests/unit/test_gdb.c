/*
 * The debugger's server, packet by packet, without sockets: a VM of two vCPUs under bt whose threads do not
 * run; run() here does what they would.
 */
#include "btvm.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "accel/bt/bt_sys.h"
#include "control/gdb_priv.h"

struct fixture {
    struct vm_config cfg;
    struct vm *vm;
    struct ram_region ram;
    struct gdb *g;
    char answer[GDB_FRAME_MAX];
};

static int setup(void **state)
{
    struct fixture *f = calloc(1, sizeof(*f));
    struct err e = { 0 };

    assert_non_null(f);
    config_init(&f->cfg);
    f->cfg.cpus = 2;
    f->cfg.memory = BTVM_RAM;
    assert_int_equal(vm_create(&f->vm, &f->cfg, &accel_bt, &e), 0);
    assert_int_equal(ram_alloc(&f->ram, "low", 0, BTVM_RAM, &e), 0);
    assert_int_equal(physmap_add(&f->vm->mem, &f->ram), 0);
    assert_int_equal(vm_create_vcpus(f->vm, &e), 0);
    f->g = gdb_new(f->vm, true, &e);
    assert_non_null(f->g);
    gdb_attach(f->g);
    f->g->no_ack = true;
    *state = f;
    return 0;
}

static int teardown(void **state)
{
    struct fixture *f = *state;

    gdb_destroy(f->g);
    vm_destroy(f->vm);
    ram_free(&f->ram);
    config_fini(&f->cfg);
    free(f);
    return 0;
}

/* What the server has to say: the data of its last frame; "" if nothing. */
static const char *heard(struct fixture *f)
{
    struct gdb_parser *p = calloc(1, sizeof(*p));

    assert_non_null(p);
    f->answer[0] = '\0';
    for (size_t i = 0; i < f->g->tx_len; i++)
        if (gdb_parser_push(p, (uint8_t)f->g->tx[i]) == GDB_EV_PACKET)
            memcpy(f->answer, p->data, p->len + 1);
    f->g->tx_len = 0;
    free(p);
    return f->answer;
}

static const char *ask_bytes(struct fixture *f, const char *data, size_t len)
{
    struct gdb_reply *r = calloc(1, sizeof(*r));
    char frame[GDB_FRAME_MAX];
    size_t n;

    assert_non_null(r);
    gdb_put_binary(r, data, len);
    n = gdb_frame(r, frame);
    free(r);
    assert_int_equal(gdb_feed(f->g, (const uint8_t *)frame, n), n);
    return heard(f);
}

static const char *ask(struct fixture *f, const char *packet)
{
    return ask_bytes(f, packet, strlen(packet));
}

#define ASK(f, packet, answer) assert_string_equal(ask(f, packet), answer)

/* Protected mode without paging, at BTVM_CODE. */
static void put_cpu(struct fixture *f, unsigned cpu)
{
    struct btvm t = { .vm = f->vm, .ram = f->ram };

    btvm_mode32(&t);
    t.s.mp_state = X86_MP_RUNNING;
    assert_int_equal(vcpu_set_state(f->vm->vcpu[cpu], &t.s), 0);
    f->g->state_valid = false;
}

static void put_code(struct fixture *f, const char *hex)
{
    char packet[128];

    put_cpu(f, 0);
    snprintf(packet, sizeof(packet), "M%x,%zx:%s", BTVM_CODE, strlen(hex) / 2, hex);
    ASK(f, packet, "OK");
}

/* As the vCPU's thread until it has something to say. */
static void run(struct fixture *f, unsigned cpu)
{
    struct vcpu *v = f->vm->vcpu[cpu];
    enum run_exit why;

    do
        why = accel_bt.run(v);
    while (why == RUN_KICKED);
    assert_int_equal(why, RUN_DEBUG);
    f->g->debugger.stopped(&f->g->debugger, v);
}

static const char *run_and_hear(struct fixture *f, unsigned cpu)
{
    run(f, cpu);
    loop_poll(f->vm->loop, 0);
    return heard(f);
}

static void test_hello(void **state)
{
    struct fixture *f = *state;

    f->g->no_ack = false;
    assert_int_equal(gdb_feed(f->g, (const uint8_t *)"$?#3f", 5), 5);
    assert_memory_equal(f->g->tx, "+$T05", 5);
    f->g->tx_len = 0;
    assert_int_equal(gdb_feed(f->g, (const uint8_t *)"-", 1), 1); /* again */
    assert_memory_equal(f->g->tx, "$T05", 4);
    f->g->tx_len = 0;
    gdb_feed(f->g, (const uint8_t *)"$?#00", 5);
    assert_memory_equal(f->g->tx, "-", 1);
    f->g->tx_len = 0;
    assert_non_null(strstr(ask(f, "qSupported:swbreak+;hwbreak+"), "PacketSize=4000"));
    ASK(f, "QStartNoAckMode", "OK");
    ASK(f, "vMustReplyEmpty", "");
    ASK(f, "qCRC:0,1", "");
    ASK(f, "qAttached", "1");
    assert_true(strlen(ask(f, "qXfer:features:read:target.xml:0,ffb")) > 0xf00);
    ASK(f, "qXfer:features:read:target.xml:fffff,10", "E16");
    ASK(f, "qXfer:features:read:other.xml:0,10", "E00");
    ASK(f, "vCont?", "vCont;c;C;s;S");
}

static void test_threads(void **state)
{
    struct fixture *f = *state;

    ASK(f, "qfThreadInfo", "m1,2");
    ASK(f, "qsThreadInfo", "l");
    ASK(f, "T2", "OK");
    ASK(f, "T3", "E02");
    ASK(f, "Hg2", "OK");
    ASK(f, "qC", "QC2");
    ASK(f, "Hg0", "OK");
    ASK(f, "qC", "QC1");
    ASK(f, "Hg3", "E16");
    ASK(f, "Hg", "E16");
    ASK(f, "H", "E16");
    ASK(f, "Hc-1", "OK");
    assert_memory_equal(ask(f, "qThreadExtraInfo,2"), "435055", 6); /* "CPU" */
    ASK(f, "qThreadExtraInfo,9", "E02");
}

static void test_registers(void **state)
{
    struct fixture *f = *state;
    char all[GDB_FRAME_MAX] = "G";

    put_cpu(f, 0);
    ASK(f, "p10", "0000010000000000");
    ASK(f, "P0=efcdab8967452301", "OK");
    ASK(f, "p0", "efcdab8967452301");
    ASK(f, "p7f", "E16");
    ASK(f, "P0=ef", "E16");
    ASK(f, "P3c=ffffffffffffffff", "E16"); /* cr0: no such processor */
    ASK(f, "p3c", "3100000000000000");
    snprintf(all + 1, sizeof(all) - 1, "%s", ask(f, "g"));
    assert_memory_equal(all + 1, "efcdab8967452301", 16);
    memcpy(all + 1, "1100000000000000", 16);
    ASK(f, all, "OK");
    ASK(f, "p0", "1100000000000000");
    ASK(f, "G11", "E16");
    ASK(f, "Hg2", "OK");
    ASK(f, "p10", "f0ff000000000000");
}

static void test_memory(void **state)
{
    struct fixture *f = *state;

    put_cpu(f, 0);
    ASK(f, "M20000,3:010203", "OK");
    ASK(f, "m20001,2", "0203");
    assert_string_equal(ask_bytes(f, "X20001,2:#$", 11), "OK");
    ASK(f, "m20000,4", "01232400");
    ASK(f, "X20000,0:", "OK");
    ASK(f, "X20000,5:ab", "E16");
    ASK(f, "M20000,2:01", "E16");
    ASK(f, "M20000,1:0x", "E16");
    ASK(f, "mff000000,4", "E0e");
    ASK(f, "m3ffffe,8", "0000"); /* what there is up to the end of RAM */
    ASK(f, "m3fffffff,ffffffffffffffff", "E0e");
    ASK(f, "m0", "E16");
    ASK(f, "qRcmd,6d656d6f727920706879736963616c", f->answer); /* memory physical */
    ASK(f, "m20000,1", "01");
}

static void test_break_and_step(void **state)
{
    struct fixture *f = *state;

    ask(f, "qSupported:swbreak+;hwbreak+");
    put_code(f, "404040400f0b"); /* inc %eax four times */
    ASK(f, "Z0,10002,1", "OK");
    ASK(f, "Z0,10002,1", "OK"); /* sent again */
    ASK(f, "m10002,1", "40");
    ASK(f, "vCont;c", "");
    assert_false(f->vm->paused);
    assert_string_equal(run_and_hear(f, 0), "T05thread:1;swbreak:;");
    assert_true(f->vm->paused && f->vm->held);
    ASK(f, "p0", "0200000000000000");
    ASK(f, "z0,10002,1", "OK");
    ASK(f, "z0,10002,1", "E02");
    ASK(f, "vCont;s:1", "");
    assert_true(f->vm->vcpu[1]->debug.held && !f->vm->vcpu[0]->debug.held);
    assert_string_equal(run_and_hear(f, 0), "T05thread:1;");
    ASK(f, "p10", "0300010000000000");
    ASK(f, "Z1,10003,1", "OK");
    ASK(f, "vCont;c", "");
    assert_string_equal(run_and_hear(f, 0), "T05thread:1;hwbreak:;");
}

/* Both hit it before all of them stood: the second is told when it would go on. */
static void test_watch(void **state)
{
    struct fixture *f = *state;

    put_code(f, "c6050000020001a200000200900f0b"); /* movb $1, 0x20000; mov %al, 0x20000; nop */
    put_cpu(f, 1);
    ASK(f, "Z2,20000,4", "OK");
    ASK(f, "vCont;c", "");
    run(f, 0);
    run(f, 1);
    loop_poll(f->vm->loop, 0);
    assert_string_equal(heard(f), "T05thread:1;watch:20000;");
    ASK(f, "p10", "0700010000000000");
    assert_string_equal(ask(f, "vCont;s:1"), "");
    assert_string_equal(run_and_hear(f, 0), "T05thread:1;watch:20000;");
    ASK(f, "vCont;c", "T05thread:2;watch:20000;");
    assert_true(f->vm->paused);
    ASK(f, "Z3,fffffffffffffffc,8", "E16");
    ASK(f, "Z4,0,0", "E16");
    ASK(f, "Z5,0,1", "E16");
    ASK(f, "Z2,0", "E16");
}

static void test_too_many_points(void **state)
{
    struct fixture *f = *state;
    char packet[32];

    for (unsigned i = 0; i < DEBUG_POINTS_MAX; i++) {
        snprintf(packet, sizeof(packet), "Z0,%x,1", i);
        ASK(f, packet, "OK");
    }
    ASK(f, "Z0,1000,1", "E1c");
}

static void test_interrupt_and_bad_actions(void **state)
{
    struct fixture *f = *state;

    put_code(f, "ebfe");
    ASK(f, "vCont;x", "E16");
    ASK(f, "vCont;c;", "E16");
    ASK(f, "vCont;", "E16");
    ASK(f, "vCont;c:3", "E16");
    ASK(f, "vCont;C", "E16");
    assert_true(f->vm->paused);
    ASK(f, "vCont;C05:1;s:-1", "");
    assert_false(f->vm->vcpu[0]->debug.step);
    assert_true(f->vm->vcpu[1]->debug.step);
    ASK(f, "g", ""); /* nobody listens while the guest runs */
    assert_int_equal(gdb_feed(f->g, (const uint8_t *)"\3", 1), 1);
    assert_string_equal(heard(f), "T02thread:1;");
    ASK(f, "c", "");
    gdb_feed(f->g, (const uint8_t *)"\3", 1);
    assert_string_equal(heard(f), "T02thread:1;");
}

static void test_detach_and_kill(void **state)
{
    struct fixture *f = *state;

    put_code(f, "4040");
    ASK(f, "Z0,10001,1", "OK");
    ASK(f, "D", "OK");
    assert_false(f->vm->paused || f->vm->held);
    assert_false(bt_debugged(f->vm->vcpu[0]->accel));
    gdb_leave(f->g);
    assert_false(f->vm->paused);
    gdb_attach(f->g);
    f->g->no_ack = true;
    assert_true(f->vm->paused);
    ASK(f, "k", "");
    assert_int_equal(f->vm->end, VM_END_POWEROFF);
}

static void test_monitor(void **state)
{
    static const char *const commands[] = {
        "help",      "info",   "registers",          "translate 0x1000",
        "translate", "memory", "step-interrupts on", "nmi",
        "what",      ""
    };
    struct fixture *f = *state;

    for (size_t i = 0; i < ARRAY_SIZE(commands); i++) {
        char packet[128] = "qRcmd,";

        for (size_t c = 0; commands[i][c]; c++)
            snprintf(packet + 6 + 2 * c, 3, "%02x", (uint8_t)commands[i][c]);
        assert_true(strlen(ask(f, packet)) > 10);
    }
    ASK(f, "qRcmd,6", f->answer);
    assert_true(f->g->step_irqs);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_hello, setup, teardown),
        cmocka_unit_test_setup_teardown(test_threads, setup, teardown),
        cmocka_unit_test_setup_teardown(test_registers, setup, teardown),
        cmocka_unit_test_setup_teardown(test_memory, setup, teardown),
        cmocka_unit_test_setup_teardown(test_break_and_step, setup, teardown),
        cmocka_unit_test_setup_teardown(test_watch, setup, teardown),
        cmocka_unit_test_setup_teardown(test_too_many_points, setup, teardown),
        cmocka_unit_test_setup_teardown(test_interrupt_and_bad_actions, setup, teardown),
        cmocka_unit_test_setup_teardown(test_detach_and_kill, setup, teardown),
        cmocka_unit_test_setup_teardown(test_monitor, setup, teardown),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
