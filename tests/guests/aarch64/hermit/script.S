/* Does what its first argument says (../script.inc), and ends with 0. Of its own it has:
 *
 *   cADDRESS,VALUE   writes 64 bits to an address: a hypercall
 *   oADDRESS,VALUE   writes a byte
 *   xADDRESS,VALUE   has the second processor put VALUE and what is at the address in each other's place from now on
 *   nCOUNT           goes back behind that, until it has been here so many times
 */
        .include "calls.inc"

        .macro say
        ldr     x1, =line
        hypercall SERIAL, x1
        .endm

        .text
        .globl _start
_start:
        cbnz    x1, second
        arguments
        ldr     x19, =pointers
        ldr     x19, [x19, 8]
        b       next

further:
        cmp     w21, 'c'
        b.eq    store
        ldr     x1, =place
        cmp     w21, 'x'
        b.eq    race
        cmp     w21, 'n'
        b.eq    again
        cmp     w21, 'o'
        b.ne    unknown
        strb    w23, [x22]
        b       next

race:   stp     x19, x23, [x1, BEGIN]
        stlr    x22, [x1]
        b       next
again:  ldr     x0, [x1, ROUNDS]
        add     x0, x0, 1
        str     x0, [x1, ROUNDS]
        cmp     x0, x22
        b.hs    next
        ldr     x19, [x1, BEGIN]
        b       next

second: ldr     x1, =place
1:      ldar    x2, [x1]
        cbz     x2, 1b
        ldr     x0, [x1, OTHER]
2:      ldr     x3, [x2]
        str     x0, [x2]
        mov     x0, x3
        b       2b

done:   hypercall EXIT2, x0
1:      wfi
        b       1b
        .ltorg

        .include "../script.inc"
        .equ BEGIN, 8
        .equ OTHER, 16
        .equ ROUNDS, 24
place:  .fill 4, 8, 0
        room
