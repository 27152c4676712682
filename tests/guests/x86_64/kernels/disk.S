/* Drives one virtio-mmio disk the way a driver does (virtio 1.2 §3.1.1, §4.2, §5.2): writes a
 * pattern to sector 1, flushes, reads it back and compares. Polls; takes no interrupt.
 *
 * Entered by Linux's 64-bit protocol. The device is the one that the command line names
 * (virtio_mmio.device=SIZE@0xBASE:LINE), or at 0xfeb00000. General-purpose instructions only.
 *
 * Exit status: 0 all is well; 32 the disk is read-only and refused the write; otherwise the number
 * of the step that failed, see FAIL below.
 */
        .equ EXIT, 0x501
        .equ COMMAND_LINE, 0x228        /* in the zero page */
        .equ DEFAULT_BASE, 0xfeb00000

        .equ MAGIC, 0x00
        .equ VERSION, 0x04
        .equ DEVICE, 0x08
        .equ DEVICE_FEATURES, 0x10
        .equ DEVICE_FEATURES_SEL, 0x14
        .equ DRIVER_FEATURES, 0x20
        .equ DRIVER_FEATURES_SEL, 0x24
        .equ QUEUE_SEL, 0x30
        .equ QUEUE_NUM_MAX, 0x34
        .equ QUEUE_NUM, 0x38
        .equ QUEUE_READY, 0x44
        .equ QUEUE_NOTIFY, 0x50
        .equ INTERRUPT_STATUS, 0x60
        .equ INTERRUPT_ACK, 0x64
        .equ STATUS, 0x70
        .equ QUEUE_DESC, 0x80
        .equ QUEUE_AVAIL, 0x90
        .equ QUEUE_USED, 0xa0
        .equ CAPACITY, 0x100

        .equ F_RO, 1 << 5
        .equ F_FLUSH, 1 << 9

        .equ T_IN, 0
        .equ T_OUT, 1
        .equ T_FLUSH, 4

        .equ QUEUE, 8                   /* entries */
        .equ WORDS, 512 / 8             /* quadwords of a sector */

        /* Memory that is zero and free when this starts. */
        .equ directory, 0x200000
        .equ descriptors, 0x201000
        .equ available, 0x202000
        .equ used, 0x203000
        .equ header, 0x204000
        .equ status, 0x204010
        .equ pattern, 0x205000
        .equ buffer, 0x206000

        .macro FAIL_UNLESS condition step
        j\condition 1f
        mov     $\step, %eax
        jmp     exit
1:
        .endm

        .text
        .globl _start
_start:
        lea     stack(%rip), %rsp
        call    find_device             /* RBX = its registers */
        call    map_device

        cmpl    $0x74726976, MAGIC(%rbx)
        FAIL_UNLESS e 1
        cmpl    $2, VERSION(%rbx)
        FAIL_UNLESS e 2
        cmpl    $2, DEVICE(%rbx)
        FAIL_UNLESS e 3

        movl    $0, STATUS(%rbx)
        cmpl    $0, STATUS(%rbx)
        FAIL_UNLESS e 4
        movl    $1, STATUS(%rbx)
        movl    $3, STATUS(%rbx)

        /* VERSION_1 and nothing else above bit 31; RO and FLUSH below, if offered. */
        movl    $1, DEVICE_FEATURES_SEL(%rbx)
        testl   $1, DEVICE_FEATURES(%rbx)
        FAIL_UNLESS nz 5
        movl    $1, DRIVER_FEATURES_SEL(%rbx)
        movl    $1, DRIVER_FEATURES(%rbx)
        movl    $0, DEVICE_FEATURES_SEL(%rbx)
        mov     DEVICE_FEATURES(%rbx), %r12d
        and     $(F_RO | F_FLUSH), %r12d
        movl    $0, DRIVER_FEATURES_SEL(%rbx)
        mov     %r12d, DRIVER_FEATURES(%rbx)
        movl    $0xb, STATUS(%rbx)
        cmpl    $0xb, STATUS(%rbx)
        FAIL_UNLESS e 6

        movl    $0, QUEUE_SEL(%rbx)
        cmpl    $QUEUE, QUEUE_NUM_MAX(%rbx)
        FAIL_UNLESS ae 7
        movl    $QUEUE, QUEUE_NUM(%rbx)
        mov     $descriptors, %eax
        mov     %eax, QUEUE_DESC(%rbx)
        movl    $0, QUEUE_DESC + 4(%rbx)
        mov     $available, %eax
        mov     %eax, QUEUE_AVAIL(%rbx)
        movl    $0, QUEUE_AVAIL + 4(%rbx)
        mov     $used, %eax
        mov     %eax, QUEUE_USED(%rbx)
        movl    $0, QUEUE_USED + 4(%rbx)
        movl    $1, QUEUE_READY(%rbx)
        cmpl    $1, QUEUE_READY(%rbx)
        FAIL_UNLESS e 8
        movl    $0xf, STATUS(%rbx)
        cmpl    $0xf, STATUS(%rbx)
        FAIL_UNLESS e 9
        cmpl    $2, CAPACITY(%rbx)
        FAIL_UNLESS ae 10

        /* Write. */
        mov     $pattern, %edi
        mov     $WORDS, %ecx
        mov     pattern_word(%rip), %rax
1:      mov     %rax, (%rdi)
        add     $8, %rdi
        dec     %ecx
        jnz     1b
        mov     $T_OUT, %eax
        mov     $pattern, %edx
        mov     $1, %ecx                /* NEXT */
        call    request
        test    $F_RO, %r12d
        jz      2f
        cmp     $1, %al                 /* IOERR */
        FAIL_UNLESS e 11
        mov     $32, %eax
        jmp     exit
2:      cmp     $0, %al
        FAIL_UNLESS e 12

        /* Flush. */
        test    $F_FLUSH, %r12d
        FAIL_UNLESS nz 13
        mov     $T_FLUSH, %eax
        xor     %edx, %edx
        call    request
        cmp     $0, %al
        FAIL_UNLESS e 14

        /* Read back. */
        mov     $T_IN, %eax
        mov     $buffer, %edx
        mov     $3, %ecx                /* NEXT, WRITE */
        call    request
        cmp     $0, %al
        FAIL_UNLESS e 15
        mov     $buffer, %edi
        mov     $WORDS, %ecx
        mov     pattern_word(%rip), %rax
3:      cmp     %rax, (%rdi)
        FAIL_UNLESS e 16
        add     $8, %rdi
        dec     %ecx
        jnz     3b

        /* The device has said that it used buffers. */
        testl   $1, INTERRUPT_STATUS(%rbx)
        FAIL_UNLESS nz 17
        movl    $1, INTERRUPT_ACK(%rbx)
        testl   $1, INTERRUPT_STATUS(%rbx)
        FAIL_UNLESS z 18

        /* A reset ends it, sooner or later. */
        movl    $0, STATUS(%rbx)
4:      cmpl    $0, STATUS(%rbx)
        jne     4b
        xor     %eax, %eax

/* Ends with status AL. */
exit:
        mov     $EXIT, %edx
        out     %al, %dx
1:      hlt
        jmp     1b

/* Carries out a request for sector 1: EAX = type, RDX = its 512 bytes or 0, ECX = their descriptor's
 * flags. AL = status byte. */
request:
        mov     $header, %edi
        mov     %eax, (%rdi)
        movl    $0, 4(%rdi)
        movq    $1, 8(%rdi)
        movb    $0xff, status

        mov     $descriptors, %esi
        mov     %rdi, (%rsi)
        movl    $16, 8(%rsi)
        movw    $1, 12(%rsi)            /* NEXT */
        movw    $1, 14(%rsi)
        add     $16, %rsi
        test    %rdx, %rdx
        jz      1f
        mov     %rdx, (%rsi)
        movl    $512, 8(%rsi)
        mov     %cx, 12(%rsi)
        movw    $2, 14(%rsi)
        add     $16, %rsi
1:      mov     $status, %edi
        mov     %rdi, (%rsi)
        movl    $1, 8(%rsi)
        movw    $2, 12(%rsi)            /* WRITE */
        movw    $0, 14(%rsi)

        /* The chain always begins at descriptor 0, and so every ring entry is 0. */
        mov     available + 2, %ax
        inc     %ax
        mov     %ax, available + 2
        lock orl $0, (%rsp)
        movl    $0, QUEUE_NOTIFY(%rbx)
2:      pause
        cmp     %ax, used + 2
        jne     2b
        mov     status, %al
        ret

/* RBX = base of the first device on the command line, whose address is in the zero page at RSI. */
find_device:
        mov     $DEFAULT_BASE, %ebx
        mov     COMMAND_LINE(%rsi), %esi
        test    %esi, %esi
        jz      4f
1:      mov     (%rsi), %al             /* up to the first "@0x" */
        test    %al, %al
        jz      4f
        inc     %rsi
        cmp     $'@', %al
        jne     1b
        add     $2, %rsi
        xor     %ebx, %ebx
2:      movzbl  (%rsi), %eax
        inc     %rsi
        sub     $'0', %eax
        jc      4f
        cmp     $9, %eax
        jbe     3f
        sub     $('a' - '0'), %eax
        jc      4f                      /* ':' is behind the digits */
        add     $10, %eax
3:      shl     $4, %rbx
        or      %rax, %rbx
        jmp     2b
4:      ret

/* Maps the 2 MiB around RBX, which is between 3 and 4 GiB. The boot protocol mapped the first GiB. */
map_device:
        mov     %cr3, %rax
        mov     (%rax), %rax
        and     $-4096, %rax            /* the PDPT */
        mov     $directory, %edi
        lea     3(%rdi), %rcx
        mov     %rcx, 24(%rax)
        mov     %ebx, %eax
        and     $0x3fe00000, %eax
        shr     $21, %eax
        mov     %rbx, %rcx
        and     $-0x200000, %rcx
        or      $0x93, %rcx             /* present, writable, no caching, 2 MiB */
        mov     %rcx, (%rdi,%rax,8)
        mov     %cr3, %rax
        mov     %rax, %cr3
        ret

        .data
        .balign 8
pattern_word:   .ascii "runner!\n"
        .fill 256, 1, 0
stack:
