/*
 * debug.S: what a debugger looks at: real mode at 1 MiB (CS 0xffff), 32-bit and 64-bit code, vector and x87
 * registers, a counter that is read and written, the guest's own INT3. Ends with status 0.
 */
#include "../bare/boot.inc"
#include "../bare/long.inc"
    .set COUNT, 3
    .text
    .code32
    .globl _start, prot32, real16, real16_next, long_mode, values, count_read, count_write, own_int3, on_int3
_start:
    jmp prot32
    multiboot_header
prot32:
    movl $stack_end, %esp
    movl $0x11223344, %ebx
    lgdt gdt_pointer
    ljmp $CODE16_HIGH, $prot16 - _start

    .code16
prot16:
    movl %cr0, %eax
    andb $0xfe, %al
    movl %eax, %cr0
    ljmp $0xffff, $real16 - _start + 0x10
real16:
    movw $0x5678, %bx
real16_next:
    movl %cr0, %eax
    orb $1, %al
    movl %eax, %cr0
    ljmpl $CODE32, $back32

    .code32
back32:
    load_data_segments
    map_gib 0, pd
    enter_long_mode

    .code64
long_mode:
    movabsq $0x123456789abcdef0, %rax
    movq %rax, %xmm3
    movdqa %xmm3, %xmm4
    psllq $4, %xmm4
    fninit
    fldpi
    fld1
values:
    movl $COUNT, %ecx
1:
count_read:
    movl counter(%rip), %eax
    incl %eax
count_write:
    movl %eax, counter(%rip)
    loop 1b
    set_gate 3, on_int3
    lidt idt_pointer
    xorl %ebx, %ebx
    .rept 8 /* places for more breakpoints than a processor has registers */
    nop
    .endr
own_int3:
    int3
    cmpl $0x55, %ebx
    jne bad
    cmpl $COUNT, counter
    jne bad
    exit 0
on_int3:
    movl $0x55, %ebx
    iretq
bad:
    exit 1

    .data
    .globl counter
counter:
    .long 0
    .bss
    .lcomm stack, 4096
    .set stack_end, stack + 4096
