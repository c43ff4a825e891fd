/*
 * fuzz_gdb.c: a debugger that sends anything, in any order, in front of a VM of two vCPUs whose memory holds
 * a little code. A vCPU that is to make a step makes it; one that is to go on would have no end.
 *
 * Input: {operation, operands}: raw bytes; a packet with a good checksum; a packet from the table of those
 * that there are, with a tail; the guest's turn.
 */
#include "fuzz.h"

#include <stdio.h>

#include "btvm.h"
#include "control/gdb_priv.h"

enum { OP_RAW, OP_PACKET, OP_KNOWN, OP_RUN, OPS };
enum { STEPS = 64, TEXT_MAX = 512 };

static const char *const fuzz_gdb_known[] = {
    "?",
    "D",
    "G",
    "Hg",
    "Hc",
    "M20000,",
    "P",
    "QStartNoAckMode",
    "T",
    "X20000,",
    "Z0,1000",
    "Z1,1000",
    "Z2,20000,",
    "Z3,20000,",
    "Z4,20000,",
    "c",
    "g",
    "k",
    "m",
    "p",
    "qAttached",
    "qC",
    "qRcmd,",
    "qSupported:",
    "qThreadExtraInfo,",
    "qXfer:features:read:target.xml:",
    "qfThreadInfo",
    "qsThreadInfo",
    "s",
    "vCont;",
    "vCont?",
    "z0,1000",
    "z2,20000,",
};

struct fuzz_gdb {
    struct vm_config cfg;
    struct vm *vm;
    struct ram_region ram;
    struct gdb *g;
};

/* inc %eax; mov %eax, 0x20000; nop; int3; jmp to the start */
static const uint8_t fuzz_gdb_code[] = { 0x40, 0xa3, 0, 0, 2, 0, 0x90, 0xcc, 0xeb, 0xf6 };

static struct fuzz_gdb *fuzz_gdb; /* one for all inputs: what they share begins anew each time */

static void fuzz_gdb_create(void)
{
    struct fuzz_gdb *f = calloc(1, sizeof(*f));
    struct err e = { 0 };

    BUG_ON(!f);
    config_init(&f->cfg);
    f->cfg.cpus = 2;
    f->cfg.memory = BTVM_RAM;
    BUG_ON(vm_create(&f->vm, &f->cfg, &accel_bt, &e) != 0);
    BUG_ON(ram_alloc(&f->ram, "low", 0, BTVM_RAM, &e) != 0);
    BUG_ON(physmap_add(&f->vm->mem, &f->ram) != 0);
    BUG_ON(vm_create_vcpus(f->vm, &e) != 0);
    fuzz_gdb = f;
}

static void fuzz_gdb_begin(struct fuzz_gdb *f)
{
    struct err e = { 0 };

    memset(f->ram.hva, 0, BTVM_RAM / 16);
    memcpy(f->ram.hva + PAGE_SIZE, fuzz_gdb_code, sizeof(fuzz_gdb_code));
    bt_code_written(f->vm, 0, BTVM_RAM);
    for (unsigned i = 0; i < f->vm->nvcpus; i++) {
        struct btvm t = { .vm = f->vm, .ram = f->ram };

        btvm_mode32(&t);
        t.s.mp_state = X86_MP_RUNNING;
        t.s.rip = PAGE_SIZE;
        BUG_ON(vcpu_set_state(f->vm->vcpu[i], &t.s) != 0);
    }
    f->g = gdb_new(f->vm, true, &e);
    BUG_ON(!f->g);
    gdb_attach(f->g);
}

static void fuzz_gdb_end(struct fuzz_gdb *f)
{
    gdb_destroy(f->g);
    vm_pause(f->vm);
}

/* What is answered is a frame, or acknowledgements. */
static void fuzz_gdb_feed(struct fuzz_gdb *f, const uint8_t *bytes, size_t n)
{
    while (n) {
        size_t taken = gdb_feed(f->g, bytes, n);

        BUG_ON(f->g->tx_failed || (!taken && !f->g->tx_len));
        BUG_ON(f->g->tx_len && !strchr("+-$", f->g->tx[0]));
        f->g->tx_len = 0;
        bytes += taken;
        n -= taken;
    }
}

static void fuzz_gdb_packet(struct fuzz_gdb *f, const char *name, struct fuzz_input *in)
{
    static const char digits[] = "0123456789abcdef";
    uint8_t packet[TEXT_MAX + 64] = "$", sum = 0;
    size_t n = 1 + (size_t)snprintf((char *)packet + 1, 60, "%s", name);
    size_t tail = fuzz_u8(in);

    fuzz_bytes(in, packet + n, tail);
    n += tail;
    for (size_t i = 1; i < n; i++) {
        if (packet[i] == '#' || packet[i] == '$')
            packet[i] = ',';
        sum = (uint8_t)(sum + packet[i]);
    }
    packet[n++] = '#';
    packet[n++] = (uint8_t)digits[sum >> 4];
    packet[n++] = (uint8_t)digits[sum & 15];
    fuzz_gdb_feed(f, packet, n);
}

static void fuzz_gdb_run(struct fuzz_gdb *f)
{
    for (unsigned i = 0; f->g->running && i < f->vm->nvcpus; i++) {
        struct vcpu *v = f->vm->vcpu[i];
        enum run_exit why;

        if (v->debug.held || !v->debug.step)
            continue;
        why = accel_bt.run(v);
        if (why == RUN_SHUTDOWN)
            v->debug.stop.why = DEBUG_STOP_SHUTDOWN;
        if (why == RUN_DEBUG || why == RUN_SHUTDOWN)
            f->g->debugger.stopped(&f->g->debugger, v);
    }
    loop_poll(f->vm->loop, 0);
    f->g->tx_len = 0;
}

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
    (void)argc;
    (void)argv;
    fuzz_confine();
    fuzz_signals_save();
    fuzz_gdb_create();
    fuzz_signals_chain();
    return 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    struct fuzz_input in = { data, len };
    struct fuzz_gdb *f = fuzz_gdb;
    uint8_t raw[TEXT_MAX];
    size_t n;

    fuzz_gdb_begin(f);
    for (unsigned i = 0; in.len && i < STEPS; i++) {
        uint8_t op = fuzz_u8(&in);

        switch (op % OPS) {
        case OP_RAW:
            n = fuzz_u8(&in);
            fuzz_bytes(&in, raw, n);
            fuzz_gdb_feed(f, raw, n);
            break;
        case OP_PACKET:
            fuzz_gdb_packet(f, "", &in);
            break;
        case OP_KNOWN:
            fuzz_gdb_packet(f, fuzz_gdb_known[(op / OPS) % ARRAY_SIZE(fuzz_gdb_known)], &in);
            break;
        default:
            fuzz_gdb_run(f);
            break;
        }
    }
    fuzz_gdb_end(f);
    return 0;
}
