// Exits with the N of `exit=N` on its command line, all 32 bits of it.
        .include "console.inc"
        .include "fdt.inc"

        .text
        .globl _start
_start: begin
        adr     x20, word
        bl      find_number
        b       exit

        .data
word:           .asciz "exit="
