// The firmware that runner gives QEMU for a run in software emulation: does what runner wrote behind it
// (emulate/firmware/virt.rs), and enters the guest with the registers of a boot plan.
//
// At the beginning of the flash memory, where QEMU's `virt` comes out of reset: EL1 with its own stack
// pointer, MMU off, interrupts masked. With the MMU off every access has to be aligned. X30 goes through
// what runner wrote.
        .globl  LOAD
        .equ    LOAD, 0

        .text
start:  adr     x30, words

// What is written to devices: how often, then address and value of each 32 bits.
        ldr     x0, [x30], 8
1:      cbz     x0, 2f
        ldp     x1, x2, [x30], 16
        str     w2, [x1]
        sub     x0, x0, 1
        b       1b

// What goes into memory, piece by piece up to one without bytes: its address, how many times 16 bytes,
// and these.
2:      ldp     x0, x1, [x30], 16
        cbz     x1, 4f
3:      ldp     x2, x3, [x30], 16
        stp     x2, x3, [x0], 16
        sub     x1, x1, 1
        cbnz    x1, 3b
        b       2b

// The registers: SP_EL1, PC, PSTATE, X0 to X30.
4:      ldp     x0, x1, [x30], 16
        mov     sp, x0
        msr     elr_el1, x1
        ldr     x0, [x30], 8
        msr     spsr_el1, x0
        ldp     x0, x1, [x30]
        ldp     x2, x3, [x30, 16]
        ldp     x4, x5, [x30, 32]
        ldp     x6, x7, [x30, 48]
        ldp     x8, x9, [x30, 64]
        ldp     x10, x11, [x30, 80]
        ldp     x12, x13, [x30, 96]
        ldp     x14, x15, [x30, 112]
        ldp     x16, x17, [x30, 128]
        ldp     x18, x19, [x30, 144]
        ldp     x20, x21, [x30, 160]
        ldp     x22, x23, [x30, 176]
        ldp     x24, x25, [x30, 192]
        ldp     x26, x27, [x30, 208]
        ldp     x28, x29, [x30, 224]
        ldr     x30, [x30, 240]
        dsb     sy
        ic      iallu
        isb
        eret

        .balign 16
words:
