#include "fuzz.h"

#include <errno.h>
#include <fcntl.h>
#include <seccomp.h>
#include <signal.h>
#include <ucontext.h>

#include "base/log.h"

void fuzz_confine(void)
{
    static const int calls[] = { SCMP_SYS(connect), SCMP_SYS(sendto), SCMP_SYS(sendmsg),
                                 SCMP_SYS(sendmmsg) };
    scmp_filter_ctx ctx = seccomp_init(SCMP_ACT_ALLOW);

    BUG_ON(!ctx);
    for (size_t i = 0; i < ARRAY_SIZE(calls); i++)
        BUG_ON(seccomp_rule_add(ctx, SCMP_ACT_ERRNO(ENETUNREACH), calls[i], 0) != 0);
    BUG_ON(seccomp_load(ctx) != 0);
    seccomp_release(ctx);
    log_setup(open("/dev/null", O_WRONLY | O_CLOEXEC), LOG_ERROR);
}

static const int fuzz_signals[] = { SIGFPE, SIGILL, SIGSEGV };
static struct sigaction fuzz_first[ARRAY_SIZE(fuzz_signals)], fuzz_second[ARRAY_SIZE(fuzz_signals)];

static void fuzz_on_signal(int sig, siginfo_t *si, void *context)
{
    const greg_t *g = ((ucontext_t *)context)->uc_mcontext.gregs;
    greg_t rip = g[REG_RIP];
    unsigned i = 0;

    while (fuzz_signals[i] != sig)
        i++;
    fuzz_second[i].sa_sigaction(sig, si, context);
    if (g[REG_RIP] != rip) /* it was the guest's */
        return;
    if (fuzz_first[i].sa_flags & SA_SIGINFO)
        fuzz_first[i].sa_sigaction(sig, si, context);
    abort();
}

void fuzz_signals_save(void)
{
    for (size_t i = 0; i < ARRAY_SIZE(fuzz_signals); i++)
        sigaction(fuzz_signals[i], NULL, &fuzz_first[i]);
}

void fuzz_signals_chain(void)
{
    struct sigaction sa = { .sa_sigaction = fuzz_on_signal, .sa_flags = SA_SIGINFO | SA_ONSTACK };

    for (size_t i = 0; i < ARRAY_SIZE(fuzz_signals); i++) {
        sigaction(fuzz_signals[i], NULL, &fuzz_second[i]);
        BUG_ON(!(fuzz_second[i].sa_flags & SA_SIGINFO));
        sigaction(fuzz_signals[i], &sa, NULL);
    }
}
