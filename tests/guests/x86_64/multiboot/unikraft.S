/* Does what Unikraft does on QEMU's PC (plat/kvm/x86, plat/common/x86/cpu_native.c): a 32-bit ELF file with a
 * Multiboot header and sections `.uk_…`, which measures by the interval timer, reads the clock, sleeps until
 * the timer interrupts by an 8259, prints its command line, and ends as Unikraft does: power off by QEMU's
 * PM1a control, or else 41 to the exit port; `ends=1` on the command line is a crash, 42; `ends=2` skips
 * power-off, as on a machine that has none.
 */
        .equ    LOAD, 0x100000
        .globl  LOAD
        .text
elf:    .byte   0x7f, 'E', 'L', 'F', 1, 1, 1
        .balign 16, 0
        .short  2, 3                    /* ET_EXEC, EM_386 */
        .long   1, _start, segment - elf, sections - elf, 0
        .short  52, 32, 1, 40, 2, 1
segment:
        .long   1, 0, LOAD, LOAD, end - elf, end - elf, 7, 4
sections:
        .fill   40, 1, 0
        .long   1, 3, 0, 0, names - elf, names_end - names, 0, 0, 1, 0
names:  .asciz  "", ".shstrtab", ".uk_inittab", ".uk_bootinfo"
names_end:
        .balign 4
        .long   0x1badb002, 2, -(0x1badb002 + 2)

        .code32
        .include "../kernels/console.inc"
        .include "../systems/old.inc"

        .equ    COMMAND_LINE, 16
        .equ    PM1A_CONTROL, 0x604

        .text
        .globl  _start
_start:
        mov     $stack, %esp
        mov     %ebx, %ebp
        cmp     $0x2badb002, %eax
        jne     failed
        call    use_timer
        call    use_clock
        call    use_pics
        call    sleep
        say     works
        mov     COMMAND_LINE(%ebp), %esi
        call    print
        say     newline
        mov     COMMAND_LINE(%ebp), %esi
        mov     $0x73646e65, %edi       /* "ends" */
        call    find_number
        mov     $EXIT, %edx
        cmp     $1, %eax
        je      1f
        cmp     $2, %eax
        je      2f
        mov     $PM1A_CONTROL, %edx
        mov     $0x2000, %eax
        out     %ax, %dx
        mov     $EXIT, %edx
2:      mov     $41, %eax
        out     %ax, %dx
1:      mov     $42, %eax
        out     %ax, %dx
        hlt

failed: say     broken
        mov     $1, %eax
        exit

/* Halts until the timer, which counts once, interrupts. */
sleep:  mov     $tick, %eax
        mov     %ax, gate
        shr     $16, %eax
        mov     %ax, gate + 6
        mov     %cs, %ax
        mov     %ax, gate + 2
        lidt    idtr
        mov     $0x30, %al              /* counter 0, two bytes, mode 0 */
        out     %al, $TIMER_MODE
        mov     $0xff, %al
        out     %al, $TIMER
        mov     $0x04, %al              /* a millisecond */
        out     %al, $TIMER
        sti
1:      hlt
        jmp     1b

/* Goes on behind `sleep`, without IRET, which a KVM that interprets does not know in this mode. */
tick:   mov     $0x20, %al
        out     %al, $PIC1
        add     $12, %esp               /* EIP, CS, EFLAGS; interrupts are off now */
        ret

        .data
newline:        .asciz "\n"
        .balign 8
idtr:   .short  8 * (VECTORS + 1) - 1
        .long   gate - 8 * VECTORS
        .balign 8
gate:   .short  0, 0, 0x8e00, 0
        .balign 4
end:
