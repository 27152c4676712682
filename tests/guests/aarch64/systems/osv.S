// Does what OSv does on arm64 (arch/aarch64: preboot.S, boot.S, arch-dtb.cc, arch-setup.cc): an Image whose first 64
// KiB are a header, a place for its command line and room for the device tree, and the rest an ELF file, which is
// entered where that file says. It takes its own addresses from where RAM begins. Where the device tree has no command
// line, its own is put there, for which there has to be room. Prints it, and has its firmware switch it off.
        .globl  LOAD
        .equ    LOAD, 0x40080000
        .equ    OFFSET, 0x80000         // text_offset
        .equ    BASE, 0xfc0080000       // where it maps its image
        .equ    MOST, 1024              // bytes of a command line, with its NUL

        .text
image_start:
        b       prestart
        .long   0
        .quad   OFFSET
        .quad   image_end - image_start // image_size
        .quad   0
        .quad   0, 0, 0
        .ascii  "ARM\x64"
        .long   0
prestart:
        mov     x5, x0                  // the device tree
        adr     x4, slot
        adr     x3, elf
        ldr     x0, [x3, 24]            // e_entry
        and     x0, x0, 0x1fffff
        sub     x0, x0, OFFSET
        adr     x1, image_start
        add     x0, x0, x1
        br      x0

        .org    0x200
slot:   .asciz  "/built-in.so"

        .org    0x10000
elf:    .byte   0x7f, 'E', 'L', 'F', 2, 1, 1, 0
        .quad   0
        .short  2, 183                  // EXEC, AArch64
        .long   1
        .quad   BASE + (_start - image_start)
        .quad   0                       // no segments
        .quad   sections - elf
        .long   0
        .short  64, 56, 0, 64, 2, 1
sections:
        .fill   8, 8, 0
        .long   1, 3                    // STRTAB
        .quad   0, 0, names - elf, names_end - names
        .long   0, 0
        .quad   1, 0
names:  .asciz  ""
        .asciz  ".shstrtab"
        .asciz  ".percpu_workers"
names_end:
        .balign 16

        .include "../kernels/console.inc"
        .include "../kernels/fdt.inc"

        .text
        .globl  _start
_start: mov     x27, x4
        mov     x0, x5
        begin
        // It maps its image from the beginning of RAM on.
        mov     x26, 0
        adr     x21, property
        bl      walk
        adr     x9, image_start
        sub     x9, x9, OFFSET
        adr     x1, misplaced
        cmp     x9, x26
        b.ne    fail

        adr     x21, command_line
        mov     x25, 0
        bl      walk
        mov     x28, x25
        cbnz    x25, 2f
        mov     x28, x27
2:      mov     x10, x28                // X9 = its length with its NUL
3:      ldrb    w11, [x10], 1
        cbnz    w11, 3b
        sub     x9, x10, x28
        adr     x1, too_long
        cmp     x9, MOST
        b.hi    fail
        cbnz    x25, 4f
        // A property: three words, and the value; and its name. Room is behind the strings.
        add     x9, x9, 12 + 3 + 9
        ldr     w10, [x19, 4]
        rev     w10, w10
        ldr     w11, [x19, OFF_STRINGS]
        rev     w11, w11
        ldr     w12, [x19, 32]          // size_dt_strings
        rev     w12, w12
        add     w11, w11, w12
        sub     w10, w10, w11
        adr     x1, no_room
        cmp     x9, x10
        b.hi    fail
4:      mov     x1, x28
        bl      print
        say     newline
        ldr     x0, =SYSTEM_OFF
        hvc     0
        b       .

fail:   bl      print
        mov     w0, 1
        b       exit

// X26 = where memory begins.
property:
        str     x30, [sp, -16]!
        mov     x5, x1
        adr     x6, memory_node
        bl      starts
        b.ne    1f
        mov     x5, x2
        adr     x6, reg
        bl      starts
        b.ne    1f
        ldp     w9, w10, [x3]
        rev     w9, w9
        rev     w10, w10
        add     x26, x10, x9, lsl 32
1:      ldr     x30, [sp], 16
        ret

        .ltorg

        .data
newline:        .asciz "\n"
misplaced:      .asciz "not where its addresses are taken from\n"
too_long:       .asciz "command line too long\n"
no_room:        .asciz "no room in the device tree\n"
memory_node:    .asciz "memory@"
reg:            .asciz "reg"
        .balign 8
image_end:
