# Writes and reads 8 bytes at the address in RDI, which lies across the end of a page.
.include "suite.inc"

    mov     rax, 0x1122334455667788
    mov     qword ptr [rdi], rax
    mov     rax, qword ptr [rdi]
    report  rax
    done
