/* Does what its ram disk says, step by step, so that a test holds both what a hostile guest does and
 * what has to come of it (tests/vm/tests/hostile/script.rs writes the steps).
 *
 * A step has 32 bytes: operation, width in bytes, two bytes of nothing, a number (32 bits), address,
 * value, mask (64 bits each). What a step reads is cut to its mask and has to be its value; if it is
 * not, the guest says at which step and what it read, and exits with 1. Behind the page of an ELF file they are where the
 * ram disk begins with one, as Hermit's loader is given it.
 *
 * The first 4 GiB are mapped to themselves. General-purpose instructions only, except where a routine
 * is about others.
 */
        .include "console.inc"
        .include "linux.inc"
        .include "script.inc"
        .include "map.inc"

        .equ STEP, 32
        .equ WIDTH, 1
        .equ NUMBER, 4
        .equ ADDRESS, 8
        .equ VALUE, 16
        .equ MASK, 24

        /* Memory that is zero and free when this starts. */
        .equ IDT, 0x200000
        .equ directories, 0x201000      /* three pages */
        .equ TRAMPOLINE, 0x50000        /* a page that a SIPI's vector can name */
        .equ LAPIC, 0xfee00000
        .equ ELF, 0x464c457f
        .equ PAGE, 0x1000

        .text
        .globl _start
_start:
        mov     $stack, %esp
        xor     %ebp, %ebp
        mov     RAMDISK_IMAGE(%rsi), %r14d
        mov     %cr3, %rax
        mov     %rax, second_cr3
        mov     $0x93, %eax             /* present, writable, no caching, 2 MiB */
        call    map_rest
        cmpl    $ELF, (%r14)            /* not before: it may be above the first GiB */
        jne     1f
        add     $PAGE, %r14
1:      mov     %r14, ram_disk
        call    catch_exceptions
        mov     %r14, %r15
        /* fall through */

/* Carries out the step at R15, and those behind it. R14 = the first one of all. */
run:
        movzbl  (%r15), %eax
        cmp     $(operations_end - operations) / 8, %eax
        jae     failed
        mov     operations(,%rax,8), %rax
        call    *%rax
        add     $STEP, %r15
        jmp     run

        .data
mark:   .asciz  "[LOADER]"              /* of Hermit's loader, which it is with such a ram disk */
        .balign 8
operations:
        .quad end, store, expect, await, output, input, await_input
        .quad copy, again, routine, add_to, start_second
operations_end:
        .text

/* Ends the run: the exit value is the step's. */
end:
        mov     VALUE(%r15), %eax
        exit

/* Writes the value to the address. */
store:
        mov     ADDRESS(%r15), %rdi
        mov     VALUE(%r15), %rax
        cmpb    $2, WIDTH(%r15)
        jb      1f
        je      2f
        cmpb    $4, WIDTH(%r15)
        je      4f
        mov     %rax, (%rdi)
        ret
1:      mov     %al, (%rdi)
        ret
2:      mov     %ax, (%rdi)
        ret
4:      mov     %eax, (%rdi)
        ret

/* RAX = what is at the address, cut to the mask. */
load:
        mov     ADDRESS(%r15), %rdi
        cmpb    $2, WIDTH(%r15)
        jb      1f
        je      2f
        cmpb    $4, WIDTH(%r15)
        je      4f
        mov     (%rdi), %rax
        jmp     5f
1:      movzbl  (%rdi), %eax
        jmp     5f
2:      movzwl  (%rdi), %eax
        jmp     5f
4:      mov     (%rdi), %eax
5:      and     MASK(%r15), %rax
        ret

/* Reads the address once. */
expect:
        call    load
        cmp     VALUE(%r15), %rax
        jne     failed
        ret

/* Reads the address until the value is there. */
await:
        pause
        call    load
        cmp     VALUE(%r15), %rax
        jne     await
        ret

/* Writes the value to port NUMBER. */
output:
        mov     NUMBER(%r15), %edx
        mov     VALUE(%r15), %rax
        cmpb    $2, WIDTH(%r15)
        jb      1f
        je      2f
        out     %eax, %dx
        ret
1:      out     %al, %dx
        ret
2:      out     %ax, %dx
        ret

/* RAX = what port NUMBER gives, cut to the mask. */
take:
        mov     NUMBER(%r15), %edx
        xor     %eax, %eax
        cmpb    $2, WIDTH(%r15)
        jb      1f
        je      2f
        in      %dx, %eax
        jmp     3f
1:      in      %dx, %al
        jmp     3f
2:      in      %dx, %ax
3:      and     MASK(%r15), %rax
        ret

/* Reads the port once. */
input:
        call    take
        cmp     VALUE(%r15), %rax
        jne     failed
        ret

/* Reads the port until the value is there. */
await_input:
        pause
        call    take
        cmp     VALUE(%r15), %rax
        jne     await_input
        ret

/* Copies MASK bytes from VALUE in the ram disk to the address. */
copy:
        mov     ADDRESS(%r15), %rdi
        mov     VALUE(%r15), %rsi
        add     %r14, %rsi
        mov     MASK(%r15), %rcx
        cld
        rep     movsb
        ret

/* Goes NUMBER steps back, VALUE times in all. MASK counts, and is 0 again in the end. */
again:
        incq    MASK(%r15)
        mov     MASK(%r15), %rax
        cmp     VALUE(%r15), %rax
        ja      1f
        mov     NUMBER(%r15), %eax
        inc     %eax                    /* `run` goes one on */
        imul    $STEP, %rax
        sub     %rax, %r15
        ret
1:      movq    $0, MASK(%r15)
        ret

/* Calls routine NUMBER with RDI = address and RSI = mask. Any result will do if the value is -1. */
routine:
        mov     NUMBER(%r15), %eax
        mov     routines(,%rax,8), %rax
        mov     ADDRESS(%r15), %rdi
        mov     MASK(%r15), %rsi
        mov     %rsp, %rbp
        call    *%rax
returned:
        xor     %ebp, %ebp
        cmpq    $-1, VALUE(%r15)
        je      1f
        cmp     VALUE(%r15), %rax
        jne     failed
1:      ret

/* Adds the value to the 16-bit word at the address, behind everything written before. */
add_to:
        mov     ADDRESS(%r15), %rdi
        mov     VALUE(%r15), %rax
        lock add %ax, (%rdi)
        ret

/* Starts the processor with APIC ID NUMBER at the step at VALUE in the ram disk, by INIT and SIPI
 * (SDM volume 3A, 9.4.4). One at a time: it is the second processor's script that says it runs.
 */
start_second:
        mov     VALUE(%r15), %rax
        add     %r14, %rax
        mov     %rax, second_script
        mov     $trampoline, %esi
        mov     $TRAMPOLINE, %edi
        mov     $trampoline_end - trampoline, %ecx
        cld
        rep     movsb
        mov     $LAPIC, %edi
        movl    $0x1ff, 0xf0(%rdi)
        mov     NUMBER(%r15), %eax
        shl     $24, %eax
        mov     %eax, 0x310(%rdi)
        movl    $0x4500, 0x300(%rdi)
        mov     %eax, 0x310(%rdi)
        movl    $0x4600 | TRAMPOLINE >> 12, 0x300(%rdi)
        ret

/* Says at which step of the script it is, and RAX, and ends the run with 1. */
failed:
        mov     %rax, %r13
        say     at_step
        mov     %r15, %rax
        sub     %r14, %rax
        shr     $5, %rax
        call    print_number
        say     it_read
        mov     $16, %r12d
1:      rol     $4, %r13
        mov     %r13d, %ebx
        and     $0xf, %ebx
        mov     hexadecimal(%rbx), %bl
        call    send
        dec     %r12d
        jnz     1b
        say     newline
        mov     $1, %eax
        exit

/* Points every exception at a stub of its own, eight bytes apart. */
catch_exceptions:
        mov     $IDT, %edi
        mov     $stubs, %eax
1:      mov     %ax, (%rdi)
        movw    $0x10, 2(%rdi)          /* 64-bit code */
        movw    $0x8e00, 4(%rdi)        /* present, an interrupt gate */
        mov     %eax, %edx
        shr     $16, %edx
        mov     %edx, 6(%rdi)
        add     $16, %rdi
        add     $8, %eax
        cmp     $stubs_end, %eax
        jb      1b
        lidt    idtr
        ret

        .balign 8
stubs:
        .set    vector, 0
        .rept   32
        push    $vector
        jmp     caught
        .balign 8
        .set    vector, vector + 1
        .endr
stubs_end:

/* Ends the routine with 0x100 + vector. Outside of one, an exception is a failed step. */
caught:
        pop     %rax
        or      $0x100, %eax
        test    %rbp, %rbp
        jz      failed
        mov     %rbp, %rsp
        jmp     returned

/* What a second processor starts with: real mode, CS at its own page. The GDT is the boot
 * protocol's: 0x08 is 32-bit code, 0x10 64-bit code, 0x18 data.
 */
        .code16
trampoline:
        cli
        lgdtl   %cs:(second_gdt - trampoline)
        mov     $1, %eax                /* protected mode */
        mov     %eax, %cr0
        ljmpl   $0x08, $protected
second_gdt:
        .word   0x27
        .long   0x500
trampoline_end:

        .code32
protected:
        mov     $0x18, %eax
        mov     %eax, %ds
        mov     %eax, %es
        mov     %eax, %ss
        mov     $0x20, %eax             /* PAE */
        mov     %eax, %cr4
        mov     second_cr3, %eax
        mov     %eax, %cr3
        mov     $0xc0000080, %ecx       /* EFER.LME */
        xor     %edx, %edx
        mov     $0x100, %eax
        wrmsr
        mov     $0x80000011, %eax       /* paging, protected mode */
        mov     %eax, %cr0
        ljmpl   $0x10, $long
        .code64
long:
        mov     $second_stack, %esp
        lidt    idtr
        xor     %ebp, %ebp
        mov     second_script, %r15
        mov     ram_disk, %r14
        jmp     run

        .data
idtr:           .word 32 * 16 - 1
                .quad IDT
at_step:        .asciz "step "
it_read:        .asciz " read 0x"
newline:        .asciz "\n"
hexadecimal:    .ascii "0123456789abcdef"
        .balign 16
ram_disk:       .quad 0
second_script:  .quad 0
second_cr3:     .quad 0
                .fill 256, 1, 0
second_stack:
