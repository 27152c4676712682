# Asks for an address, until it is 0, and writes there.
.include "suite.inc"

again:
    mov     rax, qword ptr [MMIO]
    test    rax, rax
    jz      end
    mov     qword ptr [rax], rax
    jmp     again
end:
    done
