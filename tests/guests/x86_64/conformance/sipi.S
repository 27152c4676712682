# The first processor: starts the second by INIT and SIPI (SDM volume 3A, 9.4.4), with what is at
# `second` copied to where SIPI vector 8 begins.
.include "suite.inc"

.equ TRAMPOLINE, 0x8000
# The harness maps it to itself.
.equ LAPIC, 0xfee00000

    lea     rsi, [rip + second]
    mov     rax, qword ptr [rsi]
    mov     qword ptr [TRAMPOLINE], rax

    mov     r14d, LAPIC
    mov     dword ptr [r14 + 0xf0], 0x1ff
    mov     dword ptr [r14 + 0x310], 1 << 24
    mov     dword ptr [r14 + 0x300], 0x4500
    mov     dword ptr [r14 + 0x300], 0x4600 | TRAMPOLINE >> 12
    done

# In real mode, at most 8 bytes.
.code16
second:
    mov     al, 0x55
    out     0xe0, al
1:  hlt
    jmp     1b
    .fill   8 - (. - second), 1, 0x90
