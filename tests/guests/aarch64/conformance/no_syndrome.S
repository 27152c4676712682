// Reaches for a device register with the instruction whose number is in X0, of those that give no
// syndrome: pairs, vectors, and such that write their address back.
.include "suite.inc"

    // FP and SIMD without traps (CPACR_EL1.FPEN).
    mov     x3, 3 << 20
    msr     cpacr_el1, x3
    isb
    adr     x3, forms
    add     x3, x3, x0, lsl 3
    br      x3

.macro form instruction:vararg
    \instruction
    b       end
.endm

forms:
    form    ldp x2, x3, [x9]
    form    stp x2, x3, [x9]
    form    ldr q0, [x9]
    form    str d0, [x9]
    form    ldr x2, [x9], 8
    form    ldr x2, [x9, 0]!
    form    str x2, [x9], 8
    form    str x2, [x9, 0]!
end:
    done
