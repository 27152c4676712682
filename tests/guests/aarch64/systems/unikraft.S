// Does what Unikraft does that is built for QEMU's virt and Linux's arm64 protocol (support/scripts/mklinux.py,
// plat/kvm/arm: link64.lds.S, entry64.S, setup.c; plat/common/bootinfo_fdt.c): an Image whose header stands in front of
// a kernel that is linked 1 MiB behind the beginning of RAM and runs nowhere else, whatever its flags say. Before it
// there is the device tree. Prints its command line, which begins with its name, and has its firmware switch it
// off.
        .globl  LOAD
        .equ    LOAD, 0x400fffc0
        .equ    PAGE, 4096
        .equ    PL011, 0x09000000
        .equ    DR, 0x00
        .equ    FR, 0x18                // bit 5: not ready to send
        .equ    SYSTEM_OFF, 0x84000008  // PSCI

        .text
header: add     x13, x18, 0x16          // nothing, but "MZ"
        b       _start
        .quad   0xfffc0                 // text_offset
        .quad   0x200000                // image_size
        .quad   0xa                     // flags: little-endian, pages of 4 KiB, anywhere in memory
        .quad   0, 0, 0
        .ascii  "ARM\x64"
        .long   0x40

        .include "../kernels/fdt.inc"

        // No handler for exceptions, which would have to be at a multiple of 2 KiB: the linker would move it all.
        .text
        .globl  _start
_start: mov     x19, x0
        adr     x9, stack
        mov     sp, x9
        adr     x1, misplaced
        adr     x9, header
        ldr     x10, =header            // where it is linked
        cmp     x9, x10
        b.ne    fail
        and     x10, x19, PAGE - 1
        adr     x1, no_tree
        cbnz    x10, fail
        ldr     w10, [x19]
        ldr     w11, =0xedfe0dd0        // 0xd00dfeed, the other way round
        cmp     w10, w11
        b.ne    fail
        ldr     w10, [x19, 4]           // all of it is before the kernel
        rev     w10, w10
        add     x10, x10, x19
        cmp     x10, x9
        b.hi    fail
        // The piece of RAM that it is told of has it inside.
        mov     x26, 0
        adr     x21, property
        bl      walk
        adr     x1, no_memory
        cbz     x26, fail

        adr     x21, command_line
        mov     x25, 0
        bl      walk
        adr     x1, no_words
        cbz     x25, fail
        mov     x1, x25
        bl      print
        adr     x1, newline
fail:   bl      print
        ldr     x0, =SYSTEM_OFF
        hvc     0
        b       .

// Prints the string at X1, up to its NUL.
print:  ldrb    w2, [x1], 1
        cbz     w2, 2f
        mov     x3, PL011
1:      ldr     w4, [x3, FR]
        tbnz    w4, 5, 1b
        str     w2, [x3, DR]
        b       print
2:      ret

// X26 is set when memory is from before this to behind it.
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
        add     x9, x10, x9, lsl 32
        ldp     w11, w12, [x3, 8]
        rev     w11, w11
        rev     w12, w12
        add     x10, x12, x11, lsl 32
        add     x10, x10, x9
        adr     x11, header
        cmp     x11, x9
        b.lo    1f
        ldr     x12, =0x200000
        add     x11, x11, x12
        cmp     x11, x10
        cset    x26, ls
1:      ldr     x30, [sp], 16
        ret

        .ltorg

        .data
newline:        .asciz "\n"
misplaced:      .asciz "not where it is linked\n"
no_tree:        .asciz "no device tree before the kernel\n"
no_memory:      .asciz "no memory around the kernel\n"
no_words:       .asciz "no command line\n"
memory_node:    .asciz "memory@"
reg:            .asciz "reg"
        .balign 16
        .fill 128, 1, 0
stack:
