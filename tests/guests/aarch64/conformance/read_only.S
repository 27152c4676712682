// Reads RAM that it may only read, writes it in every width, and reads it again.
.include "suite.inc"

    mov     x11, WINDOW
    ldr     x2, [x11]
    report  x2
    ldr     x2, =0x1122334455667788
    strb    w2, [x11]
    strh    w2, [x11]
    str     w2, [x11]
    str     x2, [x11]
    ldr     x2, [x11]
    report  x2
    done

.ltorg
