# SSE arithmetic: multiplies 2.0 by 3.0 and reports the bits of 6.0.
.include "suite.inc"
.include "enable_sse.inc"

    movups  xmm0, xmmword ptr [rip + factor]
    movups  xmm1, xmmword ptr [rip + other]
    mulps   xmm0, xmm1
    movups  xmmword ptr [rip + product], xmm0
    mov     eax, dword ptr [rip + product]
    report  rax
    done

factor:
    .float  2.0, 0.0, 0.0, 0.0
other:
    .float  3.0, 0.0, 0.0, 0.0
product:
    .float  0.0, 0.0, 0.0, 0.0
