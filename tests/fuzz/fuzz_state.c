/*
 * fuzz_state.c: the state loader of the whole machine against bytes of anybody's making: a good stream
 * with patches, or nothing but the input. What was accepted must run, answer and save again, and the good
 * state must still load afterwards.
 *
 * Input: 1 and a stream; or 0, then {position, length, bytes}.
 */
#include "fuzz.h"

#include <stdio.h>

#include "fuzz_pc.h"
#include "vm/exit.h"

enum { FUZZ_STATE_ADVANCE_NS = 3000000, FUZZ_STATE_STEPS = 16 };

static struct fuzz_state {
    struct fuzz_pc pc;
    uint8_t *good, *bad;
    size_t len;
} fuzz_state;

static bool fuzz_state_load(struct vm *vm, const void *buf, size_t len, bool must_work)
{
    struct state s;
    int rc;

    state_init_load(&s, buf, len);
    rc = vm_state(vm, &s);
    BUG_ON(must_work && rc != 0);
    BUG_ON(rc && !*state_what(&s));
    state_fini(&s);
    return rc == 0;
}

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
    struct fuzz_state *f = &fuzz_state;
    struct state s;

    (void)argc;
    (void)argv;
    fuzz_pc_create(&f->pc);
    fuzz_pc_reset(&f->pc);
    state_init_save(&s);
    BUG_ON(vm_state(f->pc.vm, &s) != 0);
    f->len = s.len;
    f->good = malloc(s.len);
    f->bad = malloc(s.len);
    BUG_ON(!f->good || !f->bad);
    memcpy(f->good, s.buf, s.len);
    state_fini(&s);
    return 0;
}

static void fuzz_state_ports(struct vcpu *c)
{
    static const struct {
        uint16_t first, last;
    } ports[] = { { 0x20, 0x21 },   { 0x40, 0x43 },   { 0x60, 0x71 },
                  { 0x92, 0xa1 },   { 0x3f8, 0x3ff }, { 0x4d0, 0x4d1 },
                  { 0x505, 0x51b }, { 0x600, 0x60b }, { 0xcf8, 0xcff } };
    uint64_t val;

    for (size_t i = 0; i < ARRAY_SIZE(ports); i++)
        for (unsigned port = ports[i].first; port <= ports[i].last; port++)
            exit_pio(c, (uint16_t)port, 1, false, &val);
}

static void fuzz_state_mmio(struct vcpu *c)
{
    static const uint64_t chips[] = { 0xfec00000, 0xfed00000, 0xfed00100, 0xfee00000, 0xfee00300 };
    uint64_t val;

    for (size_t i = 0; i < ARRAY_SIZE(chips); i++)
        for (unsigned off = 0; off < 0x100; off += 0x10)
            exit_mmio(c, chips[i] + off, 4, false, &val);
}

/* The guest goes on: timers fire, registers are read, the processors take what is pending. */
static void fuzz_state_use(struct vm *vm)
{
    device_sync_all(vm->devices);
    clock_advance(vm->clock, FUZZ_STATE_ADVANCE_NS);
    fuzz_state_ports(vm->vcpu[0]);
    fuzz_state_mmio(vm->vcpu[1]);
    for (unsigned i = 0; i < FUZZ_STATE_STEPS; i++)
        fuzz_pc_step(&fuzz_state.pc, i % 2);
}

static void fuzz_state_go_on(struct fuzz_pc *pc)
{
    struct state s;

    fuzz_state_use(pc->vm);
    state_init_save(&s);
    if (vm_state(pc->vm, &s))
        fprintf(stderr, "saving: %s\n", state_what(&s));
    BUG_ON(state_error(&s) != 0);
    state_fini(&s);
    fuzz_pc_poll(pc);
    device_quiesce_all(pc->vm->devices);
}

/* A valid stream with patches. */
static void fuzz_state_spoil(struct fuzz_state *f, struct fuzz_input *in)
{
    memcpy(f->bad, f->good, f->len);
    while (in->len > 3) {
        size_t at = fuzz_u16(in) % f->len, n = fuzz_u8(in) % 16 + 1;

        fuzz_bytes(in, f->bad + at, min_u64(min_u64(n, f->len - at), in->len));
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    struct fuzz_input in = { data, len };
    struct fuzz_state *f = &fuzz_state;
    bool taken;

    if (fuzz_u8(&in) & 1) {
        taken = fuzz_state_load(f->pc.vm, in.p, in.len, false);
    } else {
        fuzz_state_spoil(f, &in);
        taken = fuzz_state_load(f->pc.vm, f->bad, f->len, false);
    }
    if (taken) /* else the machine is half loaded: only good for another load */
        fuzz_state_go_on(&f->pc);
    fuzz_state_load(f->pc.vm, f->good, f->len, true);
    device_sync_all(f->pc.vm->devices);
    return 0;
}
