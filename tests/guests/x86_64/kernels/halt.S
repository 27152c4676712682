/* Says that it runs, and halts with interrupts off: nothing of its own can wake it. */
        .include "console.inc"

        .text
        .globl _start
_start:
        mov     $stack, %esp
        say     running
        cli
1:      hlt
        jmp     1b

        .data
running:        .asciz "running\n"
