/* Prints what PVH's start_info tells it: command line, usable memory, ram disk
 * (xen/include/public/arch-x86/hvm/start_info.h).
 *
 * It calls a subroutine before it has a stack of its own, as Nanos does.
 */
        .code32
        .include "console.inc"

        .equ MAGIC, 0x336ec578
        .equ MODULE_COUNT, 12
        .equ MODULES, 16
        .equ COMMAND_LINE, 24
        .equ MEMORY_MAP, 40
        .equ MEMORY_ENTRIES, 48
        .equ ENTRY_SIZE, 24

        .text
        .globl _start
_start:
        call    early
        mov     $stack, %esp
        cmpl    $MAGIC, (%ebp)
        jne     failed

        say     command_line
        mov     COMMAND_LINE(%ebp), %esi
        call    print
        say     newline

        say     memory
        call    add_up_memory
        call    print_number
        say     mib

        say     ram_disk
        xor     %ecx, %ecx
        cmpl    $1, MODULE_COUNT(%ebp)
        jne     1f
        mov     MODULES(%ebp), %edi
        mov     (%edi), %esi
        mov     8(%edi), %ecx
1:      call    print_bytes
        say     newline
        xor     %eax, %eax
        exit

failed: say     no_start_info
        mov     $1, %eax
        exit

early:  mov     %ebx, %ebp
        ret

/* EAX = MiB of usable memory, rounded: the map leaves out 384 KiB. */
add_up_memory:
        mov     MEMORY_MAP(%ebp), %edi
        mov     MEMORY_ENTRIES(%ebp), %ecx
        xor     %eax, %eax
        xor     %edx, %edx
1:      add     8(%edi), %eax
        adc     12(%edi), %edx
        add     $ENTRY_SIZE, %edi
        dec     %ecx
        jnz     1b
        add     $0x80000, %eax
        adc     $0, %edx
        shrd    $20, %edx, %eax
        ret

        .data
command_line:   .asciz "command line: "
memory:         .asciz "memory: "
mib:            .asciz " MiB\n"
ram_disk:       .asciz "ram disk: "
newline:        .asciz "\n"
no_start_info:  .asciz "EBX is not at a start_info\n"

        .section .note, "a", @note
        .long   4, 4, 18                /* XEN_ELFNOTE_PHYS32_ENTRY */
        .asciz  "Xen"
        .long   _start
