// Writes and reads 8, 4 and 2 bytes at the address in X0, which is aligned to nothing. That takes
// Normal memory, and with it the MMU.
.include "suite.inc"
.include "mmu.inc"

    mmu_on
    ldr     x2, =0x1122334455667788
    str     x2, [x0]
    ldr     x2, [x0]
    report  x2
    str     w2, [x0]
    ldr     w2, [x0]
    report  x2
    strh    w2, [x0]
    ldrh    w2, [x0]
    report  x2
    done

.ltorg
