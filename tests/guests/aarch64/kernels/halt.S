// Says that it runs, and halts with interrupts masked: nothing of its own can wake it.
        .include "console.inc"

        .text
        .globl _start
_start: begin
        say     running
1:      wfi
        b       1b

        .data
running:        .asciz "running\n"
