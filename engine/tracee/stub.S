# The one piece of our code that runs inside a tracee: it makes a list of system calls, then stops, and when
# nobody is there any more to stop it, it goes home by itself. Position independent. It never touches the
# stack, so the program's red zone is safe and a clone with CLONE_VM needs no stack of its own. It writes
# nothing but results, where the descriptors ask for that: it runs from memory that it cannot write.
#
# The state behind the code (struct StubState in stub.h, at the same offsets) is filled in by the tracer.

        .set SYS_rt_sigprocmask, 14
        .set SYS_rt_sigreturn, 15
        .set SYS_tgkill, 234
        .set SIG_SETMASK, 2
        .set MASK_SIZE, 8

        # struct StubDescriptor
        .set D_NR, 0
        .set D_ARGUMENTS, 8
        .set D_RESULT, 56
        .set D_FLAGS, 64
        .set D_SIZE, 72

        # numbers of the bits in D_FLAGS; bits 0 to 5 say that an argument is to be fetched
        .set STOP_ON_FAILURE, 6
        .set KEEP_RESULT, 7
        .set NO_CALL, 8
        .set STORE32, 9
        .set STORE64, 10

        # bits of the mode
        .set OWNS_MASK, 1
        .set SIGNAL_FRAME, 2

        .section .rodata
        .balign 16
        .globl godwit_stub
        .globl godwit_stub_end
        .hidden godwit_stub
        .hidden godwit_stub_end
godwit_stub:

# We come here by one PTRACE_SETREGS. Before anything else no signal handler may run any more, save for the one
# signal that ends the batch and that has no handler.
        testb   $OWNS_MASK, s_mode(%rip)
        jz      begin
        mov     $SYS_rt_sigprocmask, %eax
        mov     $SIG_SETMASK, %edi
        lea     s_batch_mask(%rip), %rsi
        xor     %edx, %edx
        mov     $MASK_SIZE, %r10d
        syscall

# r12 walks over the descriptors, r13 counts them down: the kernel leaves both alone.
begin:  mov     s_descriptors(%rip), %r12
        mov     s_count(%rip), %r13
next:   test    %r13, %r13
        jz      finished

# The six arguments. One whose bit is set is not the value but the place where the value lies: the result of an
# earlier call.
        .macro argument index, register
        mov     D_ARGUMENTS + 8 * \index(%r12), \register
        bt      $\index, %ebx
        jnc     .Lvalue\@
        mov     (\register), \register
.Lvalue\@:
        .endm
        mov     D_FLAGS(%r12), %rbx
        argument 0, %rdi
        argument 1, %rsi
        argument 2, %rdx
        argument 3, %r10
        argument 4, %r8
        argument 5, %r9

        bt      $NO_CALL, %ebx
        jc      store
        mov     D_NR(%r12), %rax
        syscall
        jmp     called

# Not a call: a result goes to where later calls read it.
store:  bt      $STORE32, %ebx
        jnc     1f
        mov     %edi, (%rsi)
1:      bt      $STORE64, %ebx
        jnc     2f
        mov     %rdi, (%rsi)
2:      mov     %rdi, %rax

called: bt      $KEEP_RESULT, %ebx
        jnc     3f
        mov     %rax, D_RESULT(%r12)
# The last result also stays in rbx, where the tracer finds it when there is no memory to write to yet.
3:      bt      $STOP_ON_FAILURE, %ebx
        mov     %rax, %rbx
        jnc     4f
        cmp     $-4095, %rbx
        jae     finished
4:      add     $D_SIZE, %r12
        dec     %r13
        jmp     next

# All done. We send ourselves a signal that means nothing to the program: under a living tracer that is a stop,
# and the next thing that happens to us is another PTRACE_SETREGS.
finished:
        mov     $SYS_tgkill, %eax
        mov     s_tgid(%rip), %edi
        mov     s_tid(%rip), %esi
        mov     s_signal(%rip), %edx
        syscall

# Still here, so the tracer is dead. Home, in one of two ways. A task under a seccomp filter whose mask we have
# changed has only rt_sigreturn to put it back: the one call that every filter allows.
        testb   $SIGNAL_FRAME, s_mode(%rip)
        jz      5f
        mov     s_signal_frame(%rip), %rsp
        mov     $SYS_rt_sigreturn, %eax
        syscall

# Everybody else: the mask, if we changed it, ...
5:      testb   $OWNS_MASK, s_mode(%rip)
        jz      6f
        mov     $SYS_rt_sigprocmask, %eax
        mov     $SIG_SETMASK, %edi
        lea     s_own_mask(%rip), %rsi
        xor     %edx, %edx
        mov     $MASK_SIZE, %r10d
        syscall

# ... the arithmetic flags without a popf, which would need a stack: al is 0 or 1, and adding 127 overflows only
# from 1; sahf sets the other five from ah and leaves the overflow flag alone ...
6:      mov     s_flags_in_ax(%rip), %rax
        add     $0x7f, %al
        sahf

# ... the registers that we or the kernel used, and back.
        mov     s_rax(%rip), %rax
        mov     s_rbx(%rip), %rbx
        mov     s_rcx(%rip), %rcx
        mov     s_rdx(%rip), %rdx
        mov     s_rsi(%rip), %rsi
        mov     s_rdi(%rip), %rdi
        mov     s_r8(%rip), %r8
        mov     s_r9(%rip), %r9
        mov     s_r10(%rip), %r10
        mov     s_r11(%rip), %r11
        mov     s_r12(%rip), %r12
        mov     s_r13(%rip), %r13
        jmp     *s_rip(%rip)

        .balign 8
godwit_stub_end:
        # struct StubState; only its place matters here, the bytes are not copied.
s_mode:         .quad 0
s_descriptors:  .quad 0
s_count:        .quad 0
s_tgid:         .long 0
s_tid:          .long 0
s_signal:       .quad 0
s_batch_mask:   .quad 0
s_own_mask:     .quad 0
s_signal_frame: .quad 0
s_flags_in_ax:  .quad 0
s_rip:          .quad 0
s_rax:          .quad 0
s_rbx:          .quad 0
s_rcx:          .quad 0
s_rdx:          .quad 0
s_rsi:          .quad 0
s_rdi:          .quad 0
s_r8:           .quad 0
s_r9:           .quad 0
s_r10:          .quad 0
s_r11:          .quad 0
s_r12:          .quad 0
s_r13:          .quad 0
s_rsp:          .quad 0

        .section .note.GNU-stack, "", @progbits
