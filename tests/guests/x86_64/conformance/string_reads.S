# Reads strings of bytes, words and doublewords from a port into RAM, then reports the RAM, what is
# left of the count and how far the destination pointer came.
.include "suite.inc"

.macro read instruction, count
    mov     qword ptr [rip + buffer], 0
    lea     rdi, [rip + buffer]
    mov     ecx, \count
    rep \instruction
    report  rcx
    lea     rax, [rip + buffer]
    sub     rdi, rax
    report  rdi
    mov     rax, qword ptr [rip + buffer]
    report  rax
.endm

    cld
    mov     edx, 0x300
    read    insb, 8
    read    insw, 4
    read    insd, 2
    done

buffer:
    .quad   0
