/*
 * longmode.S: from protected mode through PAE page tables into long mode: 64-bit registers, addresses and
 * RIP-relative operands, SSE and x87, an IDT with a handler for the #UD that UD2 raises.
 * kvm: emulated
 */
#include "boot.inc"
#include "long.inc"
    .text
    .code32
    .globl _start
_start:
    jmp start
    multiboot_header
start:
    movl $stack_end, %esp
    map_gib 0, pd
    enter_long_mode

    .code64
long_mode:
    load_data_segments
    movabsq $0x123456789abcdef0, %rax
    movq %rax, value(%rip)
    movq value(%rip), %r15
    cmpq %rax, %r15
    jne bad_register
    /* SSE and x87 */
    cvtsi2sdq %rax, %xmm0
    movl $3, %ebx
    cvtsi2sd %ebx, %xmm1
    mulsd %xmm1, %xmm1
    cvttsd2si %xmm1, %ebx
    cmpl $9, %ebx
    jne bad_sse
    fninit
    fld1
    fadd %st(0), %st(0)
    fistpl value(%rip)
    cmpl $2, value(%rip)
    jne bad_x87
    /* #UD goes to its handler and comes back behind the UD2 */
    set_gate 6, on_ud
    lidt idt_pointer
    xorl %ebx, %ebx
    ud2
    cmpl $0x55, %ebx
    jne bad_exception
    exit 0
on_ud:
    movl $0x55, %ebx
    addq $2, (%rsp)
    iretq
bad_register:
    exit 1
bad_sse:
    exit 2
bad_x87:
    exit 3
bad_exception:
    exit 4

    .bss
    .lcomm value, 8
    .lcomm stack, 4096
    .set stack_end, stack + 4096
