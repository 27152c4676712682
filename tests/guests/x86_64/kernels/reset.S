/* Resets its machine through the keyboard controller. */
        .include "console.inc"

        .text
        .globl _start
_start:
        mov     $stack, %esp
        say     running
        mov     $0xfe, %al
        out     %al, $0x64
1:      hlt
        jmp     1b

        .data
running:        .asciz "running\n"
