/* Prints what a bzImage is told at its 64-bit entry. */
        .equ XLOADFLAGS, 1
        .equ ENTRY, 0x200
        .include "info.inc"
