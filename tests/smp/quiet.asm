// What processors do all the time, ROUNDS times: they read timers, use their local APICs, translate addresses anew, and jump to where
// registers say. Results: for each processor the interrupts that it sent itself and took.
test:
    test edi, edi; jne .ready
    mov ecx, 0x50; mov eax, tick; call set_gate
    mov dword [HPET+0x10], 1
    xor ecx, ecx
.map:
    mov eax, FREE+3; mov [rcx*8+WINDOW_TABLE], rax
    inc ecx; cmp ecx, 512; jne .map
.ready:
    call barrier
    sti
    mov r12d, edi
    xor r13d, r13d
    mov ebx, ROUNDS
.round:
    mov rax, [HPET+0xf0]
    mov edx, 0x608; in eax, dx
    // TLB misses.
    mov eax, ebx; and eax, 511; shl eax, 12
    mov rbp, WINDOW; add rbp, rax
    invlpg [rbp]; mov rax, [rbp]
    mov rax, cr3; mov cr3, rax
    mov rax, [rbp]
    // The task priority, both ways.
    mov eax, 2; mov cr8, rax
    mov dword [APIC+0x80], 0
    mov eax, [APIC+0xa0]
    // An interrupt and its end.
    inc r13
    mov eax, 0x40050; xor edx, edx; call send
.comes:
    cmp [r12*8+results], r13; jne .comes
    // Blocks by their addresses.
    mov eax, ebx; and eax, 3; shl eax, 3
    lea rax, [rax+places]; call rax
    dec ebx; jne .round
    cli
    jmp barrier

    align 8
places:
    mov ecx, 1; ret
    align 8
    mov ecx, 2; ret
    align 8
    mov ecx, 3; ret
    align 8
    mov ecx, 4; ret

tick:
    push rax; push rdi
    call number; inc qword [rdi*8+results]
    call eoi
    pop rdi; pop rax; iretq

    align 64
results: zero CPUS*8
