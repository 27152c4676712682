// Reads a device register and writes back what it got, again and again.
.include "suite.inc"

again:
    ldr     x2, [x9]
    str     x2, [x9, 8]
    b       again
