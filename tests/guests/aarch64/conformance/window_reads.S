// Reads the same 8 bytes again and again and reports them.
.include "suite.inc"

    mov     x11, WINDOW
again:
    ldr     x2, [x11]
    report  x2
    b       again
