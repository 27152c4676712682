# Writes a port of every width, by number in DX and by number in the instruction.
.include "suite.inc"

    mov     rax, 0x1122334455667788
    mov     edx, 0x300
    out     dx, al
    out     dx, ax
    out     dx, eax
    out     0xe0, al
    out     0xe0, ax
    out     0xe0, eax
    mov     edx, 0xffff
    out     dx, al
    done
