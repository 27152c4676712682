/* Does what Hermit's loader for QEMU does (hermit-os/loader 0.5, src/arch/x86_64/multiboot.rs): a 32-bit ELF file
 * with a Multiboot header. Of what is not its own it maps the page behind itself, where it has its command line, that
 * of Multiboot's information with all it points to, and the module. It puts a stack behind that information,
 * below which the kernel has its code for other processors, 0x8000.
 */
        .equ    LOAD, 0x100000
        .globl  LOAD
        .text
elf:    .byte   0x7f, 'E', 'L', 'F', 1, 1, 1
        .balign 16, 0
        .short  2, 3                    /* ET_EXEC, EM_386 */
        .long   1, _start, segment - elf, 0, 0
        .short  52, 32, 1, 40, 0, 0
segment:
        .long   1, 0, LOAD, LOAD, end - elf, end - elf, 7, 4
        .balign 4
        .long   0x1badb002, 3, -(0x1badb002 + 3)

        .code32
        .include "../kernels/console.inc"
        .include "../systems/hermit_loader.inc"

        .equ    COMMAND_LINE, 16
        .equ    MODULE_COUNT, 20
        .equ    MODULES, 24
        .equ    SECOND_CODE, 0x8000
        .equ    PAGE, 0x1000

        .text
        .globl  _start
_start:
        mov     $stack, %esp
        cmp     $0x2badb002, %eax
        jne     failed
        mov     COMMAND_LINE(%ebx), %esi
        cmpl    $1, MODULE_COUNT(%ebx)
        jne     failed
        mov     MODULES(%ebx), %edi
        mov     %edi, %eax
        xor     %ebx, %eax
        and     $-PAGE, %eax
        jnz     failed
        mov     (%edi), %edi
        cmp     $SECOND_CODE + PAGE, %ebx
        jb      failed
        mov     $end, %eax
        add     $PAGE - 1, %eax
        and     $-PAGE, %eax
        cmp     %eax, %esi
        jne     failed
        add     $PAGE, %eax
        cmp     %eax, %edi
        jne     failed
        jmp     hermit

        .data
        .balign 4
end:
