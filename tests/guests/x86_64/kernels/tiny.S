/* The smallest guest every monitor can start: the same bytes are valid in 32-bit protected mode
 * (PVH) and in 64-bit mode (Linux's entry). Says hello and ends by whatever end is honoured.
 * STORM, when set, reads the UART's line status that many times first.
 */
        .ifndef STORM
        .equ STORM, 0
        .endif

        .section .note, "a", @note
        .balign 4
        .long 4, 4, 18                  /* note: name size, description size, PHYS32_ENTRY */
        .asciz "Xen"
        .long _start

        .text
        .code32
        .globl _start
_start:
        .if STORM
        mov     $0x3fd, %edx
        mov     $STORM, %ecx
1:      in      %dx, %al
        .byte   0xff, 0xc9              /* dec %ecx, in the encoding both modes have */
        jnz     1b
        .endif
        mov     $0x3f8, %edx
        .irp    code, 0x68, 0x65, 0x6c, 0x6c, 0x6f, 0x0a        /* "hello\n" */
        mov     $\code, %al
        out     %al, %dx
        .endr
        xor     %eax, %eax
        mov     $0x501, %edx            /* isa-debug-exit: runner, OPS's QEMU */
        out     %al, %dx
        mov     $0x600, %edx            /* Cloud Hypervisor's shutdown device */
        mov     $0x34, %al
        out     %al, %dx
        mov     $0x64, %edx             /* keyboard controller: reset */
        mov     $0xfe, %al
        out     %al, %dx
2:      hlt
        jmp     2b
