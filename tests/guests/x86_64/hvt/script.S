/* Does what its command line says (script.inc), without devices. */
        .include "script.inc"
        manifest 0
