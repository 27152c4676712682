# One of several vCPUs: marks its place in a row of bytes, waits until RSI places are marked, and
# reports its own number, which is in RDI.
.include "suite.inc"

    lea     rbx, [rip + places]
    mov     byte ptr [rbx + rdi], 1
look:
    xor     ecx, ecx
next:
    cmp     byte ptr [rbx + rcx], 0
    je      look
    inc     rcx
    cmp     rcx, rsi
    jne     next
    report  rdi
    done

places:
    .fill   64, 1, 0
