/* NetBSD's kernel, as far as it asks a machine for something. */
        .macro  GUEST
        .asciz  "NetBSD"
        .endm
        .include "bsd.inc"
