// Writes a device register of every width, narrowest first, then 8 bytes of zero.
.include "suite.inc"

    ldr     x2, =0x1122334455667788
    strb    w2, [x9]
    strh    w2, [x9, 8]
    str     w2, [x9, 16]
    str     x2, [x9, 24]
    str     xzr, [x9, 32]
    done

.ltorg
