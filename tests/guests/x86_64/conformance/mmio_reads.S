# Reads a device register of every width, then the three narrow ones with their sign, and reports
# each as a 64-bit value.
.include "suite.inc"

    movzx   eax, byte ptr [MMIO]
    report  rax
    movzx   eax, word ptr [MMIO + 8]
    report  rax
    mov     eax, dword ptr [MMIO + 16]
    report  rax
    mov     rax, qword ptr [MMIO + 24]
    report  rax
    movsx   rax, byte ptr [MMIO]
    report  rax
    movsx   rax, word ptr [MMIO + 8]
    report  rax
    movsxd  rax, dword ptr [MMIO + 16]
    report  rax
    done
