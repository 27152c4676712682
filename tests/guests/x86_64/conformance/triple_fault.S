# Takes an exception with no interrupt descriptor table.
.include "suite.inc"

    lidt    [rip + nothing]
    ud2

nothing:
    .word   0
    .quad   0
