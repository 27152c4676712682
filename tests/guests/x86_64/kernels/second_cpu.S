/* Has its second CPU exit with 7. */
        .include "console.inc"
        .include "others.inc"

        .text
        .globl _start
_start:
        copy_trampoline second, end
        start_lapic
        movl    $1 << 24, 0x310(%ebx)   /* to APIC 1 */
        movl    $INIT, 0x300(%ebx)
        movl    $STARTUP, 0x300(%ebx)
2:      jmp     2b

        .code16
second: mov     $EXIT, %dx
        mov     $7, %al
        out     %al, %dx
3:      hlt
        jmp     3b
end:
