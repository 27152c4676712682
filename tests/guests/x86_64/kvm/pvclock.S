# Sends KVM's CPUID leaves 4000_0000 (EBX, ECX, EDX) and 4000_0001 (EAX) to port 0xe0, then has the
# host fill a pvclock page and sends its version and its multiplier
# (Linux, Documentation/virt/kvm/x86/cpuid.rst and msr.rst).
        .intel_syntax noprefix
        .equ LOAD, 0x10000
        .globl LOAD
        .equ RESULT, 0xe0
        .equ KVM_SYSTEM_TIME_NEW, 0x4b564d01
        .equ PVCLOCK, 0x20000           # zero before, 4-byte aligned; bit 0 of the MSR enables
        .equ VERSION, PVCLOCK
        .equ TSC_TO_SYSTEM_MUL, PVCLOCK + 24

        .text
        mov     eax, 0x40000000
        cpuid
        mov     esi, ecx
        mov     eax, ebx
        out     RESULT, eax
        mov     eax, esi
        out     RESULT, eax
        mov     eax, edx
        out     RESULT, eax
        mov     eax, 0x40000001
        cpuid
        out     RESULT, eax

        mov     ecx, KVM_SYSTEM_TIME_NEW
        mov     eax, PVCLOCK | 1
        xor     edx, edx
        wrmsr
        mov     eax, [VERSION]
        out     RESULT, eax
        mov     eax, [TSC_TO_SYSTEM_MUL]
        out     RESULT, eax
        hlt
