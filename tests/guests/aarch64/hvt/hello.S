/* Greets, prints its arguments, and ends with 0. */
        .include "hvt.inc"
        manifest 0

        .text
        .globl _start
_start:
        ldr     x1, [x0, COMMAND_LINE]
        ldr     x2, =greeting
        hypercall PUTS, w2
        mov     x3, x1                  // its length
1:      ldrb    w4, [x3], 1
        cbnz    w4, 1b
        sub     x3, x3, 1
        sub     x3, x3, x1
        ldr     x2, =line
        stp     x1, x3, [x2]
        hypercall PUTS, w2
        ldr     x2, =newline
        hypercall PUTS, w2
        ldr     x2, =end
        hypercall HALT, w2
1:      wfi
        b       1b
        .ltorg

        .section .rodata
text:   .ascii "Hello from a Solo5 unikernel! "
        .equ TEXT, . - text
        .balign 8
greeting:
        .quad text, TEXT
newline:
        .quad 1f, 1
end:    .quad 0, 0
1:      .ascii "\n"

        .data
line:   .quad 0, 0
