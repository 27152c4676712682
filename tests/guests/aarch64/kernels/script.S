// Does what its ram disk says, step by step, so that a test holds both what a hostile guest does and
// what has to come of it (tests/vm/tests/hostile/script.rs writes the steps).
//
// A step has 32 bytes: operation, width in bytes, two bytes of nothing, a number (32 bits), address,
// value, mask (64 bits each). What a step reads is cut to its mask and has to be its value; if it is
// not, the guest says at which step and what it read, and exits with 1. Any exception exits with 255.
//
// The MMU is off, so every access has to be aligned to its width. There are no ports and no routines.
        .include "console.inc"
        .include "fdt.inc"

        .equ STEP, 32
        .equ WIDTH, 1
        .equ NUMBER, 4
        .equ ADDRESS, 8
        .equ VALUE, 16
        .equ MASK, 24

        .text
        .globl _start
_start: begin
        adr     x21, ram_disk
        mov     x27, 0
        bl      walk
        cbnz    x27, 1f
        mov     w0, 254                 // there are no steps
        b       exit
1:      mov     x28, x27
        // fall through

// Carries out the step at X28, and those behind it. X27 = the first one of all.
run:    mov     x0, 0                   // what it read
        ldrb    w9, [x28]
        cmp     w9, (operations_end - operations) / 8
        b.hs    failed
        adr     x10, operations
        ldr     x10, [x10, x9, lsl 3]
        blr     x10
        add     x28, x28, STEP
        b       run

        .data
        .balign 8
operations:
        .quad end, store, expect, await, failed, failed, failed
        .quad copy, again, failed, add_to, start_second
operations_end:

        .text
// X27 = where /chosen says that the ram disk begins: a cell or two.
ram_disk:
        str     x30, [sp, -16]!
        mov     x5, x2
        adr     x6, initrd_start
        bl      starts
        b.ne    1f
        ldr     w27, [x3]
        rev     w27, w27
        cmp     w4, 8
        b.ne    1f
        ldr     w9, [x3, 4]
        rev     w9, w9
        orr     x27, x9, x27, lsl 32
1:      ldr     x30, [sp], 16
        ret

// Ends the run: the exit value is the step's.
end:    ldr     w0, [x28, VALUE]
        b       exit

// Writes the value to the address, behind everything written before.
store:  ldr     x10, [x28, ADDRESS]
        ldr     x11, [x28, VALUE]
        ldrb    w9, [x28, WIDTH]
        dmb     sy
        cmp     w9, 2
        b.lo    1f
        b.eq    2f
        cmp     w9, 4
        b.eq    4f
        str     x11, [x10]
        ret
1:      strb    w11, [x10]
        ret
2:      strh    w11, [x10]
        ret
4:      str     w11, [x10]
        ret

// X0 = what is at the address, cut to the mask.
load:   ldr     x10, [x28, ADDRESS]
        ldr     x11, [x28, MASK]
        ldrb    w9, [x28, WIDTH]
        dmb     sy
        cmp     w9, 2
        b.lo    1f
        b.eq    2f
        cmp     w9, 4
        b.eq    4f
        ldr     x0, [x10]
        b       5f
1:      ldrb    w0, [x10]
        b       5f
2:      ldrh    w0, [x10]
        b       5f
4:      ldr     w0, [x10]
5:      dmb     sy
        and     x0, x0, x11
        ldr     x11, [x28, VALUE]
        cmp     x0, x11
        ret

// Reads the address once.
expect: mov     x15, x30
        bl      load
        b.ne    failed
        ret     x15

// Reads the address until the value is there.
await:  mov     x15, x30
1:      yield
        bl      load
        b.ne    1b
        ret     x15

// Copies MASK bytes from VALUE in the ram disk to the address.
copy:   ldr     x10, [x28, ADDRESS]
        ldr     x11, [x28, VALUE]
        add     x11, x11, x27
        ldr     x12, [x28, MASK]
        dmb     sy
        orr     x9, x10, x11
        tst     x9, 7
        b.ne    2f
1:      cmp     x12, 8
        b.lo    2f
        ldr     x9, [x11], 8
        str     x9, [x10], 8
        sub     x12, x12, 8
        b       1b
2:      cbz     x12, 3f
        ldrb    w9, [x11], 1
        strb    w9, [x10], 1
        sub     x12, x12, 1
        b       2b
3:      ret

// Goes NUMBER steps back, VALUE times in all. MASK counts, and is 0 again in the end.
again:  ldr     x9, [x28, MASK]
        add     x9, x9, 1
        ldr     x10, [x28, VALUE]
        cmp     x9, x10
        b.hi    1f
        str     x9, [x28, MASK]
        ldr     w10, [x28, NUMBER]
        add     x10, x10, 1             // `run` goes one on
        sub     x28, x28, x10, lsl 5
        ret
1:      str     xzr, [x28, MASK]
        ret

// Adds the value to the 16-bit word at the address, behind everything written before. Nobody else does.
add_to: ldr     x10, [x28, ADDRESS]
        ldr     x11, [x28, VALUE]
        dmb     sy
        ldrh    w9, [x10]
        add     w9, w9, w11
        strh    w9, [x10]
        ret

// Starts processor NUMBER at the step at VALUE in the ram disk, by PSCI's CPU_ON (Arm DEN 0022, 5.1.4).
start_second:
        ldr     x0, =CPU_ON
        ldr     w1, [x28, NUMBER]
        adr     x2, second
        ldr     x3, [x28, VALUE]
        add     x3, x3, x27
        adr     x4, first_step
        str     x27, [x4]
        dmb     sy
        hvc     0
        ret

// X0 = its first step. It shares the stack, which it uses only to end the run.
second: mov     x28, x0
        ldr     x27, first_step
        adr     x9, stack
        mov     sp, x9
        adr     x9, vectors
        msr     vbar_el1, x9
        isb
        b       run

// Says at which step of the script it is, and X0, and ends the run with 1.
failed: mov     x13, x0
        say     at_step
        sub     x0, x28, x27
        lsr     x0, x0, 5
        bl      print_number
        say     it_read
        adr     x1, hexadecimal
        mov     w12, 16
1:      ror     x13, x13, 60
        and     w9, w13, 0xf
        add     w10, w9, '0'
        add     w11, w9, 'a' - 10
        cmp     w9, 10
        csel    w10, w10, w11, lo
        strb    w10, [x1], 1
        sub     w12, w12, 1
        cbnz    w12, 1b
        say     hexadecimal
        mov     w0, 1
        b       exit

        .ltorg

        .data
at_step:        .asciz "step "
it_read:        .asciz " read 0x"
hexadecimal:    .ascii "................\n"
                .byte 0
initrd_start:   .asciz "linux,initrd-start"
        .balign 8
first_step:     .quad 0
