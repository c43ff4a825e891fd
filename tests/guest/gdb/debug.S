/*
 * debug.S: what a debugger looks at: real mode at 1 MiB (CS 0xffff), 32-bit and 64-bit code, vector and x87
 * registers, a counter that is read and written, the guest's own INT3. Ends with status 0.
 */
#include "../bare/boot.inc"
    .set COUNT, 3
    .text
    .code32
    .globl _start, prot32, real16, real16_next, long64, values, count_read, count_write, own_int3, on_int3
_start:
    jmp prot32
    multiboot_header
prot32:
    movl $stack_end, %esp
    movl $0x11223344, %ebx
    lgdt gdt_pointer
    ljmp $0x18, $prot16 - _start /* a segment of 64 KiB at 1 MiB */

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
    ljmpl $0x20, $back32

    .code32
back32:
    movl $0x10, %eax
    movl %eax, %ds
    movl %eax, %es
    movl %eax, %ss
    movl $pdpt + 3, pml4
    movl $0x83, pd
    movl $pd + 3, pdpt
    movl $0x200083, pd + 8
    movl $pml4, %eax
    movl %eax, %cr3
    movl $0x620, %eax /* PAE, OSFXSR, OSXMMEXCPT */
    movl %eax, %cr4
    movl $0xc0000080, %ecx
    rdmsr
    orl $0x100, %eax /* LME */
    wrmsr
    movl %cr0, %eax
    andl $~0x4, %eax
    orl $0x80000002, %eax /* PG, MP */
    movl %eax, %cr0
    ljmp $8, $long64

    .code64
long64:
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
    leaq on_int3(%rip), %rax
    movw %ax, idt + 3 * 16
    movw $8, idt + 3 * 16 + 2
    movw $0x8e00, idt + 3 * 16 + 4
    shrq $16, %rax
    movw %ax, idt + 3 * 16 + 6
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
    .align 8
gdt:
    .quad 0
    .quad 0x00af9b000000ffff /* 8: 64-bit code */
    .quad 0x00cf93000000ffff /* 10: data */
    .quad 0x00009b100000ffff /* 18: 16-bit code at 1 MiB */
    .quad 0x00cf9b000000ffff /* 20: 32-bit code */
gdt_pointer:
    .word gdt_pointer - gdt - 1
    .long gdt
idt_pointer:
    .word 32 * 16 - 1
    .quad idt
    .globl counter
counter:
    .long 0
    .bss
    .balign 4096
    .lcomm pml4, 4096
    .balign 4096
    .lcomm pdpt, 4096
    .balign 4096
    .lcomm pd, 4096
    .lcomm idt, 512
    .lcomm stack, 4096
    .set stack_end, stack + 4096
