// A spin lock and a ticket lock around things that no LOCK protects. Results: counts, and how often the inside was not consistent.
test:
    mov ebp, ROUNDS
    call barrier
.round:
.take:
    mov eax, 1; xchg [spin], eax; test eax, eax; je .inside
.wait: pause; cmp dword [spin], 0; jne .wait
    jmp .take
.inside:
    mov rax, [results]; mov rcx, [shadow]; cmp rax, rcx; je .good
    inc qword [results+16]
.good:
    inc rax; mov [results], rax
    bt ebp, 3; jc .quick
    pause
.quick:
    mov [shadow], rax
    mov dword [spin], 0

    mov eax, 1; lock xadd [next], eax
.queue: cmp [serving], eax; je .served
    pause; jmp .queue
.served:
    inc qword [results+8]
    // Unlock by a plain store, as Linux does.
    inc eax; mov [serving], eax
    dec ebp; jne .round
    ret
    align 64
spin: dq 0
    align 64
shadow: dq 0
    align 64
next: dq 0
    align 64
serving: dq 0
    align 64
results: dq 0, 0, 0
