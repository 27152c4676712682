/* Turns SSE on as a kernel does, uses it, and exits with 42: the sum it computed. Where KVM
 * interprets kernel code it does not get so far.
 */
        .include "console.inc"

        .text
        .globl _start
_start:
        mov     $stack, %esp
        say     running
        mov     %cr0, %rax              /* EM off, MP on */
        and     $~4, %eax
        or      $2, %eax
        mov     %rax, %cr0
        mov     %cr4, %rax              /* OSFXSR, OSXMMEXCPT */
        or      $0x600, %eax
        mov     %rax, %cr4
        pxor    %xmm0, %xmm0
        movd    fortytwo, %xmm1
        paddd   %xmm1, %xmm0
        movd    %xmm0, %eax
        exit

        .data
running:        .asciz "running\n"
        .balign 4
fortytwo:       .long 42
