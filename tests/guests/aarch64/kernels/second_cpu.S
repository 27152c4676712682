// Has its second CPU exit with 7: started by PSCI's CPU_ON (Arm DEN 0022, 5.1.4).
        .include "console.inc"

        .text
        .globl _start
_start: begin
        ldr     x0, =CPU_ON
        mov     x1, 1
        adr     x2, second
        mov     x3, 7
        hvc     0
        b       .

second: b       exit                    // X0 is what was handed over

        .ltorg
