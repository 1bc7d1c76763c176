// The HPET's counter, which all read while number 0 stops it, moves it on, and starts it again. Results, how often: it was behind what
// the same processor had read before; what was read is beyond anything that it can be; it was behind what another processor had read
// before; it went on while it was stopped.
test:
    test edi, edi; jne .ready
    // It soon crosses into its high half.
    mov eax, 0xffffff00; mov [HPET+0xf0], rax
    mov dword [HPET+0x10], 1
.ready:
    call barrier
    mov ebx, ROUNDS
    xor ebp, ebp
.round:
    mov esi, 8
.own:
    mov rax, [HPET+0xf0]
    cmp rax, rbp; jae .onward
    lock inc qword [results]
.onward:
    mov rbp, rax
    shr rax, 40; test rax, rax; je .whole
    lock inc qword [results+8]
.whole:
    dec esi; jne .own
    // Each reads, and leaves what it read for all to see, under a lock.
.look:
    mov eax, 1; xchg [lock_word], eax; test eax, eax; je .inside
    pause; jmp .look
.inside:
    mov rax, [HPET+0xf0]
    cmp rax, [latest]; jae .later
    inc qword [results+16]
.later:
    mov [latest], rax
    mov dword [lock_word], 0
    test edi, edi; jne .next
    mov dword [HPET+0x10], 0
    mov rax, [HPET+0xf0]; mov rcx, [HPET+0xf0]; cmp rax, rcx; je .stands
    lock inc qword [results+24]
.stands:
    test ebx, 3; jne .start
    add rax, 1000; mov [HPET+0xf0], rax
.start:
    mov dword [HPET+0x10], 1
.next:
    dec ebx; jne .round
    jmp barrier

    align 64
lock_word: dd 0
    align 64
latest: dq 0
    align 64
results: zero 32
