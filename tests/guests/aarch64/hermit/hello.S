/* Greets, prints its arguments behind its name and its first variable, and ends with how many arguments there are. As a
 * kernel before 0.10 it says no version, and wants a long table of variables; one that is shorter is 99.
 */
        .include "calls.inc"

        .equ VARIABLES, 32

        .text
        .globl _start
_start:
        arguments
        ldr     x0, =greeting
        hypercall SERIAL, x0
        mov     x20, 1
        ldr     x21, =pointers
        ldr     x22, =sizes
        ldr     w23, [x22]
1:      cmp     w20, w23
        b.hs    2f
        ldr     x0, [x21, x20, lsl 3]
        bl      print
        add     x20, x20, 1
        b       1b
2:      ldr     x0, =variables
        ldr     x0, [x0]
        ldrb    w1, [x0]
        cbz     w1, 3f
        bl      print
3:      ldr     x0, =newline
        hypercall SERIAL, x0
        sub     w23, w23, 1
        ldr     w0, [x22, 516]
        cmp     w0, VARIABLES
        mov     w1, 99
        csel    w23, w23, w1, hs
        ldr     x0, =status
        str     w23, [x0]
        hypercall EXIT, x0
4:      wfi
        b       4b

// Prints a space and the text at X0, by a write to descriptor 1.
print:  ldr     x1, =space
        hypercall SERIAL, x1
        mov     x2, 0
1:      ldrb    w3, [x0, x2]
        cbz     w3, 2f
        add     x2, x2, 1
        b       1b
2:      ldr     x1, =transfer
        mov     w3, 1
        str     w3, [x1]
        str     w0, [x1, 4]             // all of it is below 4 GiB
        str     wzr, [x1, 8]
        str     w2, [x1, 12]
        str     wzr, [x1, 16]
        hypercall WRITE, x1
        ret
        .ltorg

        .data
text:   .ascii "Hello from a Hermit unikernel!"
        .equ TEXT, . - text
        .balign 8
greeting:
        .quad text, TEXT
newline:
        .quad 1f, 1
space:  .quad 1f + 1, 1
transfer:
        .fill 20, 1, 0
        .balign 8
status: .long 0
1:      .ascii "\n "
        room
