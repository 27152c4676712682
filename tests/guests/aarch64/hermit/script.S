/* Does what its first argument says, and ends with 0. Words are a letter and one or two numbers in hexadecimal, with a
 * comma between:
 *
 *   sADDRESS,VALUE   stores 64 bits
 *   rADDRESS         prints the 64 bits there, in hexadecimal
 *   cADDRESS,VALUE   writes 64 bits to an address: a hypercall
 *   oADDRESS,VALUE   writes a byte
 *   jADDRESS         goes there
 */
        .include "calls.inc"

        .text
        .globl _start
_start:
        arguments
        ldr     x19, =pointers
        ldr     x19, [x19, 8]
next:   ldrb    w21, [x19], 1
        cmp     w21, ' '
        b.eq    next
        cbz     w21, done
        bl      number
        mov     x22, x0
        mov     x23, 0
        ldrb    w1, [x19]
        cmp     w1, ','
        b.ne    1f
        add     x19, x19, 1
        bl      number
        mov     x23, x0
1:      cmp     w21, 's'
        b.eq    call
        cmp     w21, 'r'
        b.eq    print
        cmp     w21, 'c'
        b.eq    call
        cmp     w21, 'o'
        b.eq    write
        cmp     w21, 'j'
        b.eq    jump
        mov     x0, 1                   // no such word
        b       halt

call:   str     x23, [x22]              // and store
        b       next
write:  strb    w23, [x22]
        b       next
jump:   br      x22
print:  ldr     x0, [x22]
        ldr     x1, =digits + 15
        mov     w2, 16
1:      and     w3, w0, 15
        cmp     w3, 10
        b.lo    2f
        add     w3, w3, 'a' - '0' - 10
2:      add     w3, w3, '0'
        strb    w3, [x1], -1
        lsr     x0, x0, 4
        subs    w2, w2, 1
        b.ne    1b
        ldr     x1, =line
        hypercall SERIAL, x1
        b       next
done:   mov     x0, 0
halt:   hypercall EXIT2, x0
1:      wfi
        b       1b

// X0 = the number at X19, which is behind it then.
number: mov     x0, 0
1:      ldrb    w1, [x19]
        sub     w1, w1, '0'
        cmp     w1, 10
        b.lo    2f
        sub     w1, w1, 'a' - '0' - 10
        cmp     w1, 10
        b.lo    3f
        cmp     w1, 16
        b.hs    3f
2:      add     x0, x1, x0, lsl 4
        add     x19, x19, 1
        b       1b
3:      ret
        .ltorg

        .data
        .balign 8
line:   .quad digits, 17
digits: .fill 16, 1, 0
        .ascii "\n"
        room
