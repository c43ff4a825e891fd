/*
 * longmode.S: from protected mode through PAE page tables into long mode: 64-bit registers, addresses and
 * RIP-relative operands, SSE and x87, an IDT with a handler for the #UD that UD2 raises.
 * kvm: emulated
 */
#include "boot.inc"
    .text
    .code32
    .globl _start
_start:
    jmp start
    multiboot_header
start:
    movl $stack_end, %esp
    /* one 1 GiB of 2 MiB pages: PML4[0] -> PDPT[0] -> PD[0..511] */
    movl $pdpt + 3, pml4
    movl $pd + 3, pdpt
    movl $pd, %edi
    movl $0x83, %eax
    movl $512, %ecx
1:  movl %eax, (%edi)
    movl $0, 4(%edi)
    addl $8, %edi
    addl $0x200000, %eax
    loop 1b
    movl $pml4, %eax
    movl %eax, %cr3
    movl %cr4, %eax
    orl $0x620, %eax /* PAE, OSFXSR, OSXMMEXCPT */
    movl %eax, %cr4
    movl $0xc0000080, %ecx
    rdmsr
    orl $0x100, %eax /* LME */
    wrmsr
    movl %cr0, %eax
    andl $~0x4, %eax /* EM */
    orl $0x80000002, %eax /* PG, MP */
    movl %eax, %cr0
    lgdt gdt_pointer
    ljmp $8, $long_mode

    .code64
long_mode:
    movl $16, %eax
    movl %eax, %ds
    movl %eax, %es
    movl %eax, %ss
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
    leaq on_ud(%rip), %rax
    movw %ax, idt + 6 * 16
    movw $8, idt + 6 * 16 + 2
    movw $0x8e00, idt + 6 * 16 + 4
    shrq $16, %rax
    movw %ax, idt + 6 * 16 + 6
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

    .data
    .align 8
gdt:
    .quad 0
    .quad 0x00af9b000000ffff
    .quad 0x00cf93000000ffff
gdt_pointer:
    .word gdt_pointer - gdt - 1
    .long gdt
idt_pointer:
    .word 32 * 16 - 1
    .quad idt
    .bss
    .align 4096
    .balign 4096
    .lcomm pml4, 4096
    .balign 4096
    .lcomm pdpt, 4096
    .balign 4096
    .lcomm pd, 4096
    .lcomm idt, 512
    .lcomm value, 8
    .lcomm stack, 4096
    .set stack_end, stack + 4096
