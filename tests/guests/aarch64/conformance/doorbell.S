// Writes 1, 2 and 3 to two device registers, each in 4 bytes and then in 2, and does it again for as long
// as it is told 1.
.include "suite.inc"

again:
.irp value, 1, 2, 3
    mov     w2, \value
    str     w2, [x9, 8]
    str     w2, [x9, 16]
    strh    w2, [x9, 8]
    strh    w2, [x9, 16]
.endr
    ldr     w2, [x9]
    cmp     w2, 1
    b.eq    again
    done
