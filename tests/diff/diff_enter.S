/*
 * diff_enter.S: into the instruction under test and back (diff_host.c). All state is in diff_host_ctx,
 * whose layout diff_host.c asserts; the instruction may be 64-bit or compatibility-mode code.
 */
#include "diff_ctx.h"

#define CTX(at) diff_host_ctx + (at)(%rip)

.macro each_gpr op
    \op rax, 0
    \op rcx, 8
    \op rdx, 16
    \op rbx, 24
    \op rbp, 40
    \op rsi, 48
    \op rdi, 56
    \op r8, 64
    \op r9, 72
    \op r10, 80
    \op r11, 88
    \op r12, 96
    \op r13, 104
    \op r14, 112
    \op r15, 120
    \op rsp, 32
.endm
.macro load reg, at
    mov CTX(DIFF_CTX_GPR + \at), %\reg
.endm
.macro store reg, at
    mov %\reg, CTX(DIFF_CTX_GPR + \at)
.endm
.macro mask
    mov CTX(DIFF_CTX_MASK), %eax
    mov CTX(DIFF_CTX_MASK + 4), %edx
.endm

.text
.globl diff_host_enter, diff_host_exit, diff_host_exit_fp
diff_host_enter:
    push %rbx
    push %rbp
    push %r12
    push %r13
    push %r14
    push %r15
    mov %rsp, CTX(DIFF_CTX_HOST)
    mask
    xrstor64 diff_host_ctx(%rip)
    push CTX(DIFF_CTX_RFLAGS)
    popfq
    each_gpr load
    ljmp *CTX(DIFF_CTX_FAR)

/* The instruction has not faulted. */
diff_host_exit:
    each_gpr store
    mov CTX(DIFF_CTX_HOST), %rsp
    pushfq
    pop CTX(DIFF_CTX_RFLAGS)
/* It has: the signal handler has stored general registers and flags. */
diff_host_exit_fp:
    push $0x202
    popfq
    mask
    xsave64 diff_host_ctx(%rip)
    xrstor64 CTX(DIFF_CTX_INIT)
    pop %r15
    pop %r14
    pop %r13
    pop %r12
    pop %rbp
    pop %rbx
    ret

.section .note.GNU-stack, "", @progbits
