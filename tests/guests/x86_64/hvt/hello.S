/* Greets, prints its arguments, and ends with 0. */
        .include "hvt.inc"
        manifest 0

        .text
        .globl _start
_start:
        mov     COMMAND_LINE(%rdi), %rsi
        mov     $greeting, %eax
        hypercall PUTS, %eax
        mov     %rsi, %rdi              /* its length, with the NUL */
        xor     %eax, %eax
        mov     $-1, %rcx
        repne   scasb
        not     %rcx
        dec     %rcx
        mov     $line, %eax
        mov     %rsi, (%rax)
        mov     %rcx, 8(%rax)
        hypercall PUTS, %eax
        mov     $newline, %eax
        hypercall PUTS, %eax
        mov     $end, %eax
        hypercall HALT, %eax
1:      hlt
        jmp     1b

        .section .rodata
text:   .ascii "Hello from a Solo5 unikernel! "
        .equ TEXT, . - text
        .balign 8
greeting:
        .quad text, TEXT
newline:
        .quad 1f, 1
end:    .quad 0, 0
1:      .ascii "\n"

        .data
line:   .quad 0, 0
