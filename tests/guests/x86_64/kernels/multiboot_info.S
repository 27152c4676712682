/* Prints what Multiboot's information tells it; an ELF64 file that loads where its segments say. */
        .code32
        .include "console.inc"
        .include "multiboot.inc"
        header  0
