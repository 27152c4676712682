/* A server on the network, for tests: 10.0.2.15, without DHCP. It polls one virtio-mmio network device
 * (virtio 1.2 §5.1), and knows no connections: every answer follows from the packet it is for.
 *
 *   ARP   is answered.
 *   ICMP  a ping is answered.
 *   UDP   a datagram goes back as it came. One to port 9 ends the run with its first byte.
 *   TCP   a connection to any port is taken; what comes on it is answered with a page, and an end. At
 *         port 9 that is the end of the run, too, at once.
 *
 * `conn=PORT` on its command line makes a connection to that port of 10.0.2.2, sends the page there, and
 * an end. `udps=PORT` sends a datagram there.
 */
        .include "console.inc"
        .include "linux.inc"
        .include "virtio.inc"

        .equ QUEUE, 8                   /* entries */
        .equ rx_descriptors, 0x201000
        .equ rx_available, 0x202000
        .equ rx_used, 0x203000
        .equ tx_descriptors, 0x204000
        .equ tx_available, 0x205000
        .equ tx_used, 0x206000
        .equ rx_buffers, 0x210000       /* 2048 bytes each */
        .equ own, 0x220000              /* a frame that is not an answer */

        .equ OWN_IP, 0x0f02000a         /* 10.0.2.15, as it lies in memory */
        .equ HOST_IP, 0x0202000a        /* 10.0.2.2 */
        .equ ISN, 0x01000000            /* the first sequence number, likewise */

        /* Offsets in a buffer: a header of 12 bytes, Ethernet, then ARP or IPv4, then the transport. */
        .equ ETH_TO, 12
        .equ ETH_FROM, 18
        .equ ETH_TYPE, 24
        .equ ARP_OP, 32
        .equ ARP_SHA, 34
        .equ ARP_SPA, 40
        .equ ARP_THA, 44
        .equ ARP_TPA, 50
        .equ ARP_END, 54
        .equ IP, 26
        .equ IP_LEN, 28
        .equ IP_TTL, 34
        .equ IP_PROTO, 35
        .equ IP_SUM, 36
        .equ IP_FROM, 38
        .equ IP_TO, 42
        .equ L4, 46
        .equ ICMP_SUM, 48
        .equ UDP_SUM, 52
        .equ UDP_DATA, 54
        .equ TCP_SEQ, 50
        .equ TCP_ACK, 54
        .equ TCP_OFF, 58
        .equ TCP_FLAGS, 59
        .equ TCP_WINDOW, 60
        .equ TCP_SUM, 62
        .equ TCP_DATA, 66

        .equ FIN, 1
        .equ SYN, 2
        .equ RST, 4
        .equ PSH, 8
        .equ ACK, 16

        .text
        .globl _start
_start:
        mov     $stack, %esp
        mov     CMD_LINE_PTR(%rsi), %r15d
        call    find_device
        call    map_device
        call    start_network
        call    announce
        say     listening
        mov     $0x6e6e6f63, %edi       /* "conn" */
        call    ask
        jc      1f
        call    connect
1:      mov     $0x73706475, %edi       /* "udps" */
        call    ask
        jc      2f
        call    datagram
2:      xor     %r13d, %r13d            /* frames that were taken */

        /* R12 = the buffer of the next frame, from here on until it is given back. */
next:   pause
        cmp     %r13w, rx_used + 2
        je      next
        mov     %r13d, %eax
        and     $(QUEUE - 1), %eax
        mov     rx_used + 4(,%rax,8), %r14d
        mov     %r14d, %r12d
        shl     $11, %r12d
        add     $rx_buffers, %r12d
        call    serve
        /* The buffer is room again. */
        movzwl  rx_available + 2, %eax
        mov     %eax, %ecx
        and     $(QUEUE - 1), %ecx
        mov     %r14w, rx_available + 4(,%rcx,2)
        inc     %eax
        mov     %ax, rx_available + 2
        lock orl $0, (%rsp)
        movl    $0, QUEUE_NOTIFY(%rbx)
        inc     %r13w
        jmp     next

/* Answers the frame at R12, in its place. */
serve:
        cmpw    $0x0608, ETH_TYPE(%r12)
        je      serve_arp
        cmpw    $0x0008, ETH_TYPE(%r12)
        jne     1f
        cmpb    $0x45, IP(%r12)         /* no options */
        jne     1f
        cmpl    $OWN_IP, IP_TO(%r12)
        jne     1f
        cmpb    $6, IP_PROTO(%r12)
        je      serve_tcp
        cmpb    $17, IP_PROTO(%r12)
        je      serve_udp
        cmpb    $1, IP_PROTO(%r12)
        je      serve_icmp
1:      ret

serve_arp:
        cmpw    $0x0100, ARP_OP(%r12)   /* a request */
        jne     1f
        cmpl    $OWN_IP, ARP_TPA(%r12)
        jne     1f
        movw    $0x0200, ARP_OP(%r12)
        mov     ARP_SHA(%r12), %rax     /* address and network address, but for two bytes */
        mov     %rax, ARP_THA(%r12)
        mov     ARP_SPA(%r12), %eax
        mov     %eax, ARP_TPA(%r12)
        movl    $OWN_IP, ARP_SPA(%r12)
        lea     ARP_SHA(%r12), %rdi
        call    put_mac
        call    turn_ethernet
        mov     $ARP_END, %ecx
        jmp     transmit
1:      ret

serve_icmp:
        cmpb    $8, L4(%r12)            /* a ping */
        jne     1f
        movb    $0, L4(%r12)
        movw    $0, ICMP_SUM(%r12)
        call    ip_payload
        xor     %eax, %eax
        call    sum
        mov     %ax, ICMP_SUM(%r12)
        call    turn_ip
        jmp     transmit
1:      ret

serve_udp:
        cmpw    $0x0900, L4 + 2(%r12)   /* port 9 */
        jne     7f
        movzbl  UDP_DATA(%r12), %eax
        exit                            /* which has a label 1 of its own */
7:      call    turn_ports
        movw    $0, UDP_SUM(%r12)       /* none */
        call    turn_ip
        jmp     transmit

serve_tcp:
        testb   $RST, TCP_FLAGS(%r12)
        jnz     3f
        call    ip_payload              /* ECX bytes, the header among them */
        movzbl  TCP_OFF(%r12), %eax
        shr     $4, %eax
        shl     $2, %eax
        sub     %eax, %ecx              /* of data */
        jb      3f
        mov     TCP_SEQ(%r12), %edx
        bswap   %edx
        add     %ecx, %edx
        mov     TCP_ACK(%r12), %esi     /* what they expect of us */
        mov     TCP_FLAGS(%r12), %al
        test    $SYN, %al
        jz      1f
        inc     %edx
        test    $ACK, %al
        jnz     4f                      /* our connection stands: the page, and an end */
        mov     $ISN, %esi
        mov     $(SYN | ACK), %edi
        jmp     send_empty
1:      test    $FIN, %al
        jz      2f
        inc     %edx
        test    %ecx, %ecx
        jnz     4f
        mov     $ACK, %edi
        jmp     send_empty
2:      test    %ecx, %ecx
        jnz     4f
3:      ret
4:      push    %rsi
        mov     $page, %esi
        lea     TCP_DATA(%r12), %rdi
        mov     $(page_end - page), %ecx
        rep movsb
        pop     %rsi
        mov     $(ACK | PSH | FIN), %edi
        mov     $(page_end - page), %ecx
        jmp     send_tcp

/* Answers with a segment that has no data: ESI = its sequence number as it lies in memory, EDX = what
 * it acknowledges, EDI = flags.
 */
send_empty:
        xor     %ecx, %ecx
        /* fall through */

/* The same with ECX bytes of data, which are in place. */
send_tcp:
        mov     %esi, TCP_SEQ(%r12)
        bswap   %edx
        mov     %edx, TCP_ACK(%r12)
        movb    $0x50, TCP_OFF(%r12)
        mov     %dil, TCP_FLAGS(%r12)
        movl    $0x0000ff07, TCP_WINDOW(%r12)   /* 2047 bytes; sum 0 */
        movw    $0, TCP_SUM + 2(%r12)
        call    turn_ports
        add     $20, %ecx
        lea     20(%rcx), %eax
        rol     $8, %ax
        mov     %ax, IP_LEN(%r12)
        call    turn_ip
        call    sum_tcp
        call    ip_payload
        jmp     transmit

/* The sum of the segment at R12, with that of its pseudo-header. */
sum_tcp:
        movw    $0, TCP_SUM(%r12)
        call    ip_payload
        mov     %ecx, %eax
        rol     $8, %ax
        add     $0x0600, %eax           /* the protocol */
        mov     $4, %edx
1:      movzwl  IP_FROM - 2(%r12,%rdx,2), %edi
        add     %edi, %eax
        dec     %edx
        jnz     1b
        call    sum
        mov     %ax, TCP_SUM(%r12)
        ret

/* ECX = how many bytes there are behind the IP header at R12, 1480 at most. */
ip_payload:
        movzwl  IP_LEN(%r12), %ecx
        rol     $8, %cx
        sub     $20, %ecx
        jnb     1f
        xor     %ecx, %ecx
1:      cmp     $1480, %ecx
        jbe     2f
        mov     $1480, %ecx
2:      ret

/* AX = the Internet checksum (RFC 1071) of ECX bytes of the transport, on top of EAX. */
sum:
        lea     L4(%r12), %rdi
        /* fall through */

/* The same of ECX bytes at RDI. ECX stays. */
sum_at:
        push    %rcx
1:      cmp     $2, %ecx
        jb      2f
        movzwl  (%rdi), %edx
        add     %edx, %eax
        add     $2, %rdi
        sub     $2, %ecx
        jmp     1b
2:      test    %ecx, %ecx
        jz      3f
        movzbl  (%rdi), %edx
        add     %edx, %eax
3:      mov     %eax, %edx
        shr     $16, %edx
        movzwl  %ax, %eax
        add     %edx, %eax
        cmp     $0xffff, %eax
        ja      3b
        not     %eax
        pop     %rcx
        ret

turn_ports:
        mov     L4(%r12), %eax
        rol     $16, %eax
        mov     %eax, L4(%r12)
        ret

/* Sends the packet at R12 back to where it came from. ECX = bytes of the whole buffer. */
turn_ip:
        mov     IP_FROM(%r12), %rax
        rol     $32, %rax
        mov     %rax, IP_FROM(%r12)
        call    sum_ip
        call    turn_ethernet
        call    ip_payload
        ret

sum_ip:
        movb    $64, IP_TTL(%r12)
        movw    $0, IP_SUM(%r12)
        lea     IP(%r12), %rdi
        mov     $20, %ecx
        xor     %eax, %eax
        call    sum_at
        mov     %ax, IP_SUM(%r12)
        ret

turn_ethernet:
        mov     ETH_FROM(%r12), %eax
        mov     %eax, ETH_TO(%r12)
        mov     ETH_FROM + 4(%r12), %ax
        mov     %ax, ETH_TO + 4(%r12)
        lea     ETH_FROM(%r12), %rdi
        /* fall through */

/* Writes our own address at RDI. */
put_mac:
        mov     CONFIG(%rbx), %eax
        mov     %eax, (%rdi)
        mov     CONFIG + 4(%rbx), %ax
        mov     %ax, 4(%rdi)
        ret

/* Transmits the buffer at R12, and waits until it is ours again. ECX = bytes of the transport; of an
 * ARP packet, all.
 */
transmit:
        cmpw    $0x0608, ETH_TYPE(%r12)
        je      1f
        add     $L4, %ecx
1:      movq    $0, (%r12)              /* the header */
        movl    $0, 8(%r12)
        mov     %r12, tx_descriptors
        mov     %ecx, tx_descriptors + 8
        movl    $0, tx_descriptors + 12
        incw    tx_available + 2        /* every entry of the ring is 0 */
        lock orl $0, (%rsp)
        movl    $1, QUEUE_NOTIFY(%rbx)
        cmpw    $0x0900, L4(%r12)       /* the page from port 9: nobody waits for it */
        jne     1f
        cmpb    $(ACK | PSH | FIN), TCP_FLAGS(%r12)
        je      leave
1:      mov     tx_available + 2, %ax
2:      pause
        cmp     %ax, tx_used + 2
        jne     2b
        ret
leave:  xor     %eax, %eax
        exit

/* Says who we are, unasked: an ARP request for our own address. */
announce:
        mov     $own, %r12d
        movl    $-1, ETH_TO(%r12)
        movw    $-1, ETH_TO + 4(%r12)
        lea     ETH_FROM(%r12), %rdi
        call    put_mac
        movl    $0x01000608, ETH_TYPE(%r12)     /* ARP, of Ethernet */
        movl    $0x04060008, ETH_TYPE + 4(%r12) /* and IPv4 */
        movw    $0x0100, ARP_OP(%r12)
        lea     ARP_SHA(%r12), %rdi
        call    put_mac
        movl    $OWN_IP, ARP_SPA(%r12)
        movl    $OWN_IP, ARP_TPA(%r12)
        mov     $ARP_END, %ecx
        jmp     transmit

/* Connects to port EAX of the host. */
connect:
        call    to_host
        movb    $6, IP_PROTO(%r12)
        movl    $ISN, TCP_SEQ(%r12)
        movl    $0, TCP_ACK(%r12)
        movl    $0xff070250, TCP_OFF(%r12)      /* 20 bytes, SYN, a window of 2047 */
        movl    $0, TCP_SUM(%r12)
        movw    $0x2800, IP_LEN(%r12)           /* 40 */
        call    sum_ip
        call    sum_tcp
        jmp     transmit

/* Sends "hello" to port EAX of the host. */
datagram:
        call    to_host
        movb    $17, IP_PROTO(%r12)
        movl    $0x00000d00, L4 + 4(%r12)       /* 13 bytes, no sum */
        movl    $0x6c6c6568, UDP_DATA(%r12)
        movb    $'o', UDP_DATA + 4(%r12)
        movw    $0x2100, IP_LEN(%r12)           /* 33 */
        call    sum_ip
        call    ip_payload
        jmp     transmit

/* R12 = a packet to port EAX of the host, from the port 50000. */
to_host:
        mov     $own, %r12d
        movw    $0x5552, ETH_TO(%r12)           /* 52:55:0a:00:02:02 */
        movl    $0x0202000a, ETH_TO + 2(%r12)
        movw    $0x0008, ETH_TYPE(%r12)
        movq    $0x45, IP(%r12)
        movl    $OWN_IP, IP_FROM(%r12)
        movl    $HOST_IP, IP_TO(%r12)
        rol     $8, %ax
        shl     $16, %eax
        or      $0x50c3, %eax
        mov     %eax, L4(%r12)
        ret

/* EAX = the number of NAME=, EDI being NAME; carry: there is none. */
ask:
        mov     %r15d, %esi
        test    %esi, %esi
        jz      1f
        call    find_number
        cmp     $255, %eax
        je      1f
        clc
        ret
1:      stc
        ret

/* Takes the device at RBX through initialization, with eight buffers to receive into. */
start_network:
        cmpl    $0x74726976, MAGIC(%rbx)
        expect  e 1
        cmpl    $1, DEVICE(%rbx)
        expect  e 2
        movl    $0, STATUS(%rbx)
        movl    $1, STATUS(%rbx)
        movl    $3, STATUS(%rbx)
        movl    $1, DRIVER_FEATURES_SEL(%rbx)
        movl    $1, DRIVER_FEATURES(%rbx)       /* VERSION_1, nothing else */
        movl    $0, DRIVER_FEATURES_SEL(%rbx)
        movl    $0, DRIVER_FEATURES(%rbx)
        movl    $0xb, STATUS(%rbx)
        cmpl    $0xb, STATUS(%rbx)
        expect  e 3
        xor     %eax, %eax
        mov     $rx_descriptors, %ecx
        call    set_queue
        mov     $1, %eax
        mov     $tx_descriptors, %ecx
        call    set_queue
        xor     %eax, %eax
1:      mov     %eax, %ecx
        shl     $11, %ecx
        add     $rx_buffers, %ecx
        mov     %eax, %edx
        shl     $4, %edx
        mov     %rcx, rx_descriptors(%rdx)
        movl    $2048, rx_descriptors + 8(%rdx)
        movl    $2, rx_descriptors + 12(%rdx)   /* WRITE */
        mov     %ax, rx_available + 4(,%rax,2)
        inc     %eax
        cmp     $QUEUE, %eax
        jb      1b
        movw    $QUEUE, rx_available + 2
        movl    $0xf, STATUS(%rbx)
        cmpl    $0xf, STATUS(%rbx)
        expect  e 4
        ret

/* Queue EAX has its descriptors at ECX, and its rings on the two pages behind. */
set_queue:
        mov     %eax, QUEUE_SEL(%rbx)
        movl    $QUEUE, QUEUE_NUM(%rbx)
        mov     %ecx, QUEUE_DESC(%rbx)
        movl    $0, QUEUE_DESC + 4(%rbx)
        add     $0x1000, %ecx
        mov     %ecx, QUEUE_AVAIL(%rbx)
        movl    $0, QUEUE_AVAIL + 4(%rbx)
        add     $0x1000, %ecx
        mov     %ecx, QUEUE_USED(%rbx)
        movl    $0, QUEUE_USED + 4(%rbx)
        movl    $1, QUEUE_READY(%rbx)
        ret

        .data
listening:
        .asciz  "listening\n"
page:   .ascii  "HTTP/1.0 200 OK\r\nContent-Length: 24\r\n\r\nHello from a unikernel!\n"
page_end:
