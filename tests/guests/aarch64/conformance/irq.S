// Takes interrupts. X0 is the number of an SPI, X1 is 1 where it is level-triggered, 0 where it is an
// edge, and 2 where it is left as it is. Arm IHI 0069, chapters 4 and 12.
//
// Interrupts are masked while it asks what to do. What it is told decides how it waits:
//   0 lets in what is pending, around a write of LISTENING
//   1 halts until one came
//   2 runs until one came
// Before it ends the interrupt, the handler writes ACK: 1, since it is in service.
.include "suite.inc"
.include "gic.inc"

    vectors_at vectors
    gic_on

    // Group 1, triggered as asked, enabled. It goes to affinity 0 unless told otherwise.
    mov     x3, GICD
    lsr     x4, x0, 5
    add     x5, x3, x4, lsl 2
    mov     w6, -1
    str     w6, [x5, 0x80]
    lsr     x6, x0, 4
    add     x6, x3, x6, lsl 2
    mov     w7, 0xaaaaaaaa
    cmp     x1, 1
    csel    w7, wzr, w7, eq
    b.hi    1f
    str     w7, [x6, 0xc00]
1:  mov     w6, 1
    lsl     w6, w6, w0
    str     w6, [x5, 0x100]

ask:
    ldr     w2, [x9]
    mov     x11, 0
    cmp     w2, 1
    b.eq    halt
    cmp     w2, 2
    b.eq    run

    msr     daifclr, 2
    mov     w2, 1
    str     w2, [x9, 16]
    msr     daifset, 2
    b       ask

halt:
    // It ends for other reasons, too.
    wfi
    msr     daifclr, 2
    isb
    msr     daifset, 2
    cbz     x11, halt
    b       ask

run:
    msr     daifclr, 2
1:  cbz     x11, 1b
    msr     daifset, 2
    b       ask

.balign 2048
vectors:
    .fill   0x280, 1, 0
    acknowledge x12
    // What has gone before it was acknowledged.
    cmp     x12, x0
    b.ne    1f
    mov     x11, 1
    str     w11, [x9, 8]
    end_of_interrupt x12
1:  eret
