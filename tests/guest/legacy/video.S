/*
 * video.S: graphics as DOS programs make them, each kept on the screen until a byte comes through COM1: mode 13h;
 * mode X with its second page, to which latches copied the first (the picture is x XOR y in all three); mode 12h,
 * 16 colours in planes, with set/reset and the bit mask. Palette: colour i is red i / 4, green i % 64, blue 63 - i / 4.
 */
#include "disk.inc"

    .set VIDEO, 0xa000
    .set SEQUENCER, 0x3c4
    .set GRAPHICS, 0x3ce
    .set CRTC, 0x3d4
    .set MODE_X_PAGE, 320 * 240 / 4

    .macro set_register port, pair
    movw $\port, %dx
    movw $\pair, %ax
    outw %ax, %dx
    .endm

    movw $VIDEO, %ax
    movw %ax, %es
    movw $0x13, %ax
    int $0x10
    call palette
    call draw_linear
    movb $'1', %al
    call shown
    call mode_x
    call draw_mode_x
    movb $'2', %al
    call shown
    movw $0x12, %ax
    int $0x10
    call draw_planar
    movb $'3', %al
    call shown
    exit 0

/* AL: which; it is told, and the host says when to go on. */
shown:
    cli /* at the timer's interrupts SeaBIOS takes what comes for keys */
    movw $COM1, %dx
    movb %al, %ah
    movb $'#', %al
    outb %al, %dx
    movb %ah, %al
    outb %al, %dx
    movw $COM1 + 5, %dx
1:  inb %dx, %al
    testb $1, %al
    jz 1b
    movw $COM1, %dx
    inb %dx, %al
    sti
    ret

palette:
    movw $0x3c8, %dx
    xorb %al, %al
    outb %al, %dx
    incw %dx
    xorw %bx, %bx
1:  movw %bx, %ax
    shrb $2, %al
    outb %al, %dx
    movb %bl, %al
    andb $63, %al
    outb %al, %dx
    movb %bl, %al
    shrb $2, %al
    xorb $63, %al
    outb %al, %dx
    incb %bl
    jnz 1b
    ret

draw_linear:
    xorw %di, %di
    xorw %bx, %bx /* y */
1:  xorw %cx, %cx
2:  movb %cl, %al
    xorb %bl, %al
    stosb
    incw %cx
    cmpw $320, %cx
    jb 2b
    incw %bx
    cmpw $200, %bx
    jb 1b
    ret

/* From mode 13h to 320 by 240 in four planes. */
mode_x:
    set_register SEQUENCER, 0x0604
    set_register SEQUENCER, 0x0100
    movw $0x3c2, %dx
    movb $0xe3, %al
    outb %al, %dx
    set_register SEQUENCER, 0x0300
    set_register CRTC, 0x0e11 /* unlock */
    movw $crtc_values, %si
    movw $CRTC, %dx
    movw $10, %cx
1:  lodsw
    outw %ax, %dx
    loop 1b
    ret

draw_mode_x:
    xorw %bp, %bp /* the plane */
1:  movw %bp, %cx
    movw $0x0102, %ax
    shlb %cl, %ah
    movw $SEQUENCER, %dx
    outw %ax, %dx
    xorw %di, %di
    xorw %bx, %bx
2:  movw %bp, %cx
3:  movb %cl, %al
    xorb %bl, %al
    stosb
    addw $4, %cx
    cmpw $320, %cx
    jb 3b
    incw %bx
    cmpw $240, %bx
    jb 2b
    incw %bp
    cmpw $4, %bp
    jb 1b
    set_register SEQUENCER, 0x0f02
    set_register GRAPHICS, 0x4105 /* write mode 1: the latches */
    pushw %ds
    movw $VIDEO, %ax
    movw %ax, %ds
    xorw %si, %si
    movw $MODE_X_PAGE, %di
    movw $MODE_X_PAGE, %cx
    rep movsb
    popw %ds
    set_register GRAPHICS, 0x4005
    set_register CRTC, 0x4b0c /* MODE_X_PAGE, high and low */
    set_register CRTC, 0x000d
    xorw %di, %di /* what was the first page is not seen */
    movw $MODE_X_PAGE, %cx
    xorb %al, %al
    rep stosb
    ret

/* Vertical stripes of 16 pixels, in the colour of their number; in each, a pixel of its complement on every line. */
draw_planar:
    xorw %bx, %bx /* byte within the line */
1:  movb %bl, %ah
    shrb $1, %ah
    andb $15, %ah
    xorb %al, %al /* set/reset */
    movw $GRAPHICS, %dx
    outw %ax, %dx
    set_register GRAPHICS, 0x0f01
    set_register GRAPHICS, 0xff08
    call draw_column
    testb $1, %bl
    jnz 2f
    movb %bl, %ah
    shrb $1, %ah
    notb %ah
    andb $15, %ah
    xorb %al, %al
    movw $GRAPHICS, %dx
    outw %ax, %dx
    set_register GRAPHICS, 0x1008 /* the fourth pixel */
    call draw_column
2:  incw %bx
    cmpw $80, %bx
    jb 1b
    ret
draw_column:
    movw %bx, %di
    movw $480, %cx
1:  movb %es:(%di), %al /* into the latches */
    movb %al, %es:(%di)
    addw $80, %di
    loop 1b
    ret

crtc_values:
    .word 0x0d06, 0x3e07, 0x4109, 0xea10, 0xac11, 0xdf12, 0x0014, 0xe715, 0x0616, 0xe317
