/* Does what its first argument says (../script.inc), and ends with 0. Of its own it has:
 *
 *   cPORT,VALUE      writes 32 bits to a port, with the value in RDI as well: a hypercall
 *   oPORT,VALUE      writes a byte
 */
        .include "calls.inc"

        .macro say
        mov     $line, %eax
        hypercall SERIAL, %eax
        .endm

        .text
        .globl _start
_start:
        arguments
        mov     pointers + 8, %rsi
        jmp     next

further:
        mov     %r12d, %edx
        mov     %r13, %rax
        mov     %r13, %rdi
        cmp     $'c', %bl
        je      call
        cmp     $'o', %bl
        jne     unknown
        out     %al, %dx
        jmp     next
call:   out     %eax, %dx
        jmp     next

done:   hypercall EXIT2, %eax
1:      hlt
        jmp     1b

        .include "../script.inc"
        room
