# Jumps to where there is no RAM.
.include "suite.inc"

    mov     eax, WINDOW
    jmp     rax
