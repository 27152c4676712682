/* Does what its first argument says (../script.inc), and ends with 0. Of its own it has:
 *
 *   cADDRESS,VALUE   writes 64 bits to an address: a hypercall
 *   oADDRESS,VALUE   writes a byte
 */
        .include "calls.inc"

        .macro say
        ldr     x1, =line
        hypercall SERIAL, x1
        .endm

        .text
        .globl _start
_start:
        arguments
        ldr     x19, =pointers
        ldr     x19, [x19, 8]
        b       next

further:
        cmp     w21, 'c'
        b.eq    store
        cmp     w21, 'o'
        b.ne    unknown
        strb    w23, [x22]
        b       next

done:   hypercall EXIT2, x0
1:      wfi
        b       1b
        .ltorg

        .include "../script.inc"
        room
