// The static agent, between two hidden symbols. RAMET_AGENT_FILE is the program's path.
        .section .rodata
        .balign 16
        .globl ramet_embedded_agent_start
        .hidden ramet_embedded_agent_start
ramet_embedded_agent_start:
        .incbin RAMET_AGENT_FILE
        .globl ramet_embedded_agent_end
        .hidden ramet_embedded_agent_end
ramet_embedded_agent_end:
        .byte 0
        .section .note.GNU-stack, "", @progbits
