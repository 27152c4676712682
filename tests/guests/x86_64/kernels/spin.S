/* Says that it runs, and never ends: no exits, no halt. */
        .include "console.inc"

        .text
        .globl _start
_start:
        mov     $stack, %esp
        say     running
1:      jmp     1b

        .data
running:        .asciz "running\n"
