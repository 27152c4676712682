/* Exits with the N of `exit=N` on its command line, all 32 bits of it. */
        .include "console.inc"
        .include "linux.inc"

        .text
        .globl _start
_start:
        mov     $stack, %esp
        mov     CMD_LINE_PTR(%rsi), %esi
        mov     $0x74697865, %edi       /* "exit" */
        call    find_number
        exit
