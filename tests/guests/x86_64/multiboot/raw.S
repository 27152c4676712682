/* Prints what Multiboot's information tells it; no ELF file: the header has the addresses. The file's first
 * bytes are not loaded, and its last ones are zero in memory.
 */
        .equ    LOAD, 0x200000
        .globl  LOAD
        .text
        .ascii  "not loaded"
        .balign 16
loaded:
        .code32
        .include "../kernels/console.inc"
        .include "../kernels/multiboot.inc"
        .text
entry:
        cmpl    $0, zeros
        je      _start
        jmp     failed
        header  1 << 16
        .long   header_here, loaded, loaded_end, zeros_end, entry
        .data
        .balign 4
loaded_end:
zeros:  .ascii  "not loaded, either"
zeros_end:
