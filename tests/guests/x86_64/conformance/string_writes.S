# Writes strings of bytes, words and doublewords to a port, then reports what is left of the count
# and how far the source pointer came.
.include "suite.inc"

.macro write instruction, count
    lea     rsi, [rip + text]
    mov     ecx, \count
    rep \instruction
    report  rcx
    lea     rax, [rip + text]
    sub     rsi, rax
    report  rsi
.endm

    cld
    mov     edx, 0x300
    write   outsb, 8
    write   outsw, 4
    write   outsd, 2
    done

text:
    .ascii  "ABCDEFGH"
