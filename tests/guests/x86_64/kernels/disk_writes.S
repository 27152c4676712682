/* Writes 4 KiB at a time, one request after the other. */
        .equ KIND, 1
        .equ DEPTH, 1
        .include "disk_storm.inc"
