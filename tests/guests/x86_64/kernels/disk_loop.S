/* Gives its disk a chain without an end, expects to be told that the device needs a reset, resets it
 * and reads a sector. Exits with 0, or the number of the step that failed.
 */
        .include "console.inc"
        .include "linux.inc"
        .include "disk.inc"

        .text
        .globl _start
_start:
        mov     $stack, %esp
        call    start_disk

        /* Descriptor 0, back to itself. */
        movq    $header, descriptors
        movl    $16, descriptors + 8
        movl    $1, descriptors + 12    /* NEXT, 0 */
        call    publish
1:      testl   $0x40, STATUS(%rbx)     /* NEEDS_RESET */
        jz      1b
        testl   $2, INTERRUPT_STATUS(%rbx)
        expect  nz 20
        cmpw    $0, used + 2
        expect  e 21

        movl    $0, STATUS(%rbx)
2:      cmpl    $0, STATUS(%rbx)
        jne     2b
        cmpl    $0, INTERRUPT_STATUS(%rbx)
        expect  e 22
        movw    $0, available + 2
        call    initialize
        mov     $T_IN, %eax
        mov     $buffer, %edx
        mov     $3, %ecx                /* NEXT, WRITE */
        call    request
        cmp     $0, %al
        expect  e 23
        xor     %eax, %eax
        exit
