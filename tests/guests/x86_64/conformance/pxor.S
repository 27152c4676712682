# SSE integers: reports a register exclusive-ored with itself.
.include "suite.inc"
.include "enable_sse.inc"

    pxor    xmm0, xmm0
    movups  xmmword ptr [rip + result], xmm0
    mov     rax, qword ptr [rip + result]
    report  rax
    done

result:
    .quad   -1, -1
