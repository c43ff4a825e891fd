/*
 * diff_host.c: the oracle: instructions on the host CPU, in a child process, so that a bad one ends only
 * that. Registers are loaded from and stored to diff_host_ctx; the instruction is followed by a jump back;
 * a fault comes back through its signal handler, which edits the context.
 */
#include "diff.h"

#include <cpuid.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <ucontext.h>
#include <unistd.h>

#include "diff_ctx.h"

enum { USER32_CS = 0x23, USER_DS = 0x2b, USER_CS = 0x33 }; /* Linux's selectors */

/* What diff_enter.S and the signal handler work on: they have no arguments. */
struct diff_host_ctx {
    struct diff_regs regs;
    uint64_t host_rsp;
    uint64_t mask;
    uint32_t far_offset; /* far pointer to the instruction */
    uint16_t far_selector;
    _Alignas(64) uint8_t init[DIFF_XSAVE]; /* XRSTOR image: everything in its initial state */
    volatile int trap;
    volatile uint32_t error;
    volatile uint64_t cr2;
};
extern struct diff_host_ctx diff_host_ctx;
struct diff_host_ctx diff_host_ctx;
void diff_host_enter(void);
extern const char diff_host_exit[], diff_host_exit_fp[];

_Static_assert(offsetof(struct diff_host_ctx, regs.gpr) == DIFF_CTX_GPR, "layout");
_Static_assert(offsetof(struct diff_host_ctx, regs.rflags) == DIFF_CTX_RFLAGS, "layout");
_Static_assert(offsetof(struct diff_host_ctx, host_rsp) == DIFF_CTX_HOST, "layout");
_Static_assert(offsetof(struct diff_host_ctx, mask) == DIFF_CTX_MASK, "layout");
_Static_assert(offsetof(struct diff_host_ctx, far_offset) == DIFF_CTX_FAR, "layout");
_Static_assert(offsetof(struct diff_host_ctx, init) == DIFF_CTX_INIT, "layout");

struct diff_host_share {
    struct diff_case c[DIFF_BATCH];
    struct diff_result r[DIFF_BATCH];
    struct diff_program p;
    volatile unsigned at;
};

static struct {
    struct diff_host_share *share;
    pid_t pid;
    int to, from;
} host = { .to = -1, .from = -1 };

uint64_t diff_host_mask(void)
{
    uint32_t lo, hi;

    __asm__("xgetbv" : "=a"(lo), "=d"(hi) : "c"(0));
    return (lo | (uint64_t)hi << 32) &
           (XCR0_X87 | XCR0_SSE | XCR0_AVX | XCR0_OPMASK | XCR0_ZMM_HI256 | XCR0_HI16_ZMM);
}

static void diff_host_signal(int sig, siginfo_t *si, void *context)
{
    static const int order[16] = { REG_RAX, REG_RCX, REG_RDX, REG_RBX, REG_RSP, REG_RBP,
                                   REG_RSI, REG_RDI, REG_R8,  REG_R9,  REG_R10, REG_R11,
                                   REG_R12, REG_R13, REG_R14, REG_R15 };
    greg_t *g = ((ucontext_t *)context)->uc_mcontext.gregs;
    struct diff_host_ctx *x = &diff_host_ctx;
    uint64_t rip = (uint64_t)g[REG_RIP];

    (void)si;
    if (sig == SIGALRM && (rip < DIFF_CODE || rip >= DIFF_CODE + DIFF_CODE_LEN))
        return; /* on its way out */
    if (rip < DIFF_CODE || rip >= DIFF_CODE + DIFF_CODE_LEN) {
        signal(sig, SIG_DFL);
        return;
    }
    for (unsigned i = 0; i < 16; i++)
        x->regs.gpr[i] = (uint64_t)g[order[i]];
    x->regs.rip = rip;
    x->regs.rflags = (uint64_t)g[REG_EFL];
    x->trap = sig == SIGALRM ? DIFF_TIMEOUT : (int)g[REG_TRAPNO];
    x->error = (uint32_t)g[REG_ERR];
    x->cr2 = (uint64_t)g[REG_CR2];
    g[REG_RIP] = (greg_t)(uintptr_t)diff_host_exit_fp;
    g[REG_RSP] = (greg_t)x->host_rsp;
    g[REG_CSGSFS] = (g[REG_CSGSFS] & ~0xffffll) | USER_CS;
    g[REG_EFL] = 0x202;
}

/* What follows the instruction: back to 64-bit code, and from there to diff_host_exit. */
static void diff_host_way_back(uint8_t *at, bool code32)
{
    static const uint8_t jump[] = { 0xff, 0x25, 0, 0, 0, 0 }; /* jmp [rip] */
    uintptr_t back = (uintptr_t)diff_host_exit;

    if (code32) {
        const uint32_t to = (uint32_t)(uintptr_t)at + 7;
        const uint16_t selector = USER_CS;

        *at++ = 0xea; /* jmp far */
        memcpy(at, &to, sizeof(to));
        memcpy(at + sizeof(to), &selector, sizeof(selector));
        at += sizeof(to) + sizeof(selector);
    }
    memcpy(at, jump, sizeof(jump));
    memcpy(at + sizeof(jump), &back, sizeof(back));
}

/* From rip until diff_host_exit or a fault. Code and data are in place. */
static void diff_host_go(const struct diff_regs *regs, uint64_t rip, bool code32,
                         struct diff_result *r)
{
    struct diff_host_ctx *x = &diff_host_ctx;
    uint8_t *data = (uint8_t *)(uintptr_t)DIFF_DATA;

    mprotect(data + DIFF_RW, PAGE_SIZE, PROT_READ);
    x->regs = *regs;
    x->far_offset = (uint32_t)rip;
    x->far_selector = code32 ? USER32_CS : USER_CS;
    x->trap = -1;
    x->error = 0;
    x->cr2 = 0;
    diff_host_enter();
    r->regs = x->regs;
    memcpy(r->mem, data, DIFF_RW);
    r->trap = x->trap;
    r->error = x->error;
    r->cr2 = x->trap == X86_PF ? x->cr2 : 0;
}

static void diff_host_one(const struct diff_case *c, struct diff_result *r)
{
    uint8_t *code = (uint8_t *)(uintptr_t)(DIFF_CODE + c->slot * DIFF_SLOT);
    uint8_t *data = (uint8_t *)(uintptr_t)DIFF_DATA;

    memcpy(code, c->code, c->len);
    diff_host_way_back(code + c->len, c->code32);
    mprotect(data + DIFF_RW, PAGE_SIZE, PROT_READ | PROT_WRITE);
    memcpy(data, c->mem, DIFF_MEM);
    diff_host_go(&c->regs, c->regs.rip, c->code32, r);
    if (r->trap < 0)
        r->regs.rip = c->regs.rip + c->len;
}

/* A program ends with HLT, which is a fault. */
static void diff_host_one_program(const struct diff_program *p, struct diff_result *r)
{
    const struct itimerval limit = { .it_value = { .tv_usec = DIFF_TIMEOUT_MS * 1000 } },
                           off = { 0 };
    uint8_t *code = (uint8_t *)(uintptr_t)DIFF_CODE;
    uint8_t *data = (uint8_t *)(uintptr_t)DIFF_DATA;

    memset(code, 0xf4, DIFF_CODE_LEN);
    memcpy(code + p->offset, p->code, p->len);
    mprotect(data + DIFF_RW, PAGE_SIZE, PROT_READ | PROT_WRITE);
    diff_program_memory(p, data);
    setitimer(ITIMER_REAL, &limit, NULL);
    diff_host_go(&p->regs, DIFF_CODE + p->offset, p->code32, r);
    setitimer(ITIMER_REAL, &off, NULL);
}

static void diff_host_map(void)
{
    void *data = mmap((void *)(uintptr_t)DIFF_DATA, DIFF_MEM, PROT_READ | PROT_WRITE,
                      MAP_SHARED | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE | MAP_POPULATE, -1, 0);
    void *code =
        mmap((void *)(uintptr_t)DIFF_CODE, DIFF_CODE_LEN, PROT_READ | PROT_WRITE | PROT_EXEC,
             MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE | MAP_POPULATE, -1, 0);

    BUG_ON(data == MAP_FAILED || code == MAP_FAILED);
    memset(code, 0xcc, DIFF_CODE_LEN);
}

static void diff_host_catch(void)
{
    static const int signals[] = { SIGFPE, SIGILL, SIGSEGV, SIGBUS, SIGTRAP, SIGALRM };
    enum { STACK = 128 * KIB };
    stack_t ss = { .ss_sp = malloc(STACK), .ss_size = STACK };
    struct sigaction sa = { .sa_sigaction = diff_host_signal, .sa_flags = SA_SIGINFO | SA_ONSTACK };

    BUG_ON(!ss.ss_sp || sigaltstack(&ss, NULL));
    for (size_t i = 0; i < ARRAY_SIZE(signals); i++)
        sigaction(signals[i], &sa, NULL);
}

/* XRSTOR image of the initial state; MXCSR is not part of "initial". */
static void diff_host_init_image(void)
{
    enum { MXCSR_AT = 24 };
    const uint32_t mxcsr = 0x1f80;

    diff_host_ctx.mask = diff_host_mask();
    memcpy(diff_host_ctx.init + MXCSR_AT, &mxcsr, sizeof(mxcsr));
}

_Noreturn static void diff_host_serve(int from, int to)
{
    unsigned n;

    prctl(PR_SET_PDEATHSIG, SIGKILL);
    diff_host_map();
    diff_host_catch();
    diff_host_init_image();
    __asm__ volatile("mov %0, %%ds\n\tmov %0, %%es" : : "r"(USER_DS)); /* of 32-bit code */
    while (read(from, &n, sizeof(n)) == sizeof(n)) {
        if (!n)
            diff_host_one_program(&host.share->p, host.share->r);
        for (unsigned i = 0; i < n; i++) {
            host.share->at = i;
            diff_host_one(&host.share->c[i], &host.share->r[i]);
        }
        if (write(to, &n, sizeof(n)) != sizeof(n))
            break;
    }
    _exit(0);
}

int diff_host_start(void)
{
    int there[2], back[2];

    if (!host.share) {
        host.share = mmap(NULL, sizeof(*host.share), PROT_READ | PROT_WRITE,
                          MAP_SHARED | MAP_ANONYMOUS, -1, 0);
        if (host.share == MAP_FAILED)
            return -1;
    }
    if (pipe(there) || pipe(back))
        return -1;
    host.pid = fork();
    if (host.pid < 0)
        return -1;
    if (!host.pid) {
        close(there[1]);
        close(back[0]);
        diff_host_serve(there[0], back[1]);
    }
    close(there[0]);
    close(back[1]);
    host.to = there[1];
    host.from = back[0];
    return 0;
}

void diff_host_stop(void)
{
    util_close(&host.to);
    util_close(&host.from);
    if (host.pid > 0)
        waitpid(host.pid, NULL, 0);
    host.pid = 0;
}

/* n cases, or with 0 the program, are in host.share. */
static bool diff_host_ask(unsigned n)
{
    unsigned done;

    if (write(host.to, &n, sizeof(n)) == sizeof(n) &&
        read(host.from, &done, sizeof(done)) == sizeof(done))
        return true;
    diff_host_stop();
    return false;
}

bool diff_host_run(const struct diff_case *c, struct diff_result *r, unsigned n, unsigned *at)
{
    memcpy(host.share->c, c, n * sizeof(*c));
    if (!diff_host_ask(n)) {
        *at = host.share->at;
        return false;
    }
    memcpy(r, host.share->r, n * sizeof(*r));
    return true;
}

bool diff_host_program(const struct diff_program *p, struct diff_result *r)
{
    host.share->p = *p;
    if (!diff_host_ask(0))
        return false;
    *r = host.share->r[0];
    return true;
}
