// Asks for what semihosting has beside the end of a run (Arm, "Semihosting for AArch32 and AArch64"): to
// write a file, to remove one, to run a command on the host. No answer counts. Then it ends with 7.
        .include "console.inc"

        .equ SYS_OPEN, 0x01
        .equ SYS_WRITE, 0x05
        .equ SYS_REMOVE, 0x0e
        .equ SYS_SYSTEM, 0x12
        .equ WRITE, 4                   // as fopen(3) has "w"

        .macro ask operation block
        mov     w0, \operation
        adr     x1, \block
        hlt     0xf000
        .endm

        .text
        .globl _start
_start: begin
        say     running
        ask     SYS_OPEN opened
        adr     x1, written
        str     x0, [x1]
        ask     SYS_WRITE written
        ask     SYS_REMOVE removed
        ask     SYS_SYSTEM command
        say     asked
        mov     w0, 7
        b       exit

        .ltorg

        .data
running:        .asciz "running\n"
asked:          .asciz "asked\n"
made:           .asciz "made"
kept:           .asciz "kept"
touch:          .asciz "touch made"
        .balign 8
opened:         .quad made, WRITE, 4
written:        .quad 0, made, 4
removed:        .quad kept, 4
command:        .quad touch, 10
