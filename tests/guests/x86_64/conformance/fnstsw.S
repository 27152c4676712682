# The x87: reports its status word after a reset.
.include "suite.inc"
.include "enable_sse.inc"

    fninit
    mov     eax, -1
    fnstsw  ax
    report  rax
    done
