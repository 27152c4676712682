# Writes a device register of every width, narrowest first, then 8 bytes of zero.
.include "suite.inc"

    mov     rax, 0x1122334455667788
    mov     byte ptr [MMIO], al
    mov     word ptr [MMIO + 8], ax
    mov     dword ptr [MMIO + 16], eax
    mov     qword ptr [MMIO + 24], rax
    mov     qword ptr [MMIO + 32], 0
    done
