// Each processor's own local APIC timer and time-stamp counter. Results: for each processor interrupts in each mode; then how often
// a time-stamp counter was behind what another processor had read before.
test:
    test edi, edi; jne .ready
    mov ecx, 0x50; mov eax, tick; call set_gate
.ready:
    mov eax, 0xb; mov [APIC+0x3e0], eax
    mov r12d, edi; shl r12d, 5
    call barrier
    sti
    // One-shot, periodic, by the deadline of the counter: for all at once, with periods of their own.
    mov eax, 0x50; mov [APIC+0x320], eax
    mov ebx, 5
.once:
    mov rsi, [r12+results]
    lea eax, [rdi+3]; imul eax, eax, 1000; mov [APIC+0x380], eax
.fires: mov eax, [APIC+0x390]; cmp [r12+results], rsi; je .fires
    mov eax, [APIC+0x390]; test eax, eax; jne .counts
    dec ebx; jne .once
    // Periodic.
    mov qword [r12+kind], 8
    mov eax, 0x20050; mov [APIC+0x320], eax
    // Long enough for the handler on the slowest host: time is the host's where processors run in parallel.
    lea eax, [rdi+3]; imul eax, eax, PERIOD; mov [APIC+0x380], eax
.period: hlt; cmp qword [r12+results+8], 5; jb .period
    xor eax, eax; mov [APIC+0x380], eax
    call barrier
    mov rsi, [r12+results+8]
    mov ecx, 50; call delay
    cmp [r12+results+8], rsi; jne .stopped
    mov qword [r12+results+8], 5
    // Deadline.
    mov eax, 1; cpuid; call number
    bt ecx, 24; jnc .time
    mov qword [r12+kind], 16
    mov eax, 0x40050; mov [APIC+0x320], eax
    mov ebx, 5
.deadline:
    mov rsi, [r12+results+16]
    rdtsc; add eax, 20000; adc edx, 0; mov ecx, 0x6e0; wrmsr
    // It may have passed before the halt.
.passes: cli; cmp [r12+results+16], rsi; jne .passed
    sti; hlt; jmp .passes
.passed: sti
    rdmsr; or eax, edx; jne .counts
    dec ebx; jne .deadline
.time:
    cli
    call barrier
    // Time does not go back, whoever looks: each reads, and leaves the latest for all to see, under a lock.
    mov ebx, ROUNDS
.look:
    mov eax, 1; xchg [lock_word], eax; test eax, eax; je .inside
    pause; jmp .look
.inside:
    lfence; rdtsc; shl rdx, 32; or rax, rdx
    cmp rax, [latest]; jae .later
    inc qword [behind]
.later:
    mov [latest], rax
    mov dword [lock_word], 0
    test ebx, 7; jne .stay
    pause
.stay: dec ebx; jne .look
    call barrier
    test edi, edi; jne .done
    mov rax, [behind]; mov [results+CPUS*32], rax
.done: ret
.counts: mov eax, 1; jmp fail
.stopped: mov eax, 2; jmp fail

tick:
    push rax; push rdi; push rcx; push rdx
    call number; shl edi, 5; mov rax, [rdi+kind]; inc qword [rdi+rax+results]
    call eoi
    pop rdx; pop rcx; pop rdi; pop rax; iretq

    align 64
lock_word: dd 0
    align 64
latest: dq 0
behind: dq 0
    align 64
kind: zero CPUS*32
results: zero CPUS*32+8
