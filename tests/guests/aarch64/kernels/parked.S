// Has four CPUs wait for an interrupt that never comes, and says so: the others started by PSCI's CPU_ON
// (Arm DEN 0022, 5.1.4).
        .include "console.inc"

        .text
        .globl _start
_start: begin
        mov     x20, 1                  // the affinity of each is its number
1:      ldr     x0, =CPU_ON
        mov     x1, x20
        adr     x2, other
        adr     x3, waiting
        hvc     0
        cbnz    x0, 4f
2:      ldr     w0, waiting
        cmp     w0, w20
        b.ne    2b
        add     x20, x20, 1
        cmp     x20, 4
        b.ne    1b
        say     parked
        // With interrupts on: a guest that nothing could wake is an end.
3:      msr     daifclr, 2
        wfi
        b       3b
4:      mov     w0, w20                 // it does not start
        b       exit

        // X0 is where they are counted. One at a time.
other:  ldr     w1, [x0]
        add     w1, w1, 1
        str     w1, [x0]
        b       3b

        .ltorg

        .data
parked:         .asciz "parked\n"
        .balign 8
waiting:        .quad 0
