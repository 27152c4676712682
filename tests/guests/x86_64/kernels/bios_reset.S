/* Resets its machine as BIOSes want it: by a jump to the reset vector in real mode, where its second
 * processor begins. Entered by PVH, so without paging.
 */
        .code32
        .include "console.inc"
        .equ TRAMPOLINE, 0x8000
        .equ LAPIC, 0xfee00000

        .text
        .globl _start
_start:
        mov     $stack, %esp
        say     running
        mov     second, %eax
        mov     %eax, TRAMPOLINE
        mov     second + 4, %eax
        mov     %eax, TRAMPOLINE + 4
        movl    $0x1ff, LAPIC + 0xf0
        movl    $1 << 24, LAPIC + 0x310
        movl    $0x4500, LAPIC + 0x300
        movl    $1 << 24, LAPIC + 0x310
        movl    $0x4600 | TRAMPOLINE >> 12, LAPIC + 0x300
1:      hlt
        jmp     1b

        .code16
second: ljmp    $0xf000, $0xfff0
        .fill   8 - (. - second), 1, 0x90

        .data
running:        .asciz "running\n"

        .section .note, "a", @note
        .long   4, 4, 18                /* XEN_ELFNOTE_PHYS32_ENTRY */
        .asciz  "Xen"
        .long   _start
