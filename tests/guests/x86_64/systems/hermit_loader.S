/* Does what Hermit's loader for Firecracker does (hermit-os/loader, src/arch/x86_64/platform/linux): an ELF64 kernel
 * without a note, entered by Linux's 64-bit protocol. Everything that it is told begins at a page, and the
 * command line's length has its NUL in it. What is behind the first GiB it maps itself.
 */
        .include "../kernels/console.inc"
        .include "../kernels/linux.inc"
        .include "../kernels/map.inc"
        .include "hermit_loader.inc"

        .equ    BOOT_FLAG, 0x1fe
        .equ    HEADER, 0x202
        .equ    CMDLINE_SIZE, 0x238
        .equ    directories, 0x201000   /* three pages that are zero and free */

        .text
        .globl  _start
_start:
        mov     $stack, %esp
        mov     %esi, %ebp
        mov     $0x83, %eax             /* present, writable, 2 MiB */
        call    map_rest
        test    $0xfff, %ebp
        jnz     failed
        cmpw    $0xaa55, BOOT_FLAG(%rbp)
        jne     failed
        cmpl    $0x53726448, HEADER(%rbp)
        jne     failed
        mov     CMD_LINE_PTR(%rbp), %esi
        test    $0xfff, %esi
        jnz     failed
        mov     CMDLINE_SIZE(%rbp), %ecx
        mov     %esi, %edi
        xor     %eax, %eax
        repne   scasb
        jne     failed                  /* no NUL */
        test    %ecx, %ecx
        jnz     failed
        cmpl    $0, RAMDISK_SIZE(%rbp)
        je      failed
        mov     RAMDISK_IMAGE(%rbp), %edi
        jmp     hermit
