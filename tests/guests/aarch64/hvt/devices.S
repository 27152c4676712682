/* Does what its command line says (script.inc), with block storage (handle 1) and two networks (2, 3). */
        .include "script.inc"
        manifest 3
        entry "storage", BLOCK
        entry "service0", NET
        entry "service1", NET
