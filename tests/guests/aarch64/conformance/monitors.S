// Reports ID_AA64DFR0_EL1. If X0 is not 0: starts the cycle counter of the performance monitors as kernels do
// that do not look whether there is one, and reports what it counts in a thousand rounds of a loop. If X0 is 2:
// lets it overflow, and reports the INTID that it interrupts with (Arm ARM DDI 0487, D13).
.include "suite.inc"
.include "gic.inc"

    vectors_at vectors
    mov     x12, x0
    mrs     x2, id_aa64dfr0_el1
    report  x2
    cbz     x12, end

    mov     x2, 0b1101
    msr     pmuserenr_el0, x2
    mov     x11, 1 << 31
    msr     pmcntenset_el0, x11
    mrs     x2, pmcr_el0
    mov     x3, 0b1000101           // E, C, LC: on, from 0, 64 bits
    orr     x2, x2, x3
    msr     pmcr_el0, x2
    msr     pmccfiltr_el0, xzr
    isb
    mrs     x3, pmccntr_el0
    mov     x4, 1000
1:  sub     x4, x4, 1
    cbnz    x4, 1b
    isb
    mrs     x2, pmccntr_el0
    sub     x2, x2, x3
    report  x2
    cmp     x12, 2
    b.ne    end

    gic_on
    // The redistributor's other frame: group 1, the monitors' PPI enabled.
    mov     x3, GICR
    add     x3, x3, 0x10000
    mov     w4, -1
    str     w4, [x3, 0x80]
    mov     w4, 1 << 23
    str     w4, [x3, 0x100]
    mov     x2, -1000
    msr     pmccntr_el0, x2
    msr     pmintenset_el1, x11
    isb
    msr     daifclr, 2
1:  b       1b

end:
    done

.balign 2048
vectors:
    // From EL1 with its own stack pointer: synchronous, as `exceptions.inc` has it, and an interrupt.
    .fill   0x200, 1, 0
    devices
    mrs     x2, esr_el1
    lsr     x2, x2, 26
    str     x2, [x9, 8]
    done
.balign 0x80
    acknowledge x2
    msr     pmcr_el0, xzr
    msr     pmovsclr_el0, x11
    isb
    end_of_interrupt x2
    report  x2
    done
