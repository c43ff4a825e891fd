/*
 * bios.S: services of the BIOS as DOS and its programs call them, and the chips that they take over from it: the timer's
 * interrupt, the PICs with other vectors, the RTC's periodic interrupt, the A20 gate, and unreal mode.
 */
#include "disk.inc"

    .set BUFFER, 0xc000
    .set TICKS, 0x46c
    .set SMAP, 0x534d4150
    .set TEXT, 0xb800
    .set GDT_DATA, 8

    movb %dl, drive
    call screen
    call disk
    call memory
    call keyboard
    call timer
    call rtc
    call a20
    call unreal
    call limits
    exit 0

/* INT 10h: mode 3, a character with its colour, the cursor moves on, and what is on the screen. */
screen:
    movw $0x0003, %ax
    int $0x10
    movb $0x0f, %ah
    int $0x10
    cmpw $0x5003, %ax /* 80 columns, mode 3 */
    expect e, 1
    movw $0x0200, %ax
    movw $0x0507, %dx /* line 5, column 7 */
    xorw %bx, %bx
    int $0x10
    movw $0x0941, %ax /* 'A', once, yellow on blue */
    movw $0x001e, %bx
    movw $1, %cx
    int $0x10
    movw $0x0e42, %ax /* 'B' as on a teletype, over it */
    xorw %bx, %bx
    int $0x10
    movw $0x0300, %ax
    xorw %bx, %bx
    int $0x10
    cmpw $0x0508, %dx
    expect e, 2
    movw $TEXT, %ax
    movw %ax, %es
    cmpw $0x1e42, %es:(5 * 80 + 7) * 2
    expect e, 3
    movw $0x1130, %ax /* the font's lines */
    movw $0x0600, %bx
    int $0x10
    cmpb $16, %cl
    expect e, 4
    xorw %ax, %ax
    movw %ax, %es
    movw $0x4f00, %ax /* VBE: there is some */
    movw $BUFFER, %di
    int $0x10
    cmpw $0x004f, %ax
    expect e, 5
    cmpl $0x41534556, BUFFER /* VESA */
    expect e, 6
    ret

/* INT 13h: geometry, a sector by cylinder, head and sector, the same by its number, written and read back. */
disk:
    movb $0x08, %ah
    movb drive, %dl
    xorw %di, %di
    int $0x13
    expect nc, 10
    xorw %ax, %ax
    movw %ax, %es
    movw $0x0201, %ax
    movw $0x0001, %cx
    xorb %dh, %dh
    movb drive, %dl
    movw $BUFFER, %bx
    int $0x13
    expect nc, 11
    cmpw $0xaa55, BUFFER + 510
    expect e, 12
    movl $0x12345678, BUFFER
    movw $0x4300, %ax
    call disk_packet
    expect nc, 13
    movl $0, BUFFER
    movw $0x4200, %ax
    call disk_packet
    expect nc, 14
    cmpl $0x12345678, BUFFER
    expect e, 15
    ret
disk_packet:
    movb drive, %dl
    movw $packet, %si
    int $0x13
    ret

/* INT 15h: what DOS's memory managers ask. */
memory:
    movw $0xe801, %ax
    int $0x15
    expect nc, 20
    cmpw $0x3c00, %ax /* 15 MiB below 16 MiB, in KiB */
    expect e, 21
    movb $0x88, %ah
    int $0x15
    expect nc, 22
    cmpw $0x3c00, %ax
    expect ae, 23
    xorl %ebx, %ebx
    movw $0, entries
1:  movl $0xe820, %eax
    movl $SMAP, %edx
    movl $20, %ecx
    movw $BUFFER, %di
    int $0x15
    expect nc, 24
    cmpl $SMAP, %eax
    expect e, 25
    incw entries
    testl %ebx, %ebx
    jnz 1b
    cmpw $3, entries
    expect ae, 26
    movl $0xdeadbeef, BUFFER /* 16 bytes up to 2 MiB, and down again */
    movb $0x93, move_to + 5
    movl $BUFFER, move_from + 2
    movb $0x93, move_from + 5
    movw $0, move_to + 2
    movb $0x20, move_to + 4
    call block_move
    movl $0, BUFFER
    movw $0, move_from + 2
    movb $0x20, move_from + 4
    movw $BUFFER, move_to + 2
    movb $0, move_to + 4
    call block_move
    cmpl $0xdeadbeef, BUFFER
    expect e, 27
    ret
block_move:
    movb $0x87, %ah
    movw $8, %cx
    movw $move_table, %si
    int $0x15
    expect nc, 28
    ret

/* INT 16h: a key stuffed into the buffer comes out; then there is none. */
keyboard:
    movb $0x05, %ah
    movw $0x1e61, %cx
    int $0x16
    testb %al, %al
    expect z, 30
    movb $0x01, %ah
    int $0x16
    expect nz, 31
    xorb %ah, %ah
    int $0x16
    cmpw $0x1e61, %ax
    expect e, 32
    movb $0x01, %ah
    int $0x16
    expect z, 33
    ret

/* The BIOS counts ticks; then the PICs get other vectors and the PIT 1000 interrupts a second, as DOS extenders do. */
timer:
    movl TICKS, %eax
1:  hlt
    cmpl TICKS, %eax
    je 1b
    cli
    movw $timer_tick, 0x50 * 4
    movw $0, 0x50 * 4 + 2
    pic_set 0x20, 0x50, 4
    pic_set 0xa0, 0x58, 2
    movb $0xfe, %al /* only the timer */
    outb %al, $0x21
    movb $0xff, %al
    outb %al, $0xa1
    movb $0x34, %al /* counter 0, mode 2 */
    outb %al, $0x43
    movw $1193, %ax
    outb %al, $0x40
    movb %ah, %al
    outb %al, $0x40
    movw $0, ticks
    sti
1:  hlt
    cmpw $20, ticks
    jb 1b
    cli
    movb $0x36, %al /* as it was */
    outb %al, $0x43
    xorb %al, %al
    outb %al, $0x40
    outb %al, $0x40
    pic_set 0x20, 0x08, 4
    pic_set 0xa0, 0x70, 2
    movb $0xb8, %al
    outb %al, $0x21
    movb $0x8f, %al
    outb %al, $0xa1
    sti
    ret
timer_tick:
    pushw %ax
    incw %cs:ticks
    movb $0x20, %al
    outb %al, $0x20
    popw %ax
    iretw

/* The RTC's periodic interrupt, 1024 a second, by IRQ 8. */
rtc:
    cli
    movw $rtc_tick, 0x70 * 4
    movw $0, 0x70 * 4 + 2
    movb $0xfe, %al
    outb %al, $0xa1
    movw $0x260a, %ax
    call rtc_set
    movw $0x420b, %ax
    call rtc_set
    movw $0, ticks
    sti
1:  hlt
    cmpw $8, ticks
    jb 1b
    cli
    movw $0x020b, %ax
    call rtc_set
    sti
    ret
rtc_set:
    outb %al, $0x70
    movb %ah, %al
    outb %al, $0x71
    ret
rtc_tick:
    pushw %ax
    movb $0x0c, %al
    outb %al, $0x70
    inb $0x71, %al
    testb $0x40, %al
    jz 1f
    incw %cs:ticks
1:  movb $0x20, %al
    outb %al, $0xa0
    outb %al, $0x20
    popw %ax
    iretw

/* The gate by the BIOS, by the keyboard controller as HIMEM has it, and by port 92h: ffff:0510 is 0000:0500, or not. */
a20:
    movw $0x2400, %ax
    int $0x15
    call a20_look
    expect e, 40
    movw $0x2401, %ax
    int $0x15
    call a20_look
    expect ne, 41
    movb $0xdd, %al
    call a20_keyboard
    call a20_look
    expect e, 42
    movb $0xdf, %al
    call a20_keyboard
    call a20_look
    expect ne, 43
    ret
a20_look: /* ZF: it is closed */
    movw $0xffff, %ax
    movw %ax, %es
    movl $0, 0x500
    movl $0x55aa55aa, %es:0x510
    cmpl $0x55aa55aa, 0x500
    ret
a20_keyboard: /* AL: what goes to the output port */
    pushw %ax
    call a20_ready
    movb $0xd1, %al
    outb %al, $0x64
    call a20_ready
    popw %ax
    outb %al, $0x60
    call a20_ready
    ret
a20_ready:
    inb $0x64, %al
    testb $2, %al
    jnz a20_ready
    ret

/* A data segment of 4 GiB that stays in real mode, through loads of its register; interrupts keep it. */
unreal:
    cli
    lgdt gdt_pointer
    movl %cr0, %eax
    orb $1, %al
    movl %eax, %cr0
    movw $GDT_DATA, %bx
    movw %bx, %fs
    andb $0xfe, %al
    movl %eax, %cr0
    xorw %ax, %ax
    movw %ax, %fs
    sti
    hlt
    movl $0x200000, %esi
    movl $0x600dcafe, %fs:(%esi)
    incl %fs:4(%esi)
    movl $0x200000, %edi
    cmpl $0x600dcafe, %fs:(%edi)
    expect e, 50
    movw $0x1000, %ax /* the base moves, the limit stays */
    movw %ax, %fs
    movl $0x1f0000, %esi
    cmpl $0x600dcafe, %fs:(%esi)
    expect e, 51
    ret

/* Without that, what lies beyond ffff is a #GP, and a word at ffff too. */
limits:
    movw 13 * 4, %bp
    movw $gp, 13 * 4
    movw $0, 13 * 4 + 2
    movb $0xff, %al /* IRQ 5 has the same vector */
    outb %al, $0x21
    movw $0, ticks
    xorw %ax, %ax
    movw %ax, %gs
    movw $1f, resume
    movl $0x10000, %esi
    movb %gs:(%esi), %al
1:  movw $1f, resume
    movw %gs:0xffff, %ax
1:  cmpw $2, ticks
    expect e, 60
    movw $1f, resume + 2
    movw $ud, 6 * 4
    movw $0, 6 * 4 + 2
    ud2
1:  cmpw $3, ticks
    expect e, 61
    movw %bp, 13 * 4
    ret
gp:
    incw ticks
    movw %sp, %bx
    movw resume, %ax
    movw %ax, %ss:(%bx)
    iretw
ud:
    incw ticks
    movw %sp, %bx
    movw resume + 2, %ax
    movw %ax, %ss:(%bx)
    iretw

    .align 8
gdt:
    .quad 0
    .quad 0x00cf93000000ffff
gdt_pointer:
    .word 15
    .long gdt
packet:
    .byte 16, 0
    .word 1
    .word BUFFER, 0
    .quad 100
move_table:
    .fill 16
move_from:
    .word 0xffff
    .fill 6
move_to:
    .word 0xffff
    .fill 6
    .fill 16
drive:
    .byte 0
    .align 2
entries:
    .word 0
ticks:
    .word 0
resume:
    .word 0, 0
