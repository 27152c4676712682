# Reports segment selectors, control registers, EFER and the descriptor table registers.
.include "suite.inc"

.irp register, cs, ds, es, fs, gs, ss
    mov     eax, \register
    report  rax
.endr
.irp register, cr0, cr2, cr3, cr4
    mov     rax, \register
    report  rax
.endr
    mov     ecx, 0xc0000080
    rdmsr
    report  rax
    sgdt    [rip + table]
    movzx   eax, word ptr [rip + table]
    report  rax
    mov     rax, qword ptr [rip + table + 2]
    report  rax
    sidt    [rip + table]
    movzx   eax, word ptr [rip + table]
    report  rax
    mov     rax, qword ptr [rip + table + 2]
    report  rax
    done

table:
    .fill   10, 1, 0
