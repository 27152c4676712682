/* Each processor waits for its turn, as Hermit's do, and has a letter on the console; the last one ends with how many
 * there are. */
        .include "calls.inc"

        .text
        .globl _start
_start: mov     x19, x0
        ldr     x20, =turn
1:      ldar    w2, [x20]
        cmp     w2, w1
        b.ne    1b
        add     w2, w1, 'a'
        mov     x9, 0x800
        str     x2, [x9]
        add     w2, w1, 1
        ldr     x3, [x19, PROCESSORS]
        cmp     x2, x3
        b.eq    2f
        stlr    w2, [x20]
1:      wfi
        b       1b
2:      hypercall EXIT2, x2
1:      wfi
        b       1b
        .ltorg

        .data
        .balign 4
turn:   .long 0
