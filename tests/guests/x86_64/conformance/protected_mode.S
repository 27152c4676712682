# Starts in 32-bit protected mode without paging.
.include "suite.inc"
.code32

    mov     eax, ds
    mov     dword ptr [MMIO], eax
    push    0x12345678
    pop     eax
    mov     dword ptr [MMIO + 4], eax
    done
