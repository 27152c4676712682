/* Prints what Linux's zero page tells it: command line, usable memory, ram disk. Before it says
 * how much memory there is, it writes and reads the last 8 bytes of it.
 */
        .include "console.inc"
        .include "linux.inc"

        .equ DIRECTORY, 0x200000        /* a page of free memory */

        .text
        .globl _start
_start:
        mov     $stack, %esp
        mov     %esi, %ebp

        say     command_line
        mov     CMD_LINE_PTR(%rbp), %esi
        call    print
        say     newline

        call    add_up_memory
        mov     %r9, %rdi
        call    map_gib_of
        mov     %r9, (%r9)
        cmp     %r9, (%r9)
        jne     failed
        say     memory
        lea     0x80000(%r8), %rax      /* rounded: the map leaves out 384 KiB */
        shr     $20, %rax
        call    print_number
        say     mib

        say     ram_disk
        mov     RAMDISK_IMAGE(%rbp), %esi
        mov     RAMDISK_SIZE(%rbp), %ecx
        call    print_bytes
        say     newline
        xor     %eax, %eax
        exit

failed: say     no_memory
        mov     $1, %eax
        exit

/* R8 = bytes of usable memory, R9 = the last 8 of them. */
add_up_memory:
        movzbl  E820_ENTRIES(%rbp), %ecx
        lea     E820_TABLE(%rbp), %rdi
        xor     %r8d, %r8d
1:      add     8(%rdi), %r8
        mov     (%rdi), %r9
        add     8(%rdi), %r9
        sub     $8, %r9
        add     $E820_SIZE, %rdi
        dec     %ecx
        jnz     1b
        ret

/* Maps the GiB that RDI is in to itself, with 2 MiB pages. The first GiB is all there is when a
 * kernel is entered.
 */
map_gib_of:
        shr     $30, %rdi
        mov     %rdi, %rax
        shl     $30, %rax
        or      $0x83, %rax             /* present, writable, 2 MiB */
        mov     $DIRECTORY, %esi
        mov     $512, %ecx
1:      mov     %rax, (%rsi)
        add     $0x200000, %rax
        add     $8, %rsi
        dec     %ecx
        jnz     1b
        mov     %cr3, %rax
        mov     (%rax), %rdx            /* PML4 entry 0: the table of GiBs */
        and     $~0xfff, %rdx
        mov     $DIRECTORY + 3, %esi
        mov     %rsi, (%rdx, %rdi, 8)
        mov     %rax, %cr3
        ret

        .data
command_line:   .asciz "command line: "
memory:         .asciz "memory: "
mib:            .asciz " MiB\n"
no_memory:      .asciz "the end of memory does not keep what is written\n"
ram_disk:       .asciz "ram disk: "
newline:        .asciz "\n"
