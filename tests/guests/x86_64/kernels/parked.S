/* Has four CPUs wait for an interrupt that never comes, and says so: the others started by INIT and SIPI
   (SDM volume 3A, 9.4.4), in real mode. */
        .include "console.inc"

        .equ LAPIC, 0xfee00000
        .equ TRAMPOLINE, 0x8000
        .equ WAITING, TRAMPOLINE + waiting - other
        .equ TO_ALL_OTHERS, 0xc0000

        .text
        .globl _start
_start:
        mov     $stack, %esp
        mov     $other, %esi
        mov     $TRAMPOLINE, %edi
        mov     $end - other, %ecx
1:      mov     (%esi), %al
        mov     %al, (%edi)
        inc     %esi
        inc     %edi
        dec     %ecx
        jnz     1b

        /* The boot protocol mapped the first GiB; this maps 2 MiB around the local APIC. */
        mov     $LAPIC, %ebx
        mov     %cr3, %rax
        mov     (%rax), %rax
        and     $-4096, %rax            /* the PDPT */
        mov     $directory, %edi
        lea     3(%rdi), %rcx
        mov     %rcx, 24(%rax)
        movl    $LAPIC & -0x200000 | 0x93, (LAPIC & 0x3fe00000) >> 18(%rdi)
        mov     %cr3, %rax
        mov     %rax, %cr3

        movl    $0x1ff, 0xf0(%ebx)      /* on */
        movl    $TO_ALL_OTHERS | 0x4500, 0x300(%ebx)    /* INIT */
        movl    $TO_ALL_OTHERS | 0x4600 | TRAMPOLINE >> 12, 0x300(%ebx)
2:      cmpl    $3, WAITING
        jne     2b
        say     parked
        sti
3:      hlt
        jmp     3b

        .code16
other:  lock incl WAITING
        sti
4:      hlt
        jmp     4b
waiting:
        .long   0
end:
        .code64

        .data
parked:         .asciz "parked\n"

        .bss
        .align  4096
directory:
        .fill   4096, 1, 0
