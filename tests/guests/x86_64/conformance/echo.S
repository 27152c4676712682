# Reads a device register and writes back what it got, again and again.
.include "suite.inc"

again:
    mov     rax, qword ptr [MMIO]
    mov     qword ptr [MMIO + 8], rax
    jmp     again
