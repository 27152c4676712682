// Says that it started, runs without an exit until RAM at the address in X0 is not 0, and ends. With 2
// in X1 it starts another vCPU first, which does the same.
.include "suite.inc"

    mov     x8, x0
    cmp     x1, 2
    b.ne    1f
    ldr     x0, =CPU_ON
    mov     x1, 1
    adr     x2, second
    mov     x3, x8
    hvc     0
    mov     x0, x8
    b       1f
second:
    devices
1:  mov     w2, 1
    str     w2, [x9]
wait:
    ldr     x2, [x0]
    cbz     x2, wait
    done

.ltorg
