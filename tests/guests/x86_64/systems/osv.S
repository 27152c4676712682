/* Does what OSv does (arch/x64: entry-xen.S, pvh-boot.cc, vmlinux.cc, power.cc): an ELF64 kernel with a PVH
 * note of 64 bits and Xen's note of whose it is, entered by that or by Linux's 64-bit entry, which goes on in
 * 32-bit mode. Prints its command line, which tells of virtio devices and of no PCI bus. Where there are ACPI
 * tables it switches itself off by their sleep control register, and else resets.
 */
        .code32
        .include "../kernels/console.inc"
        .include "../kernels/linux.inc"

        .equ MAGIC, 0x336ec578
        .equ COMMAND_LINE, 24
        .equ RSDP, 32
        /* Where OSv keeps what it is told: nothing of ours may be in its way. */
        .equ KEPT, 0x1000
        /* ACPI: XSDT in the RSDP, DSDT and registers in the FADT. */
        .equ XSDT, 24
        .equ TABLES, 36
        .equ DSDT, 140
        .equ SLEEP_CONTROL, 244
        .equ SLEEP_STATUS, 256
        .equ ADDRESS, 4

        .text
/* By PVH. */
by_pvh: mov     $0x7c00, %esp
        cmpl    $MAGIC, (%ebx)
        jne     failed
        mov     COMMAND_LINE(%ebx), %esi
        mov     RSDP(%ebx), %ebp
        jmp     both

/* By Linux's entry: the stack is good for the way back to 32-bit mode. */
        .code64
        .globl  _start
_start:
        mov     CMD_LINE_PTR(%rsi), %edi
        lgdt    table64
        sub     $8, %rsp
        movl    $0x08, 4(%rsp)
        movl    $from64, (%rsp)
        lretl

        .code32
from64: mov     $0x10, %eax
        mov     %eax, %ds
        mov     %eax, %es
        mov     %eax, %ss
        mov     %edi, %esi
        xor     %ebp, %ebp
        /* It looks for the tables itself. */
        cmpl    $0x20445352, 0xe0000    /* "RSD " */
        jne     both
        mov     $0xe0000, %ebp

both:   mov     $stack, %esp
        movl    $0, KEPT
        movl    $0, 2 * KEPT
        call    print
        say     newline
        test    %ebp, %ebp
        jnz     by_acpi
        mov     $0xfe, %al
        out     %al, $0x64
        hlt

/* SLP_TYP is in the package of the name _S5_: op, length, elements, a byte. */
by_acpi:
        mov     XSDT(%ebp), %ebx
        mov     4(%ebx), %ecx
        sub     $TABLES, %ecx
        shr     $3, %ecx
        add     $TABLES, %ebx
1:      mov     (%ebx), %edi
        cmpl    $0x50434146, (%edi)     /* "FACP" */
        je      2f
        add     $8, %ebx
        dec     %ecx
        jnz     1b
        jmp     failed
2:      mov     DSDT(%edi), %ebx
        mov     4(%ebx), %ecx
3:      cmpl    $0x5f35535f, (%ebx)     /* "_S5_" */
        je      4f
        inc     %ebx
        dec     %ecx
        jnz     3b
        jmp     failed
4:      cmpb    $0x12, 4(%ebx)
        jne     failed
        cmpb    $0x0a, 7(%ebx)
        jne     failed
        /* Both registers are ports of a byte. */
        cmpw    $0x0801, SLEEP_CONTROL(%edi)
        jne     failed
        cmpw    $0x0801, SLEEP_STATUS(%edi)
        jne     failed
        mov     SLEEP_STATUS + ADDRESS(%edi), %edx
        mov     $0x80, %al              /* WAK_STS: cleared */
        out     %al, %dx
        mov     8(%ebx), %al
        shl     $2, %al
        or      $0x20, %al              /* SLP_EN */
        mov     SLEEP_CONTROL + ADDRESS(%edi), %edx
        out     %al, %dx
        hlt

failed: say     broken
        mov     $1, %eax
        exit

        .data
newline:        .asciz "\n"
broken:         .asciz "not as OSv has it\n"
        .balign 8
table:          .quad 0
                .quad 0x00cf9b000000ffff        /* 0x08: 32-bit code */
                .quad 0x00cf93000000ffff        /* 0x10: data */
table64:        .word . - table - 1
                .quad table

        .section .note, "a", @note
        .balign 4
        .long   4, 4, 6                 /* XEN_ELFNOTE_GUEST_OS */
        .asciz  "Xen"
        .asciz  "osv"
        .long   4, 8, 18                /* XEN_ELFNOTE_PHYS32_ENTRY */
        .asciz  "Xen"
        .quad   by_pvh
