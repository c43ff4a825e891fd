/*
 * serial.S: protected mode as multiboot leaves it: the magic in EAX, the UART takes bytes, RAM holds what
 * is written to it, REP MOVS copies.
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
    cmpl $0x2badb002, %eax
    jne bad_magic
    movl $stack_end, %esp
    movl $text, %esi
    movw $COM1, %dx
print:
    movw $COM1 + 5, %dx
    inb %dx, %al
    testb $0x20, %al
    jz print
    lodsb
    testb %al, %al
    jz printed
    movw $COM1, %dx
    outb %al, %dx
    jmp print
printed:
    movl $text, %esi
    movl $copy, %edi
    movl $text_end - text, %ecx
    cld
    rep movsb
    movl $text, %esi
    movl $copy, %edi
    movl $text_end - text, %ecx
    repe cmpsb
    jne bad_copy
    call pushed
    exit 0
pushed:
    pushl $0x12345678
    popl %eax
    cmpl $0x12345678, %eax
    jne bad_stack
    ret
bad_magic:
    exit 1
bad_copy:
    exit 2
bad_stack:
    exit 3

    .data
text:
    .asciz "bare serial works\r\n"
text_end:
    .bss
    .lcomm copy, 64
    .lcomm stack, 4096
    .set stack_end, stack + 4096
