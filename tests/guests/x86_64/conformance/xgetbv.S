# Extended state: turns XSAVE on and reports XCR0, in which the x87's bit is always 1.
.include "suite.inc"
.include "enable_sse.inc"

    mov     rax, cr4
    or      eax, 1 << 18
    mov     cr4, rax
    xor     ecx, ecx
    xgetbv
    report  rax
    done
