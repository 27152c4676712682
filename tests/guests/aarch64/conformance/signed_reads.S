// Reads a device register of every width that has a sign, into all of a register and into its lower
// half, and reports each as a 64-bit value.
.include "suite.inc"

    ldrsb   x2, [x9]
    report  x2
    ldrsb   w2, [x9]
    report  x2
    ldrsh   x2, [x9, 8]
    report  x2
    ldrsh   w2, [x9, 8]
    report  x2
    ldrsw   x2, [x9, 16]
    report  x2
    done
