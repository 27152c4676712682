// Reads a device register of every width and reports each as a 64-bit value.
.include "suite.inc"

    ldrb    w2, [x9]
    report  x2
    ldrh    w2, [x9, 8]
    report  x2
    ldr     w2, [x9, 16]
    report  x2
    ldr     x2, [x9, 24]
    report  x2
    done
