/* `outb PORT VALUE`, both decimal: writes a byte to a port, which ends a machine whose exit port that
 * is, after what was written to the terminal on stdout has left it. Debian's cloud kernel has no
 * /dev/port. Also an /init of its own, with its arguments behind `--` on the kernel's command line.
 * Ends with 1 where it may not write, with 0 where nothing happened. */
        .equ SYS_IOCTL, 16
        .equ SYS_EXIT, 60
        .equ SYS_IOPL, 172
        .equ TCSBRK, 0x5409             /* with 1: tcdrain(3) */

        .text
        .globl _start
_start:
        cmpq    $3, (%rsp)              /* argc */
        jne     fail
        mov     $SYS_IOCTL, %eax
        mov     $1, %edi
        mov     $TCSBRK, %esi
        mov     $1, %edx
        syscall                         /* fails for what is no terminal */
        mov     $SYS_IOPL, %eax
        mov     $3, %edi
        syscall
        test    %eax, %eax
        jnz     fail
        mov     16(%rsp), %rsi          /* argv[1] */
        call    number
        mov     %eax, %edx
        mov     24(%rsp), %rsi
        call    number
        out     %al, %dx
        xor     %edi, %edi
        jmp     end
fail:
        mov     $1, %edi
end:
        mov     $SYS_EXIT, %eax
        syscall

/* The number in the digits at rsi, in eax. */
number:
        xor     %eax, %eax
1:      movzbl  (%rsi), %ecx
        sub     $'0', %ecx
        cmp     $9, %ecx
        ja      2f
        imul    $10, %eax
        add     %ecx, %eax
        inc     %rsi
        jmp     1b
2:      ret
