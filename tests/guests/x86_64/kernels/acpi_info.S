/* Prints what ACPI says (ACPI 6.5, chapter 5): processors and virtio-mmio devices, and how many
 * processors wake when each is sent INIT and SIPI by the APIC ID it has there.
 *
 * Entered by PVH, so without paging. The RSDP has to be where start_info says, and where a scan from
 * 0xe0000 on comes to it first; every table's checksum has to be right. Else it exits with 1. If the command
 * line begins with `panic`, it says to pvpanic in the end that it has panicked.
 */
        .code32
        .include "console.inc"

        .equ COMMAND_LINE, 24           /* in start_info */
        .equ RSDP, 32                   /* the same */
        .equ PVPANIC, 0x505
        .equ SCAN, 0xe0000
        .equ SCAN_END, 0x100000
        .equ XSDT, 24                   /* in the RSDP */
        .equ LENGTH, 4                  /* in a table */
        .equ HEADER, 36
        .equ MADT_ENTRIES, 44
        .equ X_DSDT, 140                /* in the FADT */
        .equ TRAMPOLINE, 0x8000
        .equ AWAKE, 0x8800
        .equ LAPIC, 0xfee00000

        .text
        .globl _start
_start:
        mov     $stack, %esp
        mov     COMMAND_LINE(%ebx), %eax
        mov     %eax, command_line
        mov     RSDP(%ebx), %ebp
        mov     $SCAN, %esi
1:      cmpl    $0x20445352, (%esi)     /* "RSD " */
        jne     2f
        cmpl    $0x20525450, 4(%esi)    /* "PTR " */
        je      3f
2:      add     $16, %esi
        cmp     $SCAN_END, %esi
        jb      1b
3:      cmp     %esi, %ebp
        jne     failed
        mov     $HEADER, %ecx
        call    check
        mov     XSDT(%ebp), %ebp
        call    check_table

        mov     $0x43495041, %eax       /* "APIC" */
        call    find
        push    %ebp
        mov     %edi, %ebp
        call    processors
        pop     %ebp
        mov     $0x50434146, %eax       /* "FACP" */
        call    find
        mov     X_DSDT(%edi), %ebp
        call    check_table
        call    devices
        mov     command_line, %eax
        cmpl    $0x696e6170, (%eax)     /* "pani" */
        jne     1f
        mov     $PVPANIC, %edx
        mov     $1, %al
        out     %al, %dx
1:      xor     %eax, %eax
        exit
failed: mov     $1, %eax
        exit

/* The table at EBP: whether its bytes add up to 0. */
check_table:
        mov     LENGTH(%ebp), %ecx
check:  mov     %ebp, %esi
        xor     %eax, %eax
1:      add     (%esi), %al
        inc     %esi
        dec     %ecx
        jnz     1b
        test    %al, %al
        jnz     failed
        ret

/* EDI = the table of the signature EAX in the XSDT at EBP, checked. */
find:   mov     %ebp, %edx
        mov     LENGTH(%ebp), %ebx
        add     %ebp, %ebx
        add     $HEADER, %edx
1:      cmp     %ebx, %edx
        jae     failed
        mov     (%edx), %edi
        add     $8, %edx
        cmp     %eax, (%edi)
        jne     1b
        push    %ebp
        mov     %edi, %ebp
        call    check_table
        pop     %ebp
        ret

/* The MADT at EBP: counts processors that are enabled, and wakes all but this one, whose ID is 0. */
processors:
        mov     $TRAMPOLINE, %edi
        mov     $second, %esi
        mov     $second_end - second, %ecx
        rep movsb
        movl    $1, AWAKE
        movl    $0x1ff, LAPIC + 0xf0    /* the local APIC, on */
        xor     %edi, %edi
        lea     MADT_ENTRIES(%ebp), %esi
        mov     LENGTH(%ebp), %ebx
        add     %ebp, %ebx
1:      cmpb    $0, (%esi)              /* a local APIC */
        jne     3f
        testb   $1, 4(%esi)
        jz      3f
        inc     %edi
        movzbl  3(%esi), %eax
        test    %eax, %eax
        jz      3f
        shl     $24, %eax
        movl    %eax, LAPIC + 0x310
        movl    $0x4500, LAPIC + 0x300
        movl    %eax, LAPIC + 0x310
        movl    $0x4600 | TRAMPOLINE >> 12, LAPIC + 0x300
2:      cmp     %edi, AWAKE             /* it counts itself */
        jne     2b
3:      movzbl  1(%esi), %eax
        add     %eax, %esi
        cmp     %ebx, %esi
        jb      1b
        say     cpus
        mov     %edi, %eax
        call    print_number
        say     newline
        say     awake
        mov     AWAKE, %eax
        call    print_number
        say     newline
        ret

/* The DSDT at EBP: counts "LNRO". */
devices:
        xor     %edi, %edi
        mov     LENGTH(%ebp), %ecx
1:      cmpl    $0x4f524e4c, (%ebp)
        jne     2f
        inc     %edi
2:      inc     %ebp
        dec     %ecx
        jnz     1b
        say     disks
        mov     %edi, %eax
        call    print_number
        say     newline
        ret

/* A processor that has just woken, in real mode at the trampoline. */
        .code16
second: xor     %ax, %ax
        mov     %ax, %ds
        lock incl AWAKE
1:      hlt
        jmp     1b
second_end:

        .data
cpus:           .asciz "cpus: "
awake:          .asciz "awake: "
disks:          .asciz "devices: "
newline:        .asciz "\n"
        .balign 4
command_line:   .long 0

        .section .note, "a", @note
        .long   4, 4, 18
        .asciz  "Xen"
        .long   _start
