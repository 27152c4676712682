/* Prints as many lines as `line=N` on its command line says, each 15 digits, counted from 0. */
        .include "console.inc"
        .include "linux.inc"

        .text
        .globl _start
_start:
        mov     $stack, %esp
        mov     CMD_LINE_PTR(%rsi), %esi
        mov     $0x656e696c, %edi       /* "line" */
        call    find_number
        mov     %eax, %ebp
        mov     $COM1, %edx             /* always ready to send, and asking would double the exits */
1:      test    %ebp, %ebp
        jz      3f
        mov     $text, %esi
        mov     $16, %ecx
        cld
        rep     outsb
        mov     $text + 14, %esi        /* count, in decimal digits */
2:      incb    (%esi)
        cmpb    $'9', (%esi)
        jbe     4f
        movb    $'0', (%esi)
        dec     %esi
        jmp     2b
4:      dec     %ebp
        jmp     1b
3:      xor     %eax, %eax
        exit

        .data
text:           .ascii "000000000000000\n"
