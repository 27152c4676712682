/* Writes a pattern to sector 1 of its disk, flushes, reads it back and compares.
 *
 * Exits with 0 when all is well, with 32 when the disk is read-only and refused the write, and
 * otherwise with the number of the step that failed.
 */
        .include "console.inc"
        .include "linux.inc"
        .include "disk.inc"

        .text
        .globl _start
_start:
        mov     $stack, %esp
        call    start_disk

        mov     word, %rax
        call    fill_pattern
        mov     $T_OUT, %eax
        mov     $pattern, %edx
        mov     $1, %ecx                /* NEXT */
        call    request
        test    $F_RO, %r12d
        jz      2f
        cmp     $1, %al                 /* IOERR */
        expect  e 11
        mov     $32, %eax
        exit
2:      cmp     $0, %al
        expect  e 12

        test    $F_FLUSH, %r12d
        expect  nz 13
        mov     $T_FLUSH, %eax
        xor     %edx, %edx
        call    request
        cmp     $0, %al
        expect  e 14

        mov     $T_IN, %eax
        mov     $buffer, %edx
        mov     $3, %ecx                /* NEXT, WRITE */
        call    request
        cmp     $0, %al
        expect  e 15
        mov     $buffer, %edi
        mov     $512 / 8, %ecx
        mov     word, %rax
3:      cmp     %rax, (%rdi)
        expect  e 16
        add     $8, %rdi
        dec     %ecx
        jnz     3b

        /* The device has said that it used buffers. */
        testl   $1, INTERRUPT_STATUS(%rbx)
        expect  nz 17
        movl    $1, INTERRUPT_ACK(%rbx)
        testl   $1, INTERRUPT_STATUS(%rbx)
        expect  z 18

        /* A reset ends it, sooner or later. */
        movl    $0, STATUS(%rbx)
4:      cmpl    $0, STATUS(%rbx)
        jne     4b
        xor     %eax, %eax
        exit

        .data
word:   .ascii "runner!\n"
