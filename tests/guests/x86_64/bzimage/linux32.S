/* Prints what a bzImage is told at its 32-bit entry, the only one it has. */
        .code32
        .equ XLOADFLAGS, 0
        .equ ENTRY, 0
        .include "info.inc"
