// Jumps to where there is no RAM.
.include "suite.inc"
.include "exceptions.inc"

    vectors_on
    mov     x3, WINDOW
    br      x3

vectors
