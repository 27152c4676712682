// Has its firmware switch it off (PSCI).
        .include "console.inc"

        .text
        .globl _start
_start: begin
        say     running
        ldr     x0, =SYSTEM_OFF
        hvc     0
        b       .

        .ltorg

        .data
running:        .asciz "running\n"
