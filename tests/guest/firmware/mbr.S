/*
 * mbr.S: a boot sector: what it finds at its start is what firmware promises; it prints on COM1 by the BIOS and
 * by the port, reads its second sector by INT 13h, tries the A20 gate, and ends through the debug-exit port: 0 is success.
 */
#include "sector.inc"
    .set COM1, 0x3f8
    .set SECOND, 0x7e00
    .set MAGIC, 0x32656352

    sector_start
    cmpb $0x80, %dl /* the first hard disk */
    jne bad_drive
    movw $text, %si
    call print
    movw $0x4200, %ax /* extended read */
    movb $0x80, %dl
    movw $packet, %si
    int $0x13
    jc bad_read
    cmpl $MAGIC, SECOND
    jne bad_read
    int $0x12 /* conventional memory in KiB */
    cmpw $600, %ax
    jb bad_memory
    xorl %ebx, %ebx /* the first entry of the memory map */
    movl $0xe820, %eax
    movl $0x534d4150, %edx
    movl $20, %ecx
    movw $map, %di
    int $0x15
    jc bad_memory
    cmpl $0x534d4150, %eax
    jne bad_memory
    cmpl $1, map + 16
    jne bad_memory
    call a20
    exit 0
bad_drive:
    exit 1
bad_read:
    exit 2
bad_memory:
    exit 3
bad_a20:
    exit 4

/* With the gate closed ffff:0610 is 0000:0600, and with it open it is not; seen by the very next instruction. */
a20:
    movw $0xffff, %ax
    movw %ax, %es
    inb $0x92, %al
    andb $0xfc, %al
    outb %al, $0x92
    movb $0x22, %es:0x610
    cmpb $0x22, 0x600
    jne bad_a20
    orb $2, %al
    outb %al, $0x92
    movb $0x33, %es:0x610
    cmpb $0x22, 0x600
    jne bad_a20
    cmpb $0x33, %es:0x610
    jne bad_a20
    ret

print:
    movw $COM1 + 5, %dx
    inb %dx, %al
    testb $0x20, %al
    jz print
    lodsb
    testb %al, %al
    jz 1f
    movw $COM1, %dx
    outb %al, %dx
    jmp print
1:  ret

text:
    .asciz "boot sector runs\r\n"
    .align 4
packet:
    .byte 16, 0
    .word 1
    .word SECOND, 0
    .quad 1
map:
    .fill 20
    .org 510
    .word 0xaa55
    .long MAGIC
    .org 1024
