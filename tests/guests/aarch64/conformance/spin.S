// Says that it started, runs without an exit until RAM at the address in X0 is no longer 0, and
// ends.
.include "suite.inc"

    mov     w2, 1
    str     w2, [x9]
wait:
    ldr     x2, [x0]
    cbz     x2, wait
    done
