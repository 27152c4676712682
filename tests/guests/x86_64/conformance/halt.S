# Halts twice with interrupts off, with a write between.
.include "suite.inc"

    hlt
    mov     dword ptr [MMIO], 1
    hlt
    done
