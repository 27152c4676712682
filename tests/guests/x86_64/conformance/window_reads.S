# Reads the same 8 bytes again and again and reports them.
.include "suite.inc"

again:
    mov     rax, qword ptr [WINDOW]
    report  rax
    jmp     again
