// Sets the virtual timer to as many a part of a second as it is told, waits for its interrupt, PPI 27, and
// reports the INTID. Again and again (Arm ARM DDI 0487, D12).
.include "suite.inc"
.include "gic.inc"

    vectors_at vectors
    gic_on
    // The redistributor's other frame: group 1, enabled.
    mov     x3, GICR
    add     x3, x3, 0x10000
    mov     w4, -1
    str     w4, [x3, 0x80]
    mov     w4, 1 << 27
    str     w4, [x3, 0x100]

again:
    mov     x11, 0
    ldr     x2, [x9]
    mrs     x3, cntfrq_el0
    udiv    x3, x3, x2
    msr     cntv_tval_el0, x3
    mov     x3, 1
    msr     cntv_ctl_el0, x3
    isb
1:  wfi
    msr     daifclr, 2
    isb
    msr     daifset, 2
    cbz     x11, 1b
    report  x12
    b       again

.balign 2048
vectors:
    .fill   0x280, 1, 0
    acknowledge x12
    msr     cntv_ctl_el0, xzr
    isb
    mov     x11, 1
    end_of_interrupt x12
    eret
