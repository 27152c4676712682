/* Sends back what comes in on COM1, up to the byte 4 (end of transmission), which ends it. */
        .include "console.inc"

        .text
        .globl _start
_start:
1:      mov     $LSR, %edx
2:      in      %dx, %al
        and     $0x21, %al              /* input there, and ready to send */
        cmp     $0x21, %al
        jne     2b
        mov     $COM1, %edx
        in      %dx, %al
        cmp     $4, %al
        je      3f
        out     %al, %dx
        jmp     1b
3:      xor     %eax, %eax
        exit
