# Writes 1, 2 and 3 to a device register and a port, each in 4 bytes and then in 2, and does it
# again for as long as it is told 1.
.include "suite.inc"

again:
    mov     edx, 0x300
.irp value, 1, 2, 3
    mov     eax, \value
    mov     dword ptr [MMIO + 8], eax
    out     dx, eax
    mov     word ptr [MMIO + 8], ax
    out     dx, ax
.endr
    mov     eax, dword ptr [MMIO]
    cmp     eax, 1
    je      again
    done
