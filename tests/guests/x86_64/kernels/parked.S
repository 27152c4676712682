/* Has four CPUs wait for an interrupt that never comes, and says so. */
        .include "console.inc"
        .include "others.inc"

        .equ WAITING, TRAMPOLINE + waiting - other
        .equ TO_ALL_OTHERS, 0xc0000

        .text
        .globl _start
_start:
        mov     $stack, %esp
        copy_trampoline other, end
        start_lapic
        movl    $TO_ALL_OTHERS | INIT, 0x300(%ebx)
        movl    $TO_ALL_OTHERS | STARTUP, 0x300(%ebx)
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
