// The guest that is built into runner: greets, says what it sees, starts every processor, exits with 0.
        .include "console.inc"
        .include "fdt.inc"

        .equ VENDOR_UID, 0x8600ff01     // of the hypervisor (Arm DEN 0028, 6.2)

        .text
        .globl _start
_start: begin
        say     greeting
        say     accelerator
        bl      print_accelerator

        mov     x26, 0                  // bytes of memory
        mov     x27, 1                  // processors that run
        adr     x21, property
        bl      walk
        say     memory
        lsr     x0, x26, 20
        bl      print_number
        say     mib
        say     cpus
        mov     w0, w27
        bl      print_number
        say     newline
        mov     w0, 0
        b       exit

// Prints who the hypervisor says that it is.
print_accelerator:
        str     x30, [sp, -16]!
        mov     x18, 0
        ldr     x0, =VENDOR_UID
        hvc     0
        adr     x1, tcg                 // no hypervisor could be called
        cbnz    x18, 1f
        adr     x1, kvm
        ldr     w2, =0xb66fb428         // KVM's, in its first word
        cmp     w0, w2
        b.eq    1f
        adr     x1, tcg                 // nobody made the processor (DDI 0487, MIDR_EL1.Implementer)
        mrs     x2, midr_el1
        tst     x2, 0xff000000
        b.eq    1f
        adr     x1, unnamed
1:      bl      print
        ldr     x30, [sp], 16
        ret

// Adds memory, and starts processors.
property:
        str     x30, [sp, -16]!
        mov     x5, x2
        adr     x6, reg
        bl      starts
        b.ne    1f
        mov     x5, x1
        adr     x6, memory_node
        bl      starts
        b.eq    2f
        mov     x5, x1
        adr     x6, cpu_node
        bl      starts
        b.eq    3f
1:      ldr     x30, [sp], 16
        ret
2:      ldr     w5, [x3, 8]             // the size, in two cells
        ldr     w6, [x3, 12]
        rev     w5, w5
        rev     w6, w6
        add     x26, x26, x5, lsl 32
        add     x26, x26, x6
        b       1b
3:      ldr     w1, [x3]
        rev     w1, w1
        mrs     x2, mpidr_el1
        and     x2, x2, 0xffffff
        cmp     x1, x2
        b.eq    1b                      // this one
        adr     x2, started
        str     wzr, [x2]
        adr     x2, second
        adr     x3, started
        ldr     x0, =CPU_ON
        hvc     0
        cbnz    x0, 1b                  // then it is not counted
4:      ldr     w0, started
        cbz     w0, 4b
        add     x27, x27, 1
        b       1b

// A processor begins: X0 is where to say so.
second: mov     w1, 1
        str     w1, [x0]
1:      wfi
        b       1b

        .ltorg

        .data
greeting:       .asciz "Hello from a unikernel!\n"
accelerator:    .asciz "accelerator: "
kvm:            .asciz "KVM\n"
tcg:            .asciz "none (QEMU's software emulation)\n"
unnamed:        .asciz "one without a name\n"
memory:         .asciz "memory: "
mib:            .asciz " MiB\n"
cpus:           .asciz "cpus: "
newline:        .asciz "\n"
reg:            .asciz "reg"
memory_node:    .asciz "memory@"
cpu_node:       .asciz "cpu@"
        .balign 8
started:        .quad 0
