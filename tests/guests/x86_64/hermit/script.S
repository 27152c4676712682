/* Does what its first argument says, and ends with 0. Words are a letter and one or two numbers in hexadecimal, with a
 * comma between:
 *
 *   sADDRESS,VALUE   stores 64 bits
 *   rADDRESS         prints the 64 bits there, in hexadecimal
 *   cPORT,VALUE      writes 32 bits to a port, with the value in RDI as well: a hypercall
 *   oPORT,VALUE      writes a byte
 *   jADDRESS         goes there
 */
        .include "calls.inc"

        .text
        .globl _start
_start:
        arguments
        mov     pointers + 8, %rsi
next:   lodsb
        cmp     $' ', %al
        je      next
        test    %al, %al
        jz      done
        mov     %al, %bl
        call    number
        mov     %rax, %r12
        xor     %r13d, %r13d
        cmpb    $',', (%rsi)
        jne     1f
        inc     %rsi
        call    number
        mov     %rax, %r13
1:      cmp     $'s', %bl
        je      store
        cmp     $'r', %bl
        je      print
        cmp     $'c', %bl
        je      call
        cmp     $'o', %bl
        je      write
        cmp     $'j', %bl
        je      jump
        mov     $1, %eax                /* no such word */
        jmp     halt

store:  mov     %r13, (%r12)
        jmp     next
call:   mov     %r12d, %edx
        mov     %r13, %rax
        mov     %r13, %rdi
        out     %eax, %dx
        jmp     next
write:  mov     %r12d, %edx
        mov     %r13d, %eax
        out     %al, %dx
        jmp     next
jump:   jmp     *%r12
print:  mov     (%r12), %rax
        mov     $digits + 15, %rdi
        mov     $16, %ecx
1:      mov     %al, %dl
        and     $15, %dl
        cmp     $10, %dl
        jb      2f
        add     $'a' - '0' - 10, %dl
2:      add     $'0', %dl
        mov     %dl, (%rdi)
        dec     %rdi
        shr     $4, %rax
        loop    1b
        mov     $line, %eax
        hypercall SERIAL, %eax
        jmp     next
done:   xor     %eax, %eax
halt:   hypercall EXIT2, %eax
1:      hlt
        jmp     1b

/* RAX = the number at RSI, which is behind it then. */
number: xor     %eax, %eax
1:      movzbl  (%rsi), %ecx
        sub     $'0', %ecx
        cmp     $10, %ecx
        jb      2f
        sub     $'a' - '0' - 10, %ecx
        cmp     $10, %ecx
        jb      3f
        cmp     $16, %ecx
        jae     3f
2:      shl     $4, %rax
        or      %rcx, %rax
        inc     %rsi
        jmp     1b
3:      ret

        .data
        .balign 8
line:   .quad digits, 17
digits: .fill 16, 1, 0
        .ascii "\n"
        room
