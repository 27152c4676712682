// Waits for interrupts, which are masked, for ever.
.include "suite.inc"

1:  wfi
    b       1b
