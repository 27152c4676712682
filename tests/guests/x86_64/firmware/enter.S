/* The firmware that runner gives QEMU for a run in software emulation: brings the boot vCPU from
 * reset to the registers of a boot plan, and into the guest.
 *
 * The last KiB of a ROM that ends at 4 GiB and is seen once more below 1 MiB, as on every PC. From
 * there it runs, so a guest's page tables must map its page to itself. It reads the block at its
 * start, which runner fills in (emulate/firmware.rs), and writes no memory at all: the guest finds
 * its own as it was loaded.
 *
 * AMD APM volume 2: 14.1.3 to 14.1.5, the processor's state after reset and its first instruction;
 * 14.4, protected mode; 14.6, long mode; 4.7 and 4.8, descriptors. Volume 3: IRETQ.
 */
        .globl LOAD
        .equ LOAD, 0xffc00
        .equ SEGMENT, 0xf000            /* of real mode: base 0xf0000 */
        .equ OFFSET, 0xfc00             /* of LOAD in there */

        .equ CR0_PE, 1 << 0
        .equ CR0_ET, 1 << 4
        .equ EFER, 0xc0000080
        .equ EFER_LME, 1 << 8
        .equ EFER_LMA, 1 << 10
        .equ LINT0, 0xfee00350          /* of the local APIC */
        .equ EXTINT, 0x700

        .text
start:

/* What runner fills in. */
cr0:            .quad 0
cr2:            .quad 0
cr3:            .quad 0                 /* below 4 GiB, as all tables here */
cr4:            .quad 0
efer:           .quad 0
gdt:            .word 0                 /* limit */
                .quad 0                 /* base */
idt:            .word 0
                .quad 0
ds:             .word 0
es:             .word 0
fs:             .word 0
gs:             .word 0
                .balign 8
rax:            .quad 0
rbx:            .quad 0
rcx:            .quad 0
rdx:            .quad 0
rsi:            .quad 0
rdi:            .quad 0
rbp:            .quad 0
r8:             .quad 0
r9:             .quad 0
r10:            .quad 0
r11:            .quad 0
r12:            .quad 0
r13:            .quad 0
r14:            .quad 0
r15:            .quad 0
frame:                                  /* as IRETQ takes it */
rip:            .quad 0
cs:             .quad 0
rflags:         .quad 0
rsp:            .quad 0
ss:             .quad 0
entry:          .long 0                 /* RIP and CS once more, as JMP takes them in 32-bit mode */
                .word 0

/* A GDT for the way: no guest has to have the segments it takes. */
        .balign 8
way:            .quad 0
                .quad 0x00cf9b000000ffff        /* 0x08: 32-bit code */
                .quad 0x00cf93000000ffff        /* 0x10: data */
                .quad 0x00af9b000000ffff        /* 0x18: 64-bit code */
way_table:      .word . - way - 1
                .long way

        .code16
real:
        lgdtl   %cs:OFFSET + (way_table - start)
        mov     $CR0_PE | CR0_ET, %eax
        mov     %eax, %cr0
        ljmpl   $0x08, $protected

        .code32
protected:
        mov     $0x10, %eax
        mov     %eax, %ds
        mov     %eax, %es
        mov     %eax, %ss
        /* The 8259s' interrupts come to the boot vCPU, as a BIOS leaves them, and KVM (virtual wire mode, MP
         * 1.4, 3.6.2.2). */
        movl    $EXTINT, LINT0
        mov     cr2, %eax
        mov     %eax, %cr2
        mov     cr3, %eax
        mov     %eax, %cr3
        mov     cr4, %eax
        mov     %eax, %cr4
        mov     $EFER, %ecx
        mov     efer, %eax
        mov     efer + 4, %edx
        and     $~EFER_LMA, %eax        /* the processor's to set */
        wrmsr
        mov     cr0, %ebx
        test    $EFER_LME, %eax
        jnz     long_mode

        /* 32-bit mode, with or without paging. */
        mov     %ebx, %cr0
        lgdtl   gdt
        lidtl   idt
        mov     ds, %ds
        mov     es, %es
        mov     fs, %fs
        mov     gs, %gs
        mov     $rflags, %esp
        popfl
        mov     ss, %ss
        mov     rsp, %esp
        mov     rax, %eax
        mov     rbx, %ebx
        mov     rcx, %ecx
        mov     rdx, %edx
        mov     rsi, %esi
        mov     rdi, %edi
        mov     rbp, %ebp
        ljmpl   *entry

long_mode:
        mov     %ebx, %cr0              /* and this is compatibility mode */
        ljmpl   $0x18, $long

        .code64
long:
        lgdt    gdt(%rip)
        lidt    idt(%rip)
        mov     ds(%rip), %ds
        mov     es(%rip), %es
        mov     fs(%rip), %fs
        mov     gs(%rip), %gs
        mov     cr2(%rip), %rax
        mov     %rax, %cr2
        mov     rax(%rip), %rax
        mov     rbx(%rip), %rbx
        mov     rcx(%rip), %rcx
        mov     rdx(%rip), %rdx
        mov     rsi(%rip), %rsi
        mov     rdi(%rip), %rdi
        mov     rbp(%rip), %rbp
        mov     r8(%rip), %r8
        mov     r9(%rip), %r9
        mov     r10(%rip), %r10
        mov     r11(%rip), %r11
        mov     r12(%rip), %r12
        mov     r13(%rip), %r13
        mov     r14(%rip), %r14
        mov     r15(%rip), %r15
        lea     frame(%rip), %rsp
        iretq

/* The first instruction after reset, 16 bytes below 4 GiB. */
        .code16
        .org    0x3f0
        ljmp    $SEGMENT, $OFFSET + (real - start)
        .org    0x400
