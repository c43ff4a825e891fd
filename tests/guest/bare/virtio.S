/*
 * virtio.S: a virtio device driven by hand: virtio-rng over PCI, its queue's doorbell rung and its MSI-X
 * interrupt taken out of HLT, many times. A doorbell or an interrupt that is lost hangs it. Under kvm the
 * doorbell is an ioeventfd.
 * kvm: emulated
 *
 * Exit codes are at the end.
 */
#include "boot.inc"
#include "long.inc"
    .set PCI_ADDRESS, 0xcf8
    .set PCI_DATA, 0xcfc
    .set RNG_ID, 0x10441af4
    .set MSIX_BAR, 0xc1000000
    .set VIRTIO_BAR, 0xc2000000
    .set NOTIFY, VIRTIO_BAR + 0x3000
    .set APIC, 0xfee00000
    .set VECTOR, 0x50
    .set QUEUE_LEN, 8
    .set BUFFER_LEN, 64
    .set ROUNDS, 100

    .text
    .code32
    .globl _start
_start:
    jmp start
    multiboot_header
start:
    movl $stack_end, %esp
    movb $0xff, %al /* the 8259s stay silent */
    outb %al, $0x21
    outb %al, $0xa1
    map_gib 0, pd
    map_gib 0xc0000000, pd_devices
    enter_long_mode

    .code64
long_mode:
    load_data_segments
    set_gate VECTOR, on_interrupt
    lidt idt_pointer
    movl $APIC, %edi
    movl $0x1ff, 0xf0(%rdi)

    /* the device, its BARs, memory and bus mastering on */
    movl $0x80000000, %esi
1:  xorl %ecx, %ecx
    call pci_read
    cmpl $RNG_ID, %eax
    je 2f
    addl $0x800, %esi
    cmpl $0x80010000, %esi
    jb 1b
    jmp no_device
2:  movl $MSIX_BAR, %eax
    movl $0x10, %ecx
    call pci_write
    movl $VIRTIO_BAR, %eax
    movl $0x20, %ecx
    call pci_write
    xorl %eax, %eax
    movl $0x24, %ecx
    call pci_write
    movl $6, %eax
    movl $4, %ecx
    call pci_write

    /* MSI-X: entry 0 is for us */
    movl $0x34, %ecx
    call pci_read
1:  movzbl %al, %ecx
    testl %ecx, %ecx
    jz no_msix
    movl %ecx, %ebp
    call pci_read
    cmpb $0x11, %al
    je 2f
    shrl $8, %eax
    jmp 1b
2:  orl $0x80000000, %eax /* enabled */
    movl %ebp, %ecx
    call pci_write
    leal 4(%rbp), %ecx
    call pci_read
    testl $7, %eax
    jnz no_msix /* not in BAR 0 */
    movl $MSIX_BAR, %edi
    addl %eax, %edi
    movl $APIC, (%rdi)
    movl $0, 4(%rdi)
    movl $VECTOR, 8(%rdi)
    movl $0, 12(%rdi)

    /* the device: virtio 1.x, one queue, vector 0 */
    movl $VIRTIO_BAR, %edi
    movb $0, 0x14(%rdi)
    movb $3, 0x14(%rdi)
    movl $1, 0x08(%rdi)
    movl $1, 0x0c(%rdi) /* VIRTIO_F_VERSION_1 */
    movb $11, 0x14(%rdi)
    testb $8, 0x14(%rdi)
    jz bad_features
    movw $0, 0x16(%rdi)
    movw $QUEUE_LEN, 0x18(%rdi)
    movw $0, 0x1a(%rdi)
    cmpw $0, 0x1a(%rdi)
    jne no_msix
    movl $descriptors, 0x20(%rdi)
    movl $0, 0x24(%rdi)
    movl $available, 0x28(%rdi)
    movl $0, 0x2c(%rdi)
    movl $used, 0x30(%rdi)
    movl $0, 0x34(%rdi)
    movw $1, 0x1c(%rdi)
    movb $15, 0x14(%rdi)

    /* every round: one buffer, one doorbell, one interrupt */
    movl $buffer, descriptors
    movl $BUFFER_LEN, descriptors + 8
    movw $2, descriptors + 12 /* the device writes */
    movl $NOTIFY, %edi
    xorl %ebx, %ebx
3:  movq $0, buffer
    movq $0, buffer + BUFFER_LEN - 8
    incl %ebx
    movw %bx, available + 2
    movw $0, (%rdi)
4:  cli
    cmpl %ebx, interrupts
    jae 5f
    sti
    hlt
    jmp 4b
5:  cmpw %bx, used + 2
    jne bad_used
    leal -1(%rbx), %eax
    andl $QUEUE_LEN - 1, %eax
    cmpl $BUFFER_LEN, used + 8(, %rax, 8)
    jne bad_used
    cmpq $0, buffer
    je bad_data
    cmpq $0, buffer + BUFFER_LEN - 8
    je bad_data
    cmpl $ROUNDS, %ebx
    jb 3b
    cmpl $ROUNDS, interrupts
    jne bad_count
    exit 0

on_interrupt:
    incl interrupts
    pushq %rdi
    movl $APIC, %edi
    movl $0, 0xb0(%rdi) /* EOI */
    popq %rdi
    iretq

/* ESI: the device's address in configuration space; ECX: register; EAX: what is or goes there. */
pci_read:
    leal (%rsi, %rcx), %eax
    movl $PCI_ADDRESS, %edx
    outl %eax, %dx
    movl $PCI_DATA, %edx
    inl %dx, %eax
    ret
pci_write:
    movl %eax, %ebx
    leal (%rsi, %rcx), %eax
    movl $PCI_ADDRESS, %edx
    outl %eax, %dx
    movl $PCI_DATA, %edx
    movl %ebx, %eax
    outl %eax, %dx
    ret

no_device:
    exit 1
no_msix:
    exit 2
bad_features:
    exit 3
bad_used:
    exit 4
bad_data:
    exit 5
bad_count:
    exit 6

    .bss
    .align 4096
pd_devices:
    .skip 4096
descriptors:
    .skip 16 * QUEUE_LEN
    .align 16
available:
    .skip 6 + 2 * QUEUE_LEN
    .align 16
used:
    .skip 6 + 8 * QUEUE_LEN
    .align 16
buffer:
    .skip BUFFER_LEN
interrupts:
    .skip 4
    .align 16
    .skip 4096
stack_end:
