// Number 0 moves the registers of three PCI functions over each other, to nowhere and back, ROUNDS times; the others read them all the time.
// What is at each of four places stands beside a sequence number that is odd while something moves: what was read while the number
// stayed the same and even must have been exactly that, and else that of one of the functions, or of none. Results: the moves, and how often
// each of the others has seen a place that did not move.
test:
    mov r14d, edi
    test edi, edi; jne .ready
    call prepare
.ready:
    call barrier
    xor ebp, ebp
    test r14d, r14d; jne read
.round:
    call move
    // Until each of the others has looked.
    mov ebx, 1
.looked: mov rax, [results+rbx*8]
.wait: pause; cmp [results+rbx*8], rax; je .wait
    inc ebx; cmp ebx, CPUS; jne .looked
    inc ebp; cmp ebp, ROUNDS; jne .round
    mov [results], rbp
    mov dword [finished], 1
    jmp barrier

read:
    cmp dword [finished], 0; jne barrier
    call random; mov esi, eax; shr esi, 20; and esi, 3
    mov r8, [moved]; mov r10d, [values+rsi*8]
    mov ebx, esi; shl ebx, 14; mov eax, [rbx+REGISTERS]
    test r8d, 1; jne .moves
    cmp [moved], r8; jne .moves
    cmp eax, r10d; jne .wrong
    inc ebp; mov [results+r14*8], rbp
    jmp read
.moves:
    xor ecx, ecx
.one: cmp eax, [owners+rcx*8]; je read
    inc ecx; cmp ecx, 4; jne .one
    mov eax, 0x101; jmp fail
.wrong: mov eax, 0x100; jmp fail

// The AHCI controller 00:1f.2 before all others, the test device 00:08.0 before the NVMe controller 00:09.0: who decodes an address first.
move:
    inc qword [moved]
    xor esi, esi
.none: mov dword [values+rsi*8], -1; inc esi; cmp esi, 4; jne .none
    // Last comes who is first.
    mov ebx, 0x80004810; mov ecx, [owners+16]; call place
    mov ebx, 0x80004010; mov ecx, [owners+8]; call place
    mov ebx, 0x8000fa24; mov ecx, [owners]; call place
    inc qword [moved]
    ret

// The function whose base address register EBX names goes to one of the places, where ECX is read then, or is turned off.
place:
    push rcx
    call random; mov esi, eax; shr esi, 16
    mov eax, esi; and eax, 3; shl eax, 14; mov ecx, 0xd0000000; add eax, ecx; call configure
    pop rcx
    mov bl, 4
    mov eax, esi; shr eax, 2; and eax, 7; je .off
    and esi, 3; mov [values+rsi*8], ecx
    mov eax, 2; jmp configure
.off: jmp configure

prepare:
    mov ebx, 0x8000fa24; mov eax, 0xd0000000; call configure
    mov ebx, 0x8000fa04; mov eax, 2; call configure
    mov ebx, 0x80004010; mov eax, 0xd0004000; call configure
    mov ebx, 0x80004004; mov eax, 2; call configure
    mov ebx, 0x80004814; xor eax, eax; call configure
    mov ebx, 0x80004810; mov eax, 0xd0008000; call configure
    mov ebx, 0x80004804; mov eax, 2; call configure
    mov byte [REGISTERS+0x4000], 1
    mov dword [values+24], -1; mov dword [owners+24], -1
    xor esi, esi
.own:
    mov ebx, esi; shl ebx, 14; mov eax, [rbx+REGISTERS]
    mov [values+rsi*8], eax; mov [owners+rsi*8], eax
    // They can be told apart.
    xor ecx, ecx
.other:
    cmp ecx, esi; je .next
    cmp [owners+rcx*8], eax; je .alike
    inc ecx; jmp .other
.next: inc esi; cmp esi, 4; jne .own
    ret
.alike: mov eax, 0x102; jmp fail

    align 64
moved: dq 0
values: zero 32
owners: zero 32
finished: dd 0
    align 64
results: zero CPUS*8
