// Asks for an address, until it is 0, and writes there.
.include "suite.inc"

again:
    ldr     x2, [x9]
    cbz     x2, end
    str     x2, [x2]
    b       again
end:
    done
