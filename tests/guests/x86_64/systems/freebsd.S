/* FreeBSD's kernel, as far as it asks a machine for something. */
        .macro  GUEST
        .asciz  "FreeBSD"
        .endm
        .include "bsd.inc"
