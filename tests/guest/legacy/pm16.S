/*
 * pm16.S: 16-bit protected mode as of the 286: LMSW, gates and task segments of 16 bits, ring 3, a call gate that
 * copies parameters, segments that are not present, tasks by JMP, CALL, IRET and a gate; and back to real mode.
 */
#include "disk.inc"

    .set CODE, 0x08
    .set DATA, 0x10
    .set CODE3, 0x18 + 3
    .set DATA3, 0x20 + 3
    .set SMALL, 0x28 /* 16 bytes at `small` */
    .set ABSENT, 0x30
    .set TSS_A, 0x38
    .set TSS_B, 0x40
    .set GATE_CALL, 0x48 + 3
    .set GATE_TASK, 0x50
    .set LDT, 0x58
    .set TSS_C, 0x60
    .set LDT_DATA, 0x04 /* the first of the LDT */
    .set STACK0, 0x7800
    .set STACK3, 0x7000
    .set STACK_B, 0x6800
    .set STACK_C, 0x6000
    .set TSS_LEN, 44
    .set TSS_BUSY, 0x02

    jmp begin

    .macro stage value
    movw $\value, where
    .endm

begin:
    cli
    movw %sp, real_sp
    lgdt gdt_pointer
    lidt idt_pointer
    smsw %ax
    orw $1, %ax
    lmsw %ax
    ljmp $CODE, $protected
protected:
    movw $DATA, %ax
    movw %ax, %ds
    movw %ax, %es
    movw %ax, %ss
    movw $STACK0, %sp
    movw $TSS_A, %ax
    ltr %ax
    movw $LDT, %ax
    lldt %ax
    call descriptors
    call faults
    call tasks
    call ring3
    /* back to real mode: the 386's way; segments of 64 KiB are loaded already */
    movw $DATA, %ax
    movw %ax, %ds
    movw %ax, %es
    movw %ax, %ss
    movl %cr0, %eax
    andb $0xfe, %al
    movl %eax, %cr0
    ljmp $0, $real
real:
    xorw %ax, %ax
    movw %ax, %ds
    movw %ax, %es
    movw %ax, %ss
    movw real_sp, %sp
    lidt real_idt
    sti
    movw $0x0e2b, %ax /* the BIOS is there again */
    xorw %bx, %bx
    int $0x10
    exit 0

/* What the instructions that ask about selectors say. */
descriptors:
    movw $SMALL, %ax
    lslw %ax, %bx
    expect z, 1
    cmpw $15, %bx
    expect e, 2
    larw %ax, %bx
    expect z, 3
    andw $0xfe00, %bx /* but for "accessed" */
    cmpw $0x9200, %bx
    expect e, 4
    verr %ax
    expect z, 5
    movw $CODE, %ax
    verw %ax
    expect nz, 6
    movw $0x1ff8, %ax
    lslw %ax, %bx
    expect nz, 7
    movw $DATA, %ax
    movw $3, %bx
    arpl %bx, %ax
    expect z, 8
    cmpw $DATA + 3, %ax
    expect e, 9
    str %ax
    cmpw $TSS_A, %ax
    expect e, 10
    movw $LDT_DATA, %ax
    movw %ax, %es
    cmpw $0x1234, %es:2
    expect e, 11
    ret

/* The limit of a segment, a segment that comes when it is wanted, and a word that wraps around none. */
faults:
    movw $SMALL, %ax
    movw %ax, %es
    movw $0, caught
    movw $1f, resume
    movb %es:16, %al
1:  cmpw $13, caught
    expect e, 20
    movw $0, caught
    movw $1f, resume
    movw %es:15, %ax
1:  cmpw $13, caught
    expect e, 21
    movw $0, caught
    movw $ABSENT, %ax /* #NP: the handler brings it, and the instruction starts again */
    movw %ax, %es
    cmpw $11, caught
    expect e, 22
    cmpw $ABSENT, error
    expect e, 23
    cmpw $0x1234, %es:2
    expect e, 24
    movw $0, caught
    movw $1f, resume
    movw $0x1ff8, %ax
    movw %ax, %es
1:  cmpw $13, caught
    expect e, 25
    cmpw $0x1ff8, error
    expect e, 26
    movw $0, caught
    movw $1f, resume
    movb $0, %cs:small /* code is not written to */
1:  cmpw $13, caught
    expect e, 27
    cmpw $0, error
    expect e, 28
    ret

/* There and back: by JMP twice, by CALL and IRET, by a task gate in the IDT. */
tasks:
    movw $task_b_jumped, tss_b + 14
    stage 1
    ljmp $TSS_B, $0
    cmpw $2, where
    expect e, 30
    testb $TSS_BUSY, gdt + TSS_B + 5
    expect z, 31
    testb $TSS_BUSY, gdt + TSS_A + 5
    expect nz, 32
    movw $task_b_called, tss_b + 14
    movw $0x4321, %bp
    lcall $TSS_B, $0
    cmpw $3, where
    expect e, 33
    cmpw $0x4321, %bp /* it is ours again */
    expect e, 34
    cmpw $TSS_A, tss_b /* the link */
    expect e, 35
    pushfw
    popw %ax
    testw $0x4000, %ax /* NT */
    expect z, 36
    movw $task_c, tss_c + 14
    int $0x40
    cmpw $4, where
    expect e, 37
    int $0x40 /* it goes on behind its IRET */
    cmpw $5, where
    expect e, 38
    smsw %ax
    testw $8, %ax /* TS */
    expect nz, 39
    clts
    ret
task_b_jumped:
    cmpw $1, where
    expect e, 40
    cmpw $STACK_B, %sp
    expect e, 41
    str %ax
    cmpw $TSS_B, %ax
    expect e, 42
    stage 2
    ljmp $TSS_A, $0
task_b_called:
    cmpw $0, %bp
    expect e, 43
    pushfw
    popw %ax
    testw $0x4000, %ax
    expect nz, 44
    testb $TSS_BUSY, gdt + TSS_A + 5
    expect nz, 45
    stage 3
    iretw
task_c:
    stage 4
    iretw
    stage 5
    iretw

/* To ring 3 by RETF, from there by a call gate with two parameters and by an interrupt gate. */
ring3:
    popw ring3_back
    pushw $DATA3
    pushw $STACK3
    pushw $CODE3
    pushw $in_ring3
    movw %sp, %bp
    lretw
in_ring3:
    movw $DATA3, %ax
    movw %ax, %ds
    movw %ax, %es
    stage 6
    pushw $0x1111
    pushw $0x2222
    lcall $GATE_CALL, $0
    cmpw $7, where
    jne 1f
    cmpw $STACK3, %sp /* the parameters are gone */
    jne 1f
    movw $0, caught
    movw $2f, resume
    cli
2:  int $0x31
1:  int $0x32
gate_called: /* SS:SP: the stack of ring 0; IP, CS, parameters, SP, SS */
    movw %sp, %bp
    cmpw $0x2222, 4(%bp)
    expect e, 50
    cmpw $0x1111, 6(%bp)
    expect e, 51
    cmpw $CODE3, 2(%bp)
    expect e, 52
    cmpw $DATA3, 10(%bp)
    expect e, 53
    movw %ss, %ax
    cmpw $DATA, %ax
    expect e, 54
    stage 7
    lretw $4
int_31:
    movw $DATA, %ax
    movw %ax, %ds
    cmpw $13, caught /* CLI with IOPL 0 */
    expect e, 55
    movw $STACK0, %sp
    pushw ring3_back
    ret
int_32:
    exit 56

/* Faults with an error code: number and code are noted; what is not present becomes so, the rest goes on at `resume`. */
fault_11:
    pushw %ds
    pushw %bp
    movw %sp, %bp
    pushw %ax
    movw $DATA, %ax
    movw %ax, %ds
    movw $11, caught
    movw 4(%bp), %ax
    movw %ax, error
    orb $0x80, gdt + ABSENT + 5
    popw %ax
    popw %bp
    popw %ds
    addw $2, %sp
    iretw
fault_13:
    pushw %ds
    pushw %bp
    movw %sp, %bp
    pushw %ax
    movw $DATA, %ax
    movw %ax, %ds
    movw $13, caught
    movw 4(%bp), %ax
    movw %ax, error
    movw resume, %ax
    movw %ax, 6(%bp)
    popw %ax
    popw %bp
    popw %ds
    addw $2, %sp
    iretw
fault_any:
    exit 99

    .macro segment base, limit, access
    .word \limit, \base
    .byte 0, \access
    .word 0
    .endm
    .macro gate target, selector, access, count
    .word \target, \selector
    .byte \count, \access
    .word 0
    .endm
    .macro task_segment stack, entry
    .word 0, STACK0, DATA, 0, 0, 0, 0, \entry, 2 /* flags */
    .word 0, 0, 0, 0, \stack, 0, 0, 0 /* AX to DI: SP is the fifth */
    .word DATA, CODE, DATA, DATA, LDT
    .endm

    .align 8
gdt:
    .quad 0
    segment 0, 0xffff, 0x9a
    segment 0, 0xffff, 0x92
    segment 0, 0xffff, 0xfa
    segment 0, 0xffff, 0xf2
    segment small, 15, 0x92
    segment small, 15, 0x12
    segment tss_a, TSS_LEN-1, 0x81
    segment tss_b, TSS_LEN-1, 0x81
    gate gate_called, CODE, 0xe4, 2
    gate 0, TSS_B, 0x85, 0
    segment ldt, 7, 0x82
    segment tss_c, TSS_LEN-1, 0x81
gdt_pointer:
    .word . - gdt - 1
    .long gdt
    .align 8
ldt:
    segment small, 15, 0x92
idt:
    .rept 11
    gate fault_any, CODE, 0x86, 0
    .endr
    gate fault_11, CODE, 0x86, 0
    gate fault_any, CODE, 0x86, 0
    gate fault_13, CODE, 0x86, 0
    .rept 0x31 - 14
    gate fault_any, CODE, 0x86, 0
    .endr
    gate int_31, CODE, 0xe6, 0
    gate int_32, CODE, 0xe6, 0
    .rept 0x40 - 0x33
    gate fault_any, CODE, 0x86, 0
    .endr
    gate 0, TSS_C, 0x85, 0
idt_pointer:
    .word . - idt - 1
    .long idt
real_idt:
    .word 0x3ff
    .long 0
    .align 2
tss_a:
    task_segment STACK0, 0
tss_b:
    task_segment STACK_B, 0
tss_c:
    task_segment STACK_C, 0
small:
    .word 0, 0x1234, 0, 0, 0, 0, 0, 0
where:
    .word 0
caught:
    .word 0
error:
    .word 0
resume:
    .word 0
ring3_back:
    .word 0
real_sp:
    .word 0
