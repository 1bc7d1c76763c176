// How processors wait for one another. Results: rounds done by each.
test:
    test edi, edi; jne .ready
    mov ecx, 0x50; mov eax, wake; call set_gate
.ready:
    call barrier
    test edi, edi; jne worker

    // Number 0 wakes each of the others, ROUNDS times, first from HLT by an IPI ...
    xor esi, esi
.hlt:
    mov ebx, 1
.one: mov eax, 0x4050; mov edx, ebx; call send; inc ebx; cmp ebx, CPUS; jne .one
    inc esi
    call all_have_done
    cmp esi, ROUNDS; jne .hlt
    // ... then from MWAIT by a store ...
.store:
    mov ebx, 1
.two: mov ecx, ebx; shl ecx, 6; inc dword [rcx+doorbells]; inc ebx; cmp ebx, CPUS; jne .two
    inc esi
    call all_have_done
    cmp esi, 2*ROUNDS; jne .store
    // ... from MWAIT by an IPI, and by one that IF masks.
.ipi:
    mov ebx, 1
.three: mov eax, 0x4050; mov edx, ebx; call send; inc ebx; cmp ebx, CPUS; jne .three
    inc esi
    call all_have_done
    cmp esi, 4*ROUNDS; jne .ipi
    ret

all_have_done:
    mov ebx, 1
.one:
    lea ecx, [rbx*8+results]
.wait: pause; cmp [rcx], rsi; jb .wait
    inc ebx; cmp ebx, CPUS; jne .one
    ret

worker:
    lea ebp, [rdi*8+results]
    mov esi, edi; shl esi, 6
    // STI; HLT: an interrupt that came before is not slept over.
    xor ebx, ebx
.hlt:
    cli; cmp [rsi+woken], ebx; jne .came
    sti; hlt; jmp .hlt
.came:
    inc ebx; inc qword [rbp]
    cmp ebx, ROUNDS; jne .hlt
    sti
    xor ebx, ebx
.store:
    lea eax, [rsi+doorbells]; xor ecx, ecx; xor edx, edx; monitor
    cmp [rsi+doorbells], ebx; jne .rung
    xor eax, eax; xor ecx, ecx; mwait; jmp .store
.rung:
    inc ebx; inc qword [rbp]
    cmp ebx, ROUNDS; jne .store
.ipi:
    cli; cmp [rsi+woken], ebx; jne .ipi_came
    lea eax, [rsi+doorbells]; xor ecx, ecx; xor edx, edx; monitor
    xor eax, eax; xor ecx, ecx; sti; mwait; jmp .ipi
.ipi_came:
    inc ebx; inc qword [rbp]
    cmp ebx, 2*ROUNDS; jne .ipi
.masked:
    // Interrupts stay off but for a moment in each round.
    cli; cmp [rsi+woken], ebx; jne .masked_came
    lea eax, [rsi+doorbells]; xor ecx, ecx; xor edx, edx; monitor
    xor eax, eax; mov ecx, 1; mwait
    sti; nop; cli; jmp .masked
.masked_came:
    inc ebx; inc qword [rbp]
    cmp ebx, 3*ROUNDS; jne .masked
    ret

wake:
    push rax; push rdi; push rcx; push rdx
    call number; shl edi, 6; inc dword [rdi+woken]
    call eoi
    pop rdx; pop rcx; pop rdi; pop rax; iretq

    align 64
woken: zero 512
doorbells: zero 512
results: zero CPUS*8
