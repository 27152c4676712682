/* Greets by the second version of the interface, whose pointers have 64 bits, and ends with 7. */
        .include "hermit.inc"
        interface 2

        .text
        .globl _start
_start:
        mov     $SERIAL2, %edx
        mov     $0x1234, %eax
        movabs  $greeting, %rdi
        out     %eax, %dx
        mov     $EXIT2, %edx
        mov     $7, %edi
        out     %eax, %dx
1:      hlt
        jmp     1b

        .data
text:   .ascii "Hello from behind 4 GiB!\n"
        .equ TEXT, . - text
        .balign 8
greeting:
        .quad TEXT, text
