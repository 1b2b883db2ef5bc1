# The seed: the program that a restored process is before it becomes somebody. A whole ELF file of one page, which
# spawn_seed writes into a memfd and executes: no libc, no data, no rseq, one mapping at 64 KiB, where hardly any
# program has something. It never gets to run on its own; pause is for the case that it does.

        .set BASE, 0x10000
        .set SIZE, 4096
        .set SYS_pause, 34

        .section .rodata
        .balign 16
        .globl godwit_seed
        .globl godwit_seed_end
        .hidden godwit_seed
        .hidden godwit_seed_end
godwit_seed:
        # Elf64_Ehdr
        .byte   0x7f, 'E', 'L', 'F'
        .byte   2, 1, 1, 0                      # 64 bits, little endian, version, System V
        .quad   0
        .short  2                               # ET_EXEC
        .short  62                              # EM_X86_64
        .long   1
        .quad   BASE + entry - godwit_seed
        .quad   segments - godwit_seed
        .quad   0                               # no sections
        .long   0
        .short  64, 56, 2                       # sizes of this and of a segment; how many segments
        .short  0, 0, 0
segments:
        # Elf64_Phdr: the page, readable and executable
        .long   1, 5                            # PT_LOAD, PF_R | PF_X
        .quad   0, BASE, BASE
        .quad   SIZE, SIZE, SIZE
        # and a stack that is not executable
        .long   0x6474e551, 6                   # PT_GNU_STACK, PF_R | PF_W
        .quad   0, 0, 0
        .quad   0, 0, 16
entry:
        mov     $SYS_pause, %eax
        syscall
        jmp     entry
        .fill   SIZE - (. - godwit_seed), 1, 0
godwit_seed_end:

        .section .note.GNU-stack, "", @progbits
