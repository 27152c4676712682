# Reads RAM that it may only read, writes it in every width, and reads it again.
.include "suite.inc"

    mov     rax, qword ptr [WINDOW]
    report  rax
    mov     rax, 0x1122334455667788
    mov     byte ptr [WINDOW], al
    mov     word ptr [WINDOW], ax
    mov     dword ptr [WINDOW], eax
    mov     qword ptr [WINDOW], rax
    mov     rax, qword ptr [WINDOW]
    report  rax
    done
