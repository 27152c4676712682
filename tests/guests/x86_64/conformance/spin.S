# Says that it started, runs without an exit until RAM at the address in RDI is not 0, and
# ends.
.include "suite.inc"

    mov     dword ptr [MMIO], 1
wait:
    cmp     qword ptr [rdi], 0
    je      wait
    done
