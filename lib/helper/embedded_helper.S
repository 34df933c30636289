// The helper program, between two hidden symbols. RAMET_HELPER_FILE is the program's path.
        .section .rodata
        .balign 16
        .globl ramet_embedded_helper_start
        .hidden ramet_embedded_helper_start
ramet_embedded_helper_start:
        .incbin RAMET_HELPER_FILE
        .globl ramet_embedded_helper_end
        .hidden ramet_embedded_helper_end
ramet_embedded_helper_end:
        .byte 0
        .section .note.GNU-stack, "", @progbits
