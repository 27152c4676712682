/* Does what its first argument says (../script.inc), and ends with 0. Of its own it has:
 *
 *   cPORT,VALUE      writes 32 bits to a port, with the value in RDI as well: a hypercall
 *   oPORT,VALUE      writes a byte
 *   xADDRESS,VALUE   has the second processor put VALUE and what is at the address in each other's place from now on
 *   nCOUNT           goes back behind that, until it has been here so many times
 */
        .include "calls.inc"

        .macro say
        mov     $line, %eax
        hypercall SERIAL, %eax
        .endm

        .text
        .globl _start
_start:
        test    %esi, %esi
        jnz     second
        arguments
        mov     pointers + 8, %rsi
        jmp     next

further:
        mov     %r12d, %edx
        mov     %r13, %rax
        mov     %r13, %rdi
        cmp     $'c', %bl
        je      call
        cmp     $'x', %bl
        je      race
        cmp     $'n', %bl
        je      again
        cmp     $'o', %bl
        jne     unknown
        out     %al, %dx
        jmp     next
call:   out     %eax, %dx
        jmp     next

race:   mov     %rsi, begin
        mov     %r13, other
        mov     %r12, place
        jmp     next
again:  incq    rounds
        cmp     %r12, rounds
        jae     next
        mov     begin, %rsi
        jmp     next

second: pause
        mov     place, %rbx
        test    %rbx, %rbx
        jz      second
        mov     other, %rax
1:      xchg    %rax, (%rbx)
        jmp     1b

done:   hypercall EXIT2, %eax
1:      hlt
        jmp     1b

        .include "../script.inc"
place:  .quad 0
other:  .quad 0
begin:  .quad 0
rounds: .quad 0
        room
