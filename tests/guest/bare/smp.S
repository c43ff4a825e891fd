/*
 * smp.S: two processors and what passes between them. A wake-up that is lost hangs it, a locked operation
 * that is none miscounts.
 * cpus: 2
 *
 * The first processor starts the second by INIT and SIPI. Both then do the same things, told apart by their
 * APIC ID in %r15d: locked counters, in a cache line, across two, across two pages; then they wake each
 * other by IPI out of HLT and out of a loop; a timer wakes each out of HLT; one changes code that the other
 * runs, waiting for it and without. Exit codes are at the end.
 */
#include "boot.inc"
#include "long.inc"
    .set TRAMPOLINE, 0x8000
    .set X2APIC_ID, 0x802
    .set X2APIC_EOI, 0x80b
    .set X2APIC_SVR, 0x80f
    .set X2APIC_ICR, 0x830
    .set X2APIC_LVT_TIMER, 0x832
    .set X2APIC_TIMER_COUNT, 0x838
    .set X2APIC_TIMER_DIVIDE, 0x83e
    .set IPI_VECTOR, 0x40
    .set TIMER_VECTOR, 0x41
    .set COUNTS, 30000
    .set WAKES, 4000
    .set KICKS, 2000
    .set TIMERS, 500
    .set PATCHES, 1000
    .set PATCHES_RUNNING, 5000

    .text
    .code32
    .globl _start
_start:
    jmp start
    multiboot_header
start:
    movl $stack0_end, %esp
    map_gib 0, pd
    set_gate IPI_VECTOR, on_ipi
    set_gate TIMER_VECTOR, on_timer
    /* the second processor's first instructions go where a SIPI can point */
    movl $trampoline, %esi
    movl $TRAMPOLINE, %edi
    movl $trampoline_end - trampoline, %ecx
    rep movsb
protected:
    enter_long_mode

    .code16
trampoline:
    cli
    xorw %ax, %ax
    movw %ax, %ds
    lgdtl TRAMPOLINE + trampoline_gdt - trampoline
    movl %cr0, %eax
    orl $1, %eax
    movl %eax, %cr0
    ljmpl $CODE32, $second
trampoline_gdt:
    .word gdt_pointer - gdt - 1
    .long gdt
trampoline_end:

    .code32
second:
    load_data_segments
    movl $stack1_end, %esp
    jmp protected

    .code64
/* both processors, from here on */
long_mode:
    load_data_segments
    lidt idt_pointer
    movl $0x1b, %ecx
    rdmsr
    orl $0xc00, %eax /* x2APIC */
    wrmsr
    movl $X2APIC_SVR, %ecx
    movl $0x1ff, %eax
    xorl %edx, %edx
    wrmsr
    movl $X2APIC_TIMER_DIVIDE, %ecx
    movl $0xb, %eax /* by 1 */
    wrmsr
    movl $X2APIC_LVT_TIMER, %ecx
    movl $TIMER_VECTOR, %eax
    wrmsr
    movl $X2APIC_ID, %ecx
    rdmsr
    movl %eax, %r15d
    testl %r15d, %r15d
    jnz 1f
    movl $0xc4500, %eax /* INIT to all others */
    call send
    movl $0xc4600 + TRAMPOLINE / 4096, %eax
    call send
1:  call meet
    call count
    call meet
    call check_counts
    call meet
    call wake
    call meet
    call kick
    call meet
    call timers
    call meet
    call patch
    call meet
    call patch_running
    call meet
    testl %r15d, %r15d
    jnz 2f
    exit 0
2:  cli
    hlt
    jmp 2b

/* Writes ICR: %eax its low half; to all others, or to the other one */
send:
    movl $X2APIC_ICR, %ecx
    xorl %edx, %edx
    wrmsr
    ret
send_ipi:
    movl $X2APIC_ICR, %ecx
    movl %r15d, %edx
    xorl $1, %edx
    movl $0x4000 + IPI_VECTOR, %eax
    wrmsr
    ret

/* Both are here: each adds 1, and waits for an even number beyond its own */
meet:
    movl $1, %eax
    lock xaddl %eax, met
    andl $~1, %eax
    addl $2, %eax
1:  pause
    cmpl %eax, met
    jl 1b
    ret

/* Locked operations on shared operands, and between them plain ones on a byte of each processor's own */
count:
    movl $COUNTS, %ebx
    movl $1, %esi
1:  lock incl inside
    lock addq $1, across_line
    movq $1, %rax
    lock xaddq %rax, across_page
    leaq beside_line(%r15), %rdi
    incb (%rdi)
    incb beside_page(%r15)
2:  movl narrow, %eax
    leal 3(%rax), %edx
    lock cmpxchgl %edx, narrow
    jne 2b
    decl %ebx
    jnz 1b
    ret

check_counts:
    cmpl $2 * COUNTS, inside
    jne bad_inside
    cmpq $2 * COUNTS, across_line
    jne bad_line
    cmpq $2 * COUNTS, across_page
    jne bad_page
    cmpl $6 * COUNTS, narrow
    jne bad_narrow
    movb $COUNTS % 256, %al
    cmpb %al, beside_line(%r15)
    jne bad_neighbour
    cmpb %al, beside_page(%r15)
    jne bad_neighbour
    ret

/* An IPI goes to and fro; who waits for it sleeps */
wake:
    xorl %ebx, %ebx
    testl %r15d, %r15d
    jz 2f
1:  incl %ebx
    cli
    cmpl %ebx, ipis(, %r15, 4)
    jge 3f
    sti
    hlt
    decl %ebx
    jmp 1b
3:  sti
2:  call send_ipi
    testl %r15d, %r15d
    jnz 4f
    incl %ebx
5:  cli
    cmpl %ebx, ipis(, %r15, 4)
    jge 6f
    sti
    hlt
    jmp 5b
6:  sti
    cmpl $WAKES, %ebx
    jl 2b
    ret
4:  cmpl $WAKES, %ebx
    jl 1b
    ret

/* The same, but who waits runs in a loop of one block that does nothing else */
kick:
    movl $WAKES, %ebx
    movl $WAKES + KICKS, %r14d
    testl %r15d, %r15d
    jz 2f
1:  incl %ebx
3:  cmpl %ebx, ipis(, %r15, 4)
    jl 3b
    call send_ipi
    cmpl %r14d, %ebx
    jl 1b
    ret
2:  call send_ipi
    incl %ebx
4:  cmpl %ebx, ipis(, %r15, 4)
    jl 4b
    cmpl %r14d, %ebx
    jl 2b
    ret

/* One-shot timers of growing length, slept for and (each second one) waited for in a loop */
timers:
    xorl %ebx, %ebx
1:  incl %ebx
    imull $37, %ebx, %eax
    incl %eax
    movl $X2APIC_TIMER_COUNT, %ecx
    xorl %edx, %edx
    wrmsr
    testl $1, %ebx
    jz 3f
2:  cmpl %ebx, fired(, %r15, 4)
    jl 2b
    jmp 4f
3:  cli
    cmpl %ebx, fired(, %r15, 4)
    jge 5f
    sti
    hlt
    jmp 3b
5:  sti
4:  cmpl $TIMERS, %ebx
    jl 1b
    ret

/* The first writes a number into an instruction, the second runs it and says what it got */
patch:
    xorl %ebx, %ebx
    testl %r15d, %r15d
    jnz 2f
1:  incl %ebx
    movl %ebx, patched + 1
    movl %ebx, patch_asked
3:  pause
    cmpl %ebx, patch_done
    jne 3b
    cmpl $PATCHES, %ebx
    jl 1b
    ret
2:  incl %ebx
4:  pause
    cmpl %ebx, patch_asked
    jne 4b
    pushq %rbx
    xorl %eax, %eax
    cpuid
    popq %rbx
    call patched
    cmpl %ebx, %eax
    jne bad_patch
    movl %ebx, patch_done
    cmpl $PATCHES, %ebx
    jl 2b
    ret

/* The same, but the second runs it all the time: what it gets is no older than what it was told of before */
patch_running:
    xorl %ebx, %ebx
    testl %r15d, %r15d
    jnz 2f
1:  incl %ebx
    movl %ebx, %eax
    movl $running + 1, %edi
    movl $1, %ecx
    rep stosl
    movl %ebx, running_asked
    movl %ebx, %ecx
    andl $0xff, %ecx
    incl %ecx
3:  pause
    loop 3b
    cmpl $PATCHES_RUNNING, %ebx
    jl 1b
    ret
2:  movl running_asked, %esi
    xorl %eax, %eax
    cpuid
    call running
    cmpl %esi, %eax
    jl bad_patch_running
    cmpl $PATCHES_RUNNING, %esi
    jl 2b
    ret

    .balign 64
patched:
    movl $0, %eax
    ret

    .balign 64
    nop
    nop
    nop
running:
    movl $0, %eax
    ret

on_ipi:
    incl ipis(, %r15, 4)
eoi:
    pushq %rax
    pushq %rcx
    pushq %rdx
    movl $X2APIC_EOI, %ecx
    xorl %eax, %eax
    xorl %edx, %edx
    wrmsr
    popq %rdx
    popq %rcx
    popq %rax
    iretq
on_timer:
    incl fired(, %r15, 4)
    jmp eoi

bad_inside:
    exit 1
bad_line:
    exit 2
bad_page:
    exit 3
bad_narrow:
    exit 4
bad_neighbour:
    exit 5
bad_patch:
    exit 6
bad_patch_running:
    exit 7

    .bss
    .balign 4096
stack0: .skip 4096
stack0_end:
stack1: .skip 4096
stack1_end:
counters: .skip 64 - 3 /* page-aligned */
across_line: .skip 8
beside_line: .skip 2
    .balign 64
narrow_area: .skip 64 - 1
narrow: .skip 4
    .balign 64
inside: .skip 64
met: .skip 64
ipis: .skip 64
fired: .skip 64
patch_asked: .skip 64
patch_done: .skip 64
running_asked: .skip 64
    .balign 4096
page_area: .skip 4096 - 5
across_page: .skip 8
beside_page: .skip 2
