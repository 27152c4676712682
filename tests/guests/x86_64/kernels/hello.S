/* The guest that is built into runner: greets, says what it sees, exits with 0.
 *
 * Entered by Linux's 64-bit protocol: long mode, RSI at the zero page. General-purpose
 * instructions only, so that it runs where KVM interprets kernel code.
 */
        .equ COM1, 0x3f8
        .equ LSR, 0x3fd                 /* line status; bit 5: ready to send */
        .equ EXIT, 0x501
        .equ E820_ENTRIES, 0x1e8
        .equ E820_TABLE, 0x2d0
        .equ E820_SIZE, 20

        .text
        .globl _start
_start:
        lea     stack(%rip), %rsp
        mov     %rsi, %r15

        lea     greeting(%rip), %rsi
        call    print

        lea     accelerator(%rip), %rsi
        call    print
        call    print_accelerator

        lea     memory(%rip), %rsi
        call    print
        call    sum_memory
        call    print_number
        lea     mib(%rip), %rsi
        call    print

        lea     cpus(%rip), %rsi
        call    print
        mov     $0x80000008, %eax       /* ECX 7:0: cores of the package, less one */
        cpuid
        movzbl  %cl, %eax
        inc     %eax
        call    print_number
        lea     newline(%rip), %rsi
        call    print

        mov     $EXIT, %edx
        xor     %eax, %eax
        out     %al, %dx
1:      hlt
        jmp     1b

/* Prints the hypervisor's CPUID signature, by its usual name where it is a known one. */
print_accelerator:
        mov     $0x40000000, %eax
        cpuid
        lea     signature(%rip), %rdi
        mov     %ebx, (%rdi)
        mov     %ecx, 4(%rdi)
        mov     %edx, 8(%rdi)
        lea     kvm(%rip), %rsi
        cmp     $0x4b4d564b, %ebx       /* "KVMK" */
        je      print
        lea     tcg(%rip), %rsi
        cmp     $0x54474354, %ebx       /* "TCGT" */
        je      print
        mov     %rdi, %rsi
        call    print
        lea     newline(%rip), %rsi
        jmp     print

/* EAX = usable memory in MiB, rounded to the nearest: the e820 map leaves out 384 KiB. */
sum_memory:
        movzbl  E820_ENTRIES(%r15), %ecx
        lea     E820_TABLE(%r15), %rdi
        xor     %eax, %eax
        test    %ecx, %ecx
        jz      2f
1:      add     8(%rdi), %rax
        add     $E820_SIZE, %rdi
        dec     %ecx
        jnz     1b
2:      add     $0x80000, %rax
        shr     $20, %rax
        ret

/* Prints EAX in decimal. */
print_number:
        lea     digits_end(%rip), %rsi
        mov     $10, %ecx
1:      xor     %edx, %edx
        div     %ecx
        add     $'0', %dl
        dec     %rsi
        mov     %dl, (%rsi)
        test    %eax, %eax
        jnz     1b
        /* fall through */

/* Prints the string at RSI, up to its NUL. */
print:
        mov     (%rsi), %bl
        test    %bl, %bl
        jz      2f
        mov     $LSR, %edx
1:      in      %dx, %al
        test    $0x20, %al
        jz      1b
        mov     $COM1, %edx
        mov     %bl, %al
        out     %al, %dx
        inc     %rsi
        jmp     print
2:      ret

        .data
greeting:       .asciz "Hello from a unikernel!\n"
accelerator:    .asciz "accelerator: "
kvm:            .asciz "KVM\n"
tcg:            .asciz "none (QEMU's software emulation)\n"
memory:         .asciz "memory: "
mib:            .asciz " MiB\n"
cpus:           .asciz "cpus: "
newline:        .asciz "\n"
signature:      .fill 13, 1, 0
digits:         .fill 10, 1, 0
digits_end:     .byte 0
        .balign 16
        .fill 256, 1, 0
stack:
