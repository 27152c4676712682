/* Does what Unikraft does on Firecracker (plat/kvm/x86/lxboot.c, tscclock.c, plat/common/x86/cpu_native.c): an
 * ELF64 kernel without a note and with sections `.uk_…`, entered by Linux's 64-bit protocol, which wants a
 * command line with its length, measures by the interval timer, reads the clock, and ends by a reset.
 */
        .include "../kernels/console.inc"
        .include "../kernels/linux.inc"
        .include "old.inc"

        .equ    BOOT_FLAG, 0x1fe
        .equ    HEADER, 0x202
        .equ    CMDLINE_SIZE, 0x238

        .text
        .globl  _start
_start:
        mov     $stack, %esp
        mov     %esi, %ebp
        cmpw    $0xaa55, BOOT_FLAG(%rbp)
        jne     failed
        cmpl    $0x53726448, HEADER(%rbp)
        jne     failed
        call    use_timer
        call    use_clock
        call    use_pics
        say     works
        /* It takes the length from its field, and not by the NUL. */
        mov     CMD_LINE_PTR(%rbp), %esi
        mov     CMDLINE_SIZE(%rbp), %ecx
        call    print_bytes
        say     newline
        mov     $0xfe, %al
        out     %al, $0x64
        hlt

failed: say     broken
        mov     $1, %eax
        exit

        .data
newline:        .asciz "\n"

        .section .uk_inittab, "a"
        .quad   0
