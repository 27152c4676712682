/* Takes an exception with no interrupt descriptor table. */
        .include "console.inc"

        .text
        .globl _start
_start:
        mov     $stack, %esp
        say     running
        lidt    nothing
        ud2

        .data
running:        .asciz "running\n"
nothing:        .word 0
                .quad 0
