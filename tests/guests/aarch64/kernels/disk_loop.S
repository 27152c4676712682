// Gives its disk a chain without an end, expects to be told that the device needs a reset, resets it
// and reads a sector. Exits with 0, or the number of the step that failed.
        .include "console.inc"
        .include "disk.inc"

        .text
        .globl _start
_start: begin
        bl      start_disk

        // Descriptor 0, back to itself.
        add     x1, x19, DESCRIPTORS
        add     x2, x19, HEADER
        mov     x3, 16
        movk    x3, 1, lsl 32           // NEXT, 0
        stp     x2, x3, [x1]
        bl      publish
1:      ldr     w9, [x20, STATUS]
        tbz     w9, 6, 1b               // NEEDS_RESET
        ldr     w9, [x20, INTERRUPT_STATUS]
        tst     w9, 2
        expect  ne 20
        add     x1, x19, USED
        ldrh    w9, [x1, 2]
        cmp     w9, 0
        expect  eq 21

        put     STATUS 0
2:      ldr     w9, [x20, STATUS]
        cbnz    w9, 2b
        holds   INTERRUPT_STATUS 0
        expect  eq 22
        add     x1, x19, AVAILABLE
        strh    wzr, [x1, 2]
        bl      initialize
        mov     w0, T_IN
        add     x1, x19, BUFFER
        mov     w2, 3                   // NEXT, WRITE
        bl      request
        cmp     w0, 0
        expect  eq 23
        mov     w0, 0
        b       exit
