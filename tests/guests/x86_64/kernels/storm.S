/* tiny.S behind 20,000 exits: what a port read costs. */
        .equ STORM, 20000
        .include "tiny.S"
