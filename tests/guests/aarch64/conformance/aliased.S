// Goes on at another virtual address, and reaches for a device with an instruction that gives no
// syndrome there.
.include "suite.inc"
.include "mmu.inc"

    mmu_on
    adr     x3, there
    mov     x4, ALIAS - 0x40000000
    add     x3, x3, x4
    br      x3
there:
    ldp     x2, x3, [x9]
    done

.ltorg
