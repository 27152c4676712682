// Says that it runs, and never ends: no exits, no halt.
        .include "console.inc"

        .text
        .globl _start
_start: begin
        say     running
        b       .

        .data
running:        .asciz "running\n"
