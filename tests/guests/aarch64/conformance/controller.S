// Reports what it finds of the interrupt controller: the architecture's version in GICD_PIDR2, the
// highest INTID by GICD_TYPER, ID_AA64PFR0_EL1, and GICR_TYPER of every redistributor up to the one
// that says it is the last.
.include "suite.inc"
.include "gic.inc"

    mov     x3, GICD
    mov     x4, 0xffe8
    ldr     w2, [x3, x4]
    ubfx    x2, x2, 4, 4
    report  x2
    ldr     w2, [x3, 4]
    and     x2, x2, 0x1f
    add     x2, x2, 1
    lsl     x2, x2, 5
    sub     x2, x2, 1
    report  x2
    mrs     x2, id_aa64pfr0_el1
    report  x2
    mov     x3, GICR
1:  ldr     x2, [x3, 8]
    report  x2
    add     x3, x3, 0x20000
    tbz     x2, 4, 1b
    done
