/*
 * floppy.S: a floppy's boot sector: it asks INT 13h for the geometry of drive A:, reads the last sector of the disk
 * (its first four bytes are its number, as the runner has put them), a run of sectors over a whole track, writes
 * the second sector of track 1 and reads it back. It ends through the debug-exit port: 0 is success.
 */
#include "sector.inc"
    .set BUF, 0x8000

    sector_start
    testb %dl, %dl /* the first floppy */
    jne bad_drive
    movb $0x08, %ah
    xorw %di, %di
    int $0x13
    jc bad_drive
    movw %cx, geometry
    movb %dh, last_head
    /* the last sector: CX as it came, the number is ((cyl * heads) + head) * spt + spt - 1 */
    movw %ds, %ax
    movw %ax, %es
    movw geometry, %cx
    movb last_head, %dh
    movb $1, %al
    call read
    movzbl geometry, %ebx /* sectors of a track; no floppy has 64 */
    andl $0x3f, %ebx
    movzbl geometry + 1, %eax
    movzbl last_head, %ecx
    incl %ecx
    mull %ecx
    decl %ecx
    addl %ecx, %eax
    mull %ebx
    addl %ebx, %eax
    decl %eax
    cmpl %eax, BUF
    jne bad_data
    /* track 1, head 0, all of it */
    movw $0x0101, %cx
    xorb %dh, %dh
    movb geometry, %al
    andb $0x3f, %al
    call read
    movzbl last_head, %eax
    incl %eax
    mull %ebx
    movw $BUF, %si
    movw %bx, %cx
1:  cmpl %eax, (%si)
    jne bad_data
    incl %eax
    addw $512, %si
    loop 1b
    /* write and read back */
    movw $BUF, %di
    movw $256, %cx
    movw $0x5aa5, %ax
    rep stosw
    movw $0x0102, %cx
    movw $0x0301, %ax
    xorw %dx, %dx
    movw $BUF, %bx
    int $0x13
    jc bad_write
    movw $BUF, %di
    movw $256, %cx
    xorw %ax, %ax
    rep stosw
    movw $0x0102, %cx
    xorb %dh, %dh
    movb $1, %al
    call read
    movw $BUF, %di
    movw $256, %cx
    movw $0x5aa5, %ax
    repe scasw
    jne bad_data
    exit 0
bad_drive:
    exit 1
bad_read:
    exit 2
bad_data:
    exit 3
bad_write:
    exit 4

/* AL sectors from CX, DH of drive A: to BUF. */
read:
    movb $0x02, %ah
    xorb %dl, %dl
    movw $BUF, %bx
    int $0x13
    jc bad_read
    movzbl geometry, %ebx
    andl $0x3f, %ebx
    ret

geometry:
    .word 0
last_head:
    .byte 0
    .org 510
    .word 0xaa55
