# Writes and reads the SSE control and status register.
.include "suite.inc"
.include "enable_sse.inc"

    ldmxcsr dword ptr [rip + value]
    stmxcsr dword ptr [rip + result]
    mov     eax, dword ptr [rip + result]
    report  rax
    done

value:
    .long   0x1fa0
result:
    .long   0
