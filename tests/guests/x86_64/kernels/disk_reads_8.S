/* Reads 4 KiB at a time, eight requests with one notification. */
        .equ KIND, 0
        .equ DEPTH, 8
        .include "disk_storm.inc"
