// Does what Hermit's loader does (hermit-os/loader, src/arch/aarch64): the device tree is at the beginning of RAM,
// whatever X0 says, and in the node of what it is told the name of another says where a Hermit unikernel is.
// Starts the performance monitors' cycle counter as Hermit's kernel does (hermit-os/kernel,
// src/arch/aarch64/kernel/processor.rs), without looking whether there is one, and says whether it counts. Prints its
// command line, and ends as Hermit does, by PSCI's SYSTEM_OFF, or with 1.
        .include "console.inc"
        .include "fdt.inc"

        .equ RAM, 0x40000000

        .text
        .globl _start
_start: begin
        mov     x19, RAM
        mov     x26, 0
        adr     x21, module
        bl      walk
        cbz     x26, failed
        tst     x26, 0xfff
        b.ne    failed
        ldr     w0, [x26]
        ldr     w1, =0x464c457f         // an ELF file
        cmp     w0, w1
        b.ne    failed
        mov     x9, 0b1101
        msr     pmuserenr_el0, x9
        mov     x9, 1 << 31
        msr     pmcntenset_el0, x9
        mrs     x9, pmcr_el0
        mov     x10, 0b1000101          // E, C, LC: on, from 0, 64 bits
        orr     x9, x9, x10
        msr     pmcr_el0, x9
        mov     x10, 0
        isb
        mov     x11, 1000
1:      sub     x11, x11, 1
        cbnz    x11, 1b
        mrs     x10, pmccntr_el0
        cbz     x10, 2f
        say     counts
2:      mov     x25, 0
        adr     x21, command_line
        bl      walk
        cbz     x25, 3f                 // none
        mov     x1, x25
        bl      print
3:      say     newline
        ldr     x0, =SYSTEM_OFF
        hvc     0
failed: mov     w0, 1
        b       exit

// X26 = where the module is, in whose node this property is.
module: str     x30, [sp, -16]!
        mov     x5, x1
        adr     x6, name
        bl      starts
        b.ne    3f
        mov     x26, 0                  // X5 is behind the word
1:      ldrb    w8, [x5], 1
        sub     w8, w8, '0'
        cmp     w8, 10
        b.lo    2f
        sub     w8, w8, 'a' - '0' - 10
        cmp     w8, 10
        b.lo    3f
        cmp     w8, 16
        b.hs    3f
2:      add     x26, x8, x26, lsl 4
        b       1b
3:      ldr     x30, [sp], 16
        ret
        .ltorg

        .data
name:           .asciz "module@0x"
newline:        .asciz "\n"
mark:           .asciz "[LOADER]"       // by which it is known: what its messages begin with
counts:         .asciz "cycles are counted\n"
