// Has its firmware start it again (PSCI).
        .include "console.inc"

        .text
        .globl _start
_start: begin
        say     running
        ldr     x0, =SYSTEM_RESET
        hvc     0
        b       .

        .ltorg

        .data
running:        .asciz "running\n"
