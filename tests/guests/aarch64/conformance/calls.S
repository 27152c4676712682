// Says what it finds in X0 and in MPIDR_EL1, then asks for X0 to X3, makes the call (HVC), says what is
// in X0 then, and asks again. A vCPU that is started goes the same way.
.include "suite.inc"

    report  x0
    mrs     x2, mpidr_el1
    report  x2
again:
    ldr     x0, [x9]
    ldr     x1, [x9, 8]
    ldr     x2, [x9, 16]
    ldr     x3, [x9, 24]
    hvc     0
    str     x0, [x9, 32]
    b       again
