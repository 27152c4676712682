# Inverts every general-purpose register, then exits by an instruction that changes none.
.include "suite.inc"

.irp register, rax, rbx, rcx, rdx, rsi, rdi, rsp, rbp, r8, r9, r10, r11, r12, r13, r14, r15
    not     \register
.endr
    out     0xe0, al
    jmp     .
