/* Greets, prints its arguments behind its name and its first variable, and ends with how many arguments there are. As a
 * kernel before 0.10 it says no version, and wants a long table of variables; one that is shorter is 99.
 */
        .include "calls.inc"

        .equ VARIABLES, 32

        .text
        .globl _start
_start:
        arguments
        mov     $greeting, %eax
        hypercall SERIAL, %eax
        mov     $1, %ebx
1:      cmp     sizes, %ebx
        jae     2f
        mov     pointers(,%rbx,8), %rsi
        call    print
        inc     %ebx
        jmp     1b
2:      mov     variables, %rsi
        cmpb    $0, (%rsi)
        je      3f
        call    print
3:      mov     $newline, %eax
        hypercall SERIAL, %eax
        mov     sizes, %eax
        dec     %eax
        cmpl    $VARIABLES, sizes + 516
        jae     4f
        mov     $99, %eax
4:      mov     %eax, status
        mov     $status, %eax
        hypercall EXIT, %eax
5:      hlt
        jmp     5b

/* Prints a space and the text at RSI, by a write to descriptor 1. */
print:  mov     $space, %eax
        hypercall SERIAL, %eax
        mov     %rsi, %rdi
        xor     %eax, %eax
        mov     $-1, %rcx
        repne   scasb
        not     %rcx
        dec     %rcx
        movl    $1, transfer
        mov     %rsi, transfer + 4
        mov     %rcx, transfer + 12
        mov     $transfer, %eax
        hypercall WRITE, %eax
        ret

        .data
text:   .ascii "Hello from a Hermit unikernel!"
        .equ TEXT, . - text
        .balign 8
greeting:
        .quad text, TEXT
newline:
        .quad 1f, 1
space:  .quad 1f + 1, 1
transfer:
        .fill 20, 1, 0
status: .long 0
1:      .ascii "\n "
        room
