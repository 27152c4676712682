/* Each processor waits for its turn, as Hermit's do, and has a letter on the console; the last one ends with how many
 * there are. */
        .include "calls.inc"

        .text
        .globl _start
_start: mov     %rdi, %rbx
1:      cmp     %esi, turn
        je      2f
        pause
        jmp     1b
2:      lea     'a'(%rsi), %eax
        mov     $0x800, %edx
        out     %al, %dx
        lea     1(%rsi), %eax
        cmp     PROCESSORS(%rbx), %rax
        je      3f
        mov     %eax, turn
1:      hlt
        jmp     1b
3:      hypercall EXIT2, %eax
1:      hlt
        jmp     1b

        .data
        .balign 4
turn:   .long 0
