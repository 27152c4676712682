# Takes interrupts. RDI is the number of an IOAPIC input, RSI the lower half of its redirection
# entry less the vector (bit 15: level-triggered). Intel 82093AA datasheet, 3.2; SDM volume 3A,
# chapter 11.
#
# Interrupts are off while it asks what to do. What it is told decides how it waits:
#   0 lets in what is pending, around a write of LISTENING: a host that interprets may look for
#     interrupts at exits only
#   1 halts until one came
#   2 runs until one came
# Before it ends the interrupt, the handler writes ACK: whether the local APIC has it in service, 1
# or 0. A processor does; there are hosts that end an interrupt as they deliver it.
.include "suite.inc"

.equ COMMAND, MMIO
.equ ACK, MMIO + 8
.equ LISTENING, MMIO + 16

.equ VECTOR, 0x40
.equ IDT, 0x6000
# The harness maps both to themselves.
.equ IOAPIC, 0xfec00000
.equ LAPIC, 0xfee00000

    # An interrupt gate.
    lea     rax, [rip + handler]
    mov     word ptr [IDT + 16 * VECTOR], ax
    mov     word ptr [IDT + 16 * VECTOR + 2], 0x10
    mov     word ptr [IDT + 16 * VECTOR + 4], 0x8e00
    shr     rax, 16
    mov     word ptr [IDT + 16 * VECTOR + 6], ax
    mov     qword ptr [IDT + 16 * VECTOR + 8], 0
    lidt    [rip + idtr]

    # Nothing from the two 8259s, which have the lower inputs, too.
    mov     al, 0xff
    out     0x21, al
    out     0xa1, al

    # The local APIC on, by the spurious vector register.
    mov     r14d, LAPIC
    mov     dword ptr [r14 + 0xf0], 0x1ff

    # The redirection entry, upper half first: to APIC 0.
    mov     r15d, IOAPIC
    lea     eax, [rdi * 2 + 0x11]
    mov     dword ptr [r15], eax
    mov     dword ptr [r15 + 0x10], 0
    dec     eax
    mov     dword ptr [r15], eax
    or      esi, VECTOR
    mov     dword ptr [r15 + 0x10], esi

ask:
    mov     eax, dword ptr [COMMAND]
    xor     ebx, ebx
    cmp     eax, 1
    je      halt
    cmp     eax, 2
    je      run

    sti
    mov     dword ptr [LISTENING], 1
    cli
    jmp     ask

halt:
    sti
    hlt
    cli
    jmp     ask

run:
    sti
1:  test    ebx, ebx
    jz      1b
    cli
    jmp     ask

handler:
    mov     ebx, 1
    mov     ecx, dword ptr [r14 + 0x100 + VECTOR / 32 * 0x10]
    shr     ecx, VECTOR % 32
    and     ecx, 1
    mov     dword ptr [ACK], ecx
    mov     dword ptr [r14 + 0xb0], 0
    iretq

idtr:
    .word   0xfff
    .quad   IDT
