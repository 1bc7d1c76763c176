// A page of the window is remapped by number 0; the others drop the old translation when an IPI asks them to, and must then see
// the new page only, and write to it only. Results: wrong values seen, and rounds.
// Pages: FREE + n * 4096 holds n + 1000h all over.
test:
    test edi, edi; jne .ready
    mov ecx, 0x50; mov eax, shoot; call set_gate
    mov ebx, FREE; mov eax, 0x1000
.page: mov ecx, 512
.fill: mov [rbx], rax; add rbx, 8; dec ecx; jne .fill
    inc eax; cmp eax, 0x1010; jne .page
    mov qword [WINDOW_TABLE], FREE+3
.ready:
    mov rbp, WINDOW
    call barrier
    sti
    test edi, edi; jne reader
    xor esi, esi
.round:
    inc esi
    // The next page, in the order of a walk that visits all.
    imul eax, esi, 7; and eax, 15; mov ebx, eax
    shl eax, 12; add eax, FREE+3; mov [WINDOW_TABLE], rax
    mov dword [acknowledged], 0
    invlpg [rbp]
    // From now on no one may begin with the old one; those that have not heard may still use it.
    mov eax, 0xc4050; xor edx, edx; call send
.wait: pause; cmp dword [acknowledged], CPUS-1; jne .wait
    lea eax, [rbx+0x1000]; mov [expected], rax
    lea rax, [rsi+rsi]; mov [phase], rax
    // Let them look for a while, then stop them.
    mov ecx, 20; call delay
    mov dword [stopped], 0
    lea rax, [rsi+rsi+1]; mov [phase], rax
.stop: pause; cmp dword [stopped], CPUS-1; jne .stop
    // What they wrote at their places has come to this page.
    shl ebx, 12
    mov ecx, 1
.place:
    mov edx, ecx; shl edx, 6
    mov rax, [rbx+rdx+FREE+64]; cmp rax, rsi; je .written
    inc qword [results]
.written:
    inc ecx; cmp ecx, CPUS; jne .place
    cmp esi, ROUNDS; jne .round
    mov rax, -1; mov [phase], rax
    mov [results+8], rsi
    ret

reader:
    mov r12d, edi; shl r12d, 6
    xor esi, esi
.round:
    inc esi
.phase:
    // Until it begins the page may be the old or the new one: only that it is some page is certain.
    mov rax, [rbp+8]; sub rax, 0x1000; cmp rax, 16; jae .wrong
    mov rax, [phase]
    cmp rax, -1; je .done
    lea rcx, [rsi+rsi]; cmp rax, rcx; jb .phase
    mov rbx, [expected]
.look:
    mov rax, [rbp+16]; cmp rax, rbx; jne .wrong
    mov [rbp+r12+64], rsi
    mov rax, [rbp+4088]; cmp rax, rbx; jne .wrong
    mov rax, [phase]
    lea rcx, [rsi+rsi+1]; cmp rax, rcx; jne .look
    lock inc dword [stopped]
    jmp .round
.wrong: lock inc qword [results]; mov eax, 1; jmp fail
.done: cli; ret

shoot:
    push rax; push rcx; push rdx; push rbx
    mov rbx, WINDOW; invlpg [rbx]
    call eoi
    lock inc dword [acknowledged]
    pop rbx; pop rdx; pop rcx; pop rax; iretq

    align 64
acknowledged: dq 0
    align 64
stopped: dq 0
    align 64
phase: dq 0
    align 64
expected: dq 0
    align 64
results: dq 0, 0
