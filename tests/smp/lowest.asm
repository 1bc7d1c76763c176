// Lowest-priority interrupts to all: the processor with the lowest task priority takes them. Results: interrupts for each.
test:
    mov ecx, edi; add ecx, 24; mov eax, 1; shl eax, cl; mov [APIC+0xd0], eax
    test edi, edi; jne .ready
    mov ecx, 0xa0; mov eax, taken; call set_gate
.ready:
    xor esi, esi
.target:
    mov eax, 3; cmp edi, esi; jne .others
    mov eax, 1
.others: mov cr8, rax
    call barrier
    sti
    test edi, edi; jne .sent
    mov eax, 0x49a0; mov edx, 0xff; call send
    lea ecx, [rsi*8+results]
.wait: pause; cmp qword [rcx], 1; jne .wait
.sent:
    call barrier
    inc esi; cmp esi, CPUS; jne .target
    cli; ret
taken:
    push rax; push rdi; push rcx; push rdx
    call number; inc qword [rdi*8+results]
    call eoi
    pop rdx; pop rcx; pop rdi; pop rax; iretq
    align 8
results: zero CPUS*8
