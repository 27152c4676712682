# Reads a port of every width, by number in DX and by number in the instruction, into a register
# that was all ones, and reports the whole register.
.include "suite.inc"

.macro read register, port
    mov     rax, -1
    in      \register, \port
    report  rax
.endm

    mov     edx, 0x300
    read    al, dx
    read    ax, dx
    read    eax, dx
    read    al, 0xe0
    read    ax, 0xe0
    read    eax, 0xe0
    done
