// Writes a pattern to sector 1 of its disk, flushes, reads it back and compares.
//
// Exits with 0 when all is well, with 32 when the disk is read-only and refused the write, and
// otherwise with the number of the step that failed.
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
        bl      request
        tst     w26, F_RO
        b.eq    1f
        cmp     w0, 1                   // IOERR
        expect  eq 11
        mov     w0, 32
        b       exit
1:      cmp     w0, 0
        expect  eq 12

        tst     w26, F_FLUSH
        expect  ne 13
        mov     w0, T_FLUSH
        mov     x1, 0
        bl      request
        cmp     w0, 0
        expect  eq 14

        mov     w0, T_IN
        add     x1, x19, BUFFER
        mov     w2, 3                   // NEXT, WRITE
        bl      request
        cmp     w0, 0
        expect  eq 15
        add     x1, x19, BUFFER
        mov     w2, 512 / 8
        ldr     x3, word
2:      ldr     x4, [x1], 8
        cmp     x3, x4
        expect  eq 16
        subs    w2, w2, 1
        b.ne    2b

        // The device has said that it used buffers.
        ldr     w9, [x20, INTERRUPT_STATUS]
        tst     w9, 1
        expect  ne 17
        put     INTERRUPT_ACK 1
        ldr     w9, [x20, INTERRUPT_STATUS]
        tst     w9, 1
        expect  eq 18

        // A reset ends it, sooner or later.
        put     STATUS 0
3:      ldr     w9, [x20, STATUS]
        cbnz    w9, 3b
        mov     w0, 0
        b       exit

        .balign 8
word:   .ascii "runner!\n"
