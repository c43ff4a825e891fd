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
#include <sys/wait.h>
#include <ucontext.h>
#include <unistd.h>

/* What the assembly below and the signal handler work on: they have no arguments. */
struct diff_host_ctx {
    struct diff_regs regs;
    uint64_t host_rsp;
    uint64_t mask;
    _Alignas(64) uint8_t init[DIFF_XSAVE]; /* XRSTOR image: everything in its initial state */
    volatile int trap;
    volatile uint32_t error;
    volatile uint64_t cr2;
};
struct diff_host_ctx diff_host_ctx;
void diff_host_enter(void);
extern const char diff_host_exit[], diff_host_exit_fp[];

#define GPR     2816
#define RFLAGS  (GPR + 128)
#define RIP     (GPR + 136)
#define HOST    (GPR + 192)
#define MASK    (HOST + 8)
#define INIT    (HOST + 64)
#define STR_(x) #x
#define STR(x)  STR_(x)
#define CTX(x)  "diff_host_ctx+" STR(x) "(%rip)"
_Static_assert(offsetof(struct diff_host_ctx, regs.gpr) == GPR, "layout");
_Static_assert(offsetof(struct diff_host_ctx, host_rsp) == HOST, "layout");
_Static_assert(offsetof(struct diff_host_ctx, init) == INIT, "layout");

#define EACH_GPR(X)                                                                                \
    X("rax", 0)                                                                                    \
    X("rcx", 8)                                                                                    \
    X("rdx", 16)                                                                                   \
    X("rbx", 24)                                                                                   \
    X("rbp", 40)                                                                                   \
    X("rsi", 48) X("rdi", 56) X("r8", 64) X("r9", 72) X("r10", 80) X("r11", 88) X("r12", 96)       \
        X("r13", 104) X("r14", 112) X("r15", 120) X("rsp", 32)
#define LOAD(reg, off)  "mov diff_host_ctx+" STR(GPR) "+" #off "(%rip), %" reg "\n"
#define STORE(reg, off) "mov %" reg ", diff_host_ctx+" STR(GPR) "+" #off "(%rip)\n"
#define LOAD_MASK       "mov " CTX(MASK) ", %eax\n mov 4+" CTX(MASK) ", %edx\n"

__asm__(".text\n"
        ".globl diff_host_enter, diff_host_exit, diff_host_exit_fp\n"
        "diff_host_enter:\n"
        "push %rbx\n push %rbp\n push %r12\n push %r13\n push %r14\n push %r15\n"
        "mov %rsp, " CTX(
            HOST) "\n" LOAD_MASK "xrstor64 diff_host_ctx(%rip)\n"
                  "push " CTX(RFLAGS) "\n popfq\n" EACH_GPR(LOAD) "jmp *" CTX(
                      RIP) "\n"
                           "diff_host_exit:\n" EACH_GPR(STORE) "mov " CTX(
                               HOST) ", %rsp\n"
                                     "pushfq\n pop " CTX(
                                         RFLAGS) "\n"
                                                 "diff_host_exit_fp:\n"
                                                 "push $0x202\n popfq\n" LOAD_MASK
                                                 "xsave64 diff_host_ctx(%rip)\n"
                                                 "xrstor64 " CTX(
                                                     INIT) "\n"
                                                           "pop %r15\n pop %r14\n pop %r13\n pop "
                                                           "%r12\n pop %rbp\n pop %rbx\n"
                                                           "ret\n");

struct diff_host_share {
    struct diff_case c[DIFF_BATCH];
    struct diff_result r[DIFF_BATCH];
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
    if (rip < DIFF_CODE || rip >= DIFF_CODE + PAGE_SIZE) {
        signal(sig, SIG_DFL);
        return;
    }
    for (unsigned i = 0; i < 16; i++)
        x->regs.gpr[i] = (uint64_t)g[order[i]];
    x->regs.rip = rip;
    x->regs.rflags = (uint64_t)g[REG_EFL];
    x->trap = (int)g[REG_TRAPNO];
    x->error = (uint32_t)g[REG_ERR];
    x->cr2 = (uint64_t)g[REG_CR2];
    g[REG_RIP] = (greg_t)(uintptr_t)diff_host_exit_fp;
    g[REG_RSP] = (greg_t)x->host_rsp;
    g[REG_EFL] = 0x202;
}

static void diff_host_one(const struct diff_case *c, struct diff_result *r)
{
    static const uint8_t jump[] = { 0xff, 0x25, 0, 0, 0, 0 };
    struct diff_host_ctx *x = &diff_host_ctx;
    uint8_t *code = (uint8_t *)(uintptr_t)(DIFF_CODE + c->slot * DIFF_SLOT);
    uint8_t *data = (uint8_t *)(uintptr_t)DIFF_DATA;
    uintptr_t back = (uintptr_t)diff_host_exit;

    memcpy(code, c->code, c->len);
    memcpy(code + c->len, jump, sizeof(jump));
    memcpy(code + c->len + sizeof(jump), &back, sizeof(back));
    mprotect(data + DIFF_RW, PAGE_SIZE, PROT_READ | PROT_WRITE);
    memcpy(data, c->mem, DIFF_MEM);
    mprotect(data + DIFF_RW, PAGE_SIZE, PROT_READ);
    x->regs = c->regs;
    x->trap = -1;
    x->error = 0;
    x->cr2 = 0;
    diff_host_enter();
    r->regs = x->regs;
    if (x->trap < 0)
        r->regs.rip = c->regs.rip + c->len;
    memcpy(r->mem, data, DIFF_RW);
    r->trap = x->trap;
    r->error = x->error;
    r->cr2 = x->trap == X86_PF ? x->cr2 : 0;
}

static void diff_host_map(void)
{
    void *data = mmap((void *)(uintptr_t)DIFF_DATA, DIFF_MEM, PROT_READ | PROT_WRITE,
                      MAP_SHARED | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE | MAP_POPULATE, -1, 0);
    void *code = mmap((void *)(uintptr_t)DIFF_CODE, PAGE_SIZE, PROT_READ | PROT_WRITE | PROT_EXEC,
                      MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE | MAP_POPULATE, -1, 0);

    BUG_ON(data == MAP_FAILED || code == MAP_FAILED);
    memset(code, 0xcc, PAGE_SIZE);
}

static void diff_host_catch(void)
{
    static const int signals[] = { SIGFPE, SIGILL, SIGSEGV, SIGBUS, SIGTRAP };
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
    while (read(from, &n, sizeof(n)) == sizeof(n)) {
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

bool diff_host_run(const struct diff_case *c, struct diff_result *r, unsigned n, unsigned *at)
{
    unsigned done;

    memcpy(host.share->c, c, n * sizeof(*c));
    if (write(host.to, &n, sizeof(n)) != sizeof(n) ||
        read(host.from, &done, sizeof(done)) != sizeof(done)) {
        *at = host.share->at;
        diff_host_stop();
        return false;
    }
    memcpy(r, host.share->r, n * sizeof(*r));
    return true;
}
