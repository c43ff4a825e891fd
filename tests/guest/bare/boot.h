/*
 * boot.h: what every bare program begins with: a multiboot 1 header (loaded where the ELF says), and how
 * to end: `exit v` writes v to the debug-exit port; 0 is success.
 */
.set MULTIBOOT_MAGIC, 0x1badb002.set DEBUG_EXIT, 0xf4.set COM1,
    0x3f8

            .macro multiboot_header.align 4.long MULTIBOOT_MAGIC.long 0.long -
        MULTIBOOT_MAGIC
            .endm

            .macro exit value movl $\value,
    % eax outl % eax, $DEBUG_EXIT 1 : hlt jmp 1b.endm
