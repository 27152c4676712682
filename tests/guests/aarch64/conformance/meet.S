// The first of several vCPUs: starts the others. Each marks its place in a row of bytes, waits until X1
// places are marked, and reports its own number, which is in X0.
.include "suite.inc"

    adr     x5, count
    str     x1, [x5]
    mov     x7, x0
    mov     x6, 1
1:  ldr     x1, [x5]
    cmp     x6, x1
    b.hs    begin
    ldr     x0, =CPU_ON
    mov     x1, x6
    adr     x2, second
    mov     x3, x6
    hvc     0
    add     x6, x6, 1
    b       1b

second:
    devices
    mov     x7, x0
begin:
    adr     x5, count
    adr     x4, places
    mov     w2, 1
    strb    w2, [x4, x7]
    ldr     x1, [x5]
look:
    mov     x6, 0
next:
    ldrb    w2, [x4, x6]
    cbz     w2, look
    add     x6, x6, 1
    cmp     x6, x1
    b.ne    next
    report  x7
    done

.ltorg
.balign 8
count:
    .quad   0
places:
    .fill   64, 1, 0
