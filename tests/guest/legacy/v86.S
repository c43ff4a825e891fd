/*
 * v86.S: a 32-bit monitor with paging and a virtual 8086 task, as EMM386 and Windows have it. The task calls the BIOS
 * (INT 10h, INT 13h), with CLI, STI, PUSHF, POPF, IRET and INT trapped and carried out by the monitor (IOPL 0), by
 * the BIOS's own interrupts (the PICs have other vectors), with port 80h trapped by the I/O bitmap and a page of
 * the second MiB seen at d0000. Then with IOPL 3, with the processor's own redirection (VME), and as a hardware task.
 */
#include "disk.inc"

    .set CODE32, 0x08
    .set DATA32, 0x10
    .set CODE16, 0x18
    .set DATA16, 0x20
    .set TSS, 0x28
    .set TSS_V86, 0x30
    .set STACK0, 0x7000   /* of ring 0 */
    .set STACK_V86, 0x6000
    .set DIRECTORY, 0x20000
    .set TABLE, 0x21000
    .set PIC_BASE, 0x50
    .set WINDOW, 0xd0000
    .set BUFFER, 0xc000
    .set FLAG_IF, 0x200
    .set FLAG_NT, 0x4000
    .set FLAG_VM, 0x20000
    .set FLAG_VIF, 0x80000
    .set BITMAP_LEN, 8192
    .set TSS_IOMAP, 0x68 + 32 /* behind the redirection bitmap */
    .set TSS_LEN, TSS_IOMAP + BITMAP_LEN + 1
    .set HLT, 0xf4

    movb %dl, drive
    cli
    pic_set 0x20, PIC_BASE, 4
    pic_set 0xa0, PIC_BASE + 8, 2
    movb $0x38, %al /* as the BIOS has them */
    outb %al, $0x21
    movb $0x8f, %al
    outb %al, $0xa1
    lgdt gdt_pointer
    lidt idt_pointer
    movl %cr0, %eax
    orb $1, %al
    movl %eax, %cr0
    ljmpl $CODE32, $monitor

    .code32
monitor:
    movw $DATA32, %ax
    movw %ax, %ds
    movw %ax, %es
    movw %ax, %ss
    movl $STACK0, %esp
    call fill_idt
    call page
    movw $TSS, %ax
    ltr %ax
    orb $1, tss + TSS_IOMAP + 0x80 / 8 /* port 80h */
    movl $0, %ecx
    movl $v86_bios, %ebx
    call run_v86
    cmpb $1, traps + 0x80 /* the port */
    expect e, 1
    cmpb $0x5a, port_80
    expect e, 2
    cmpb $0, traps + 0xfa /* CLI */
    expect ne, 3
    cmpb $0, traps + 0xcd /* INT */
    expect ne, 4
    cmpl $0, reflected /* interrupts of the timer */
    expect ne, 5
    cmpl $0x600dbeef, 0x200000 /* through the window */
    expect e, 6
    movl $0x3000, %ecx /* IOPL 3: CLI and its like are its own; INT goes to the gate, of which the DPL is 0 */
    movl $v86_iopl3, %ebx
    movb $0, traps + 0xcf
    movb $0, traps + 0xfa
    call run_v86
    cmpb $0, traps + 0xfa
    expect e, 10
    cmpb $0, traps + 0xcf
    expect e, 11
    call try_vme
    call try_task
    exit 0

/* VME: INT 60h is the task's own, by its table, without a trap; STI sets VIF. */
try_vme:
    movl $1, %eax
    cpuid
    testb $2, %dl
    jz 1f
    movl %cr4, %eax
    orb $1, %al
    movl %eax, %cr4
    movb $0, traps + 0xcd
    movb $0, traps + 0xfb
    movl $0, %ecx
    movl $v86_vme, %ebx
    call run_v86
    cmpb $0, traps + 0xcd
    expect e, 20
    cmpb $0, traps + 0xfb
    expect e, 21
    cmpw $0x7777, v86_seen
    expect e, 22
    testl $FLAG_VIF, last_flags
    expect nz, 23
    movl %cr4, %eax
    andb $0xfe, %al
    movl %eax, %cr4
1:  ret

/* By CALL of a task segment with VM set; the trap that ends it goes to the outer task by the IRET of its handler. */
try_task:
    movl $DIRECTORY, tss + 0x1c /* a switch does not save it */
    movl $DIRECTORY, tss_v86 + 0x1c
    movl $v86_task, tss_v86 + 0x20
    movl $FLAG_VM + 2, tss_v86 + 0x24
    movl $STACK_V86, tss_v86 + 0x38
    movl $STACK0, tss_v86 + 4
    movl $DATA32, tss_v86 + 8
    movw $TSS_IOMAP, tss_v86 + 0x66
    movl $task_stack, tss + 4 /* ours is in use */
    movl $task_stack, tss_v86 + 4
    movb $1, in_task
    lcall $TSS_V86, $0
    movb $0, in_task
    cmpw $0x1b1b, v86_seen
    expect e, 30
    testl $FLAG_VM, tss_v86 + 0x24 /* it left from ring 0 */
    expect z, 31
    ret

/* Identity for 4 MiB by small pages, of which one more is at WINDOW; all may be used by the task. */
page:
    movl $DIRECTORY, %edi
    movl $1024, %ecx
    xorl %eax, %eax
    rep stosl
    movl $TABLE + 7, DIRECTORY
    movl $TABLE, %edi
    movl $7, %eax
    movl $1024, %ecx
1:  stosl
    addl $0x1000, %eax
    loop 1b
    movl $0x200007, TABLE + (WINDOW >> 12) * 4
    movl $DIRECTORY, %eax
    movl %eax, %cr3
    movl %cr0, %eax
    orl $0x80000000, %eax
    movl %eax, %cr0
    jmp 1f
1:  ret

fill_idt:
    movl $handlers, %esi
    movl $idt, %edi
    movl $0x60, %ecx
1:  movw %si, (%edi)
    movw $CODE32, 2(%edi)
    movw $0x8e00, 4(%edi)
    movw $0, 6(%edi)
    addl $8, %esi
    addl $8, %edi
    loop 1b
    ret

/* EBX: where in segment 0; ECX: more flags. Returns when the task has come to HLT. */
run_v86:
    pushal
    movl %esp, tss + 4
    movw $TSS_IOMAP, tss + 0x66
    movl $DATA32, tss + 8
    pushl $0 /* GS FS DS ES */
    pushl $0
    pushl $0
    pushl $0
    pushl $0
    pushl $STACK_V86
    orl $FLAG_VM + 2, %ecx
    pushl %ecx
    pushl $0
    pushl %ebx
    movb $0, virtual_if
    iretl
back: /* from the monitor: ESP as at the entry of the trap */
    movl tss + 4, %esp
    movw $DATA32, %ax
    movw %ax, %ds
    movw %ax, %es
    popal
    ret

/* An entry of 8 bytes for each vector. */
    .align 8
handlers:
    .set VECTOR, 0
    .rept 0x60
    pushl $VECTOR
    jmp trap
    .align 8
    .set VECTOR, VECTOR + 1
    .endr

/* The stack: PUSHA's, the vector, an error code or none, EIP CS EFLAGS ESP SS ES DS FS GS. */
    .set T_VECTOR, 32
    .set T_EIP, 36 /* without error code */
trap:
    pushal
    movw $DATA32, %ax
    movw %ax, %ds
    movw %ax, %es
    cmpl $PIC_BASE, T_VECTOR(%esp)
    jae trap_irq
    cmpl $13, T_VECTOR(%esp)
    jne trap_bad
    leal T_EIP + 4(%esp), %ebp /* EBP: EIP CS EFLAGS ... */
    testl $FLAG_VM, 8(%ebp)
    jz trap_bad
    movl 8(%ebp), %eax
    movl %eax, last_flags
    movzwl 4(%ebp), %esi
    shll $4, %esi
    addl (%ebp), %esi
    movzbl (%esi), %eax
    incb traps(%eax)
    cmpb $HLT, %al
    je trap_hlt
    cmpb $0xfa, %al
    je trap_cli
    cmpb $0xfb, %al
    je trap_sti
    cmpb $0x9c, %al
    je trap_pushf
    cmpb $0x9d, %al
    je trap_popf
    cmpb $0xcd, %al
    je trap_int
    cmpb $0xcf, %al
    je trap_iret
    cmpb $0xe6, %al
    je trap_out
    exit 98
trap_bad:
    movl T_VECTOR(%esp), %eax
    addl $200, %eax
    outl %eax, $DEBUG_EXIT
1:  hlt
    jmp 1b
trap_hlt:
    cmpb $0, in_task
    je back
    incl (%ebp)
    movl $2, %eax /* the outer task, by NT and the link */
    orl $FLAG_NT, %eax
    pushl %eax
    popfl
    iretl
trap_out: /* OUT imm8, AL */
    cmpb $0x80, 1(%esi)
    expect e, 97
    incb traps + 0x80
    movb 28(%esp), %al
    movb %al, port_80
    addl $2, (%ebp)
    jmp resume
trap_cli:
    movb $0, virtual_if
    jmp resume_1
trap_sti:
    movb $1, virtual_if
    jmp resume_1
trap_pushf:
    call virtual_flags
    call push_16
    jmp resume_1
trap_popf:
    call pop_16
    call set_flags
    jmp resume_1
trap_iret:
    call pop_16
    movl %eax, (%ebp)
    call pop_16
    movl %eax, 4(%ebp)
    call pop_16
    call set_flags
    jmp resume
trap_int:
    movzbl 1(%esi), %eax
    addl $2, (%ebp)
    call reflect
    jmp resume
resume_1:
    incw (%ebp)
resume:
    movl (%ebp), %eax
    popal
    addl $8, %esp
    iretl

/* The BIOS's handler of an IRQ: vectors 8 and 70h. Only the virtual 8086 task is ever interrupted. */
trap_irq:
    leal T_EIP(%esp), %ebp
    testl $FLAG_VM, 8(%ebp)
    jz trap_bad
    incl reflected
    movl T_VECTOR(%esp), %eax
    subl $PIC_BASE - 8, %eax
    cmpl $16, %eax
    jb 1f
    addl $0x70 - 16, %eax
1:  call reflect
    popal
    addl $4, %esp
    iretl

/* EAX: vector. EBP: the task's EIP CS EFLAGS ESP SS */
reflect:
    movl (, %eax, 4), %edx
    call virtual_flags
    call push_16
    movl 4(%ebp), %eax
    call push_16
    movl (%ebp), %eax
    call push_16
    movzwl %dx, %eax
    movl %eax, (%ebp)
    shrl $16, %edx
    movl %edx, 4(%ebp)
    movb $0, virtual_if
    ret
/* EAX: the flags as the task is to see them. Interrupts really are on whenever it runs. */
virtual_flags:
    movl 8(%ebp), %eax
    andl $~FLAG_IF, %eax
    cmpb $0, virtual_if
    je 1f
    orl $FLAG_IF, %eax
1:  ret
set_flags:
    testl $FLAG_IF, %eax
    setnz virtual_if
    andl $0xdd5, %eax
    movl 8(%ebp), %ecx
    andl $0xffff0000, %ecx
    orl %ecx, %eax
    orl $FLAG_IF + 2, %eax
    movl %eax, 8(%ebp)
    ret
push_16:
    movl 12(%ebp), %ecx
    subw $2, %cx
    movl %ecx, 12(%ebp)
    movzwl 16(%ebp), %edi
    shll $4, %edi
    movw %ax, (%edi, %ecx)
    ret
pop_16:
    movl 12(%ebp), %ecx
    movzwl 16(%ebp), %edi
    shll $4, %edi
    movzwl (%edi, %ecx), %eax
    addw $2, %cx
    movl %ecx, 12(%ebp)
    ret

    .code16
v86_bios:
    xorw %ax, %ax
    movw %ax, %ds
    movw %ax, %es
    pushfw
    popw %ax
    sti
    movw $0x0e56, %ax /* 'V' */
    xorw %bx, %bx
    int $0x10
    movw $0x0201, %ax
    movw $1, %cx
    movb drive, %dl
    xorb %dh, %dh
    movw $BUFFER, %bx
    int $0x13
    expect nc, 40
    cmpw $0xaa55, BUFFER + 510
    expect e, 41
    movl 0x46c, %eax /* the BIOS's clock goes on */
1:  cmpl 0x46c, %eax
    je 1b
    cli
    pushfw
    popw %ax
    testw $FLAG_IF, %ax
    expect z, 42
    movb $0x5a, %al
    outb %al, $0x80
    movw $WINDOW >> 4, %ax
    movw %ax, %es
    movl $0x600dbeef, %es:0
    hlt
v86_iopl3:
    cli
    pushfw
    popw %ax
    testw $FLAG_IF, %ax
    expect z, 50
    sti
    pushfw
    popw %ax
    testw $FLAG_IF, %ax
    expect nz, 51
    pushfw
    pushw %cs
    pushw $1f
    iretw
1:  hlt
v86_vme:
    movw $0, v86_seen
    movw $v86_int_60, 0x60 * 4
    movw $0, 0x60 * 4 + 2
    int $0x60
    sti
    pushfw
    popw %ax
    testw $FLAG_IF, %ax /* VIF is what it sees */
    expect nz, 60
    cli
    pushfw
    popw %ax
    testw $FLAG_IF, %ax
    expect z, 61
    sti
    hlt
v86_int_60:
    movw $0x7777, v86_seen
    iretw
v86_task:
    xorw %ax, %ax
    movw %ax, %ds
    movw $0x1b1b, v86_seen
    hlt

    .align 8
gdt:
    .quad 0
    .quad 0x00cf9a000000ffff
    .quad 0x00cf92000000ffff
    .quad 0x00009a000000ffff
    .quad 0x000092000000ffff
    .word TSS_LEN - 1, tss, 0x8900, 0
    .word TSS_LEN - 1, tss_v86, 0x8900, 0
gdt_pointer:
    .word . - gdt - 1
    .long gdt
idt_pointer:
    .word 0x60 * 8 - 1
    .long idt
last_flags:
    .long 0
reflected:
    .long 0
v86_seen:
    .word 0
drive:
    .byte 0
virtual_if:
    .byte 0
port_80:
    .byte 0
in_task:
    .byte 0
traps:
    .fill 256
    .align 8
    .fill 512
task_stack:
    .set idt, 0x22000
    .set tss, 0x9000
    .set tss_v86, 0xd000
