/* Prints what Multiboot's information tells it; an ELF file of 32 bits, made by hand, since the linker script
 * for these is for bare bytes. Its entry is a virtual address, as kernels have it that run high.
 */
        .equ    LOAD, 0x200000
        .globl  LOAD
        .equ    HIGH, 0x80000000
        .text
elf:    .byte   0x7f, 'E', 'L', 'F', 1, 1, 1
        .balign 16, 0
        .short  2, 3                    /* ET_EXEC, EM_386 */
        .long   1, _start + HIGH, segment - elf, 0, 0
        .short  52, 32, 1, 0, 0, 0
segment:
        .long   1, 0, LOAD + HIGH, LOAD, end - elf, end - elf, 7, 4
        .code32
        .include "../kernels/console.inc"
        .include "../kernels/multiboot.inc"
        header  0
        .data
end:
