// Loads every register from a device register, XZR among them, and stores it in the next: all of it,
// then its lower half.
.include "suite.inc"

    mov     x11, MMIO

.irp n, 0, 1, 2, 3, 4, 5, 6, 7, 8, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 29, 30, zr
    ldr     x\n, [x9]
    str     x\n, [x9, 8]
    ldr     w\n, [x9, 16]
    str     x\n, [x9, 8]
    str     w\n, [x9, 24]
.endr

    // The one that held the address.
    mov     x11, MMIO
    ldr     x9, [x11]
    str     x9, [x11, 8]
    ldr     w9, [x11, 16]
    str     x9, [x11, 8]
    str     w9, [x11, 24]

    mov     x10, DONE
    done
