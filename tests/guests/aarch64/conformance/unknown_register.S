// Reads and writes a system register that no architecture defines, and reports what it read.
.include "suite.inc"
.include "exceptions.inc"

    vectors_on
    mov     x2, 0x55
    mrs     x2, S3_0_C15_C2_0
    msr     S3_0_C15_C2_0, x9
    report  x2
    done

vectors
