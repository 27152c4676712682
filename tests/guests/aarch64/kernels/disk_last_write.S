// Writes a pattern to sector 1 of its disk, and ends without waiting for it: what a guest has handed
// over is on the disk when the run is over. Exits with 0, or the number of the step that failed.
        .include "console.inc"
        .include "disk.inc"

        .text
        .globl _start
_start: begin
        bl      start_disk

        ldr     x0, word
        bl      fill_pattern
        mov     w0, T_OUT
        add     x1, x19, PATTERN
        mov     w2, 1                   // NEXT
        bl      submit
        mov     w0, 0
        b       exit

        .balign 8
word:   .ascii "the last"
