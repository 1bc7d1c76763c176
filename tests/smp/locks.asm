// LOCK operations by all processors at once, ROUNDS times each, each on its own operand: at offset AT from a page boundary and
// STRIDE apart, so that they lie within a line, across two, or across two pages. Results: what they add up to.
test:
    mov r12d, FREE+4096+AT
    mov ebp, ROUNDS
    test edi, edi; jne .ready
    mov qword [r12+9*STRIDE], 1; mov qword [r12+11*STRIDE], 5
.ready:
    call barrier
.round:
    lock inc byte [r12]
    lock add word [r12+1*STRIDE], 3
    lock sub dword [r12+2*STRIDE], 5
    mov rax, 0x100000001; lock add [r12+3*STRIDE], rax
    mov eax, 7; lock xadd [r12+4*STRIDE], rax
    // Compare and exchange until it takes: 1, 4, 8, 16 bytes.
    mov al, [r12+5*STRIDE]
.cas1: mov cl, al; inc cl; lock cmpxchg [r12+5*STRIDE], cl; jne .cas1
    mov eax, [r12+6*STRIDE]
.cas4: lea ecx, [rax+1]; lock cmpxchg [r12+6*STRIDE], ecx; jne .cas4
    mov rax, [r12+7*STRIDE]
.cas8: lea rcx, [rax+1]; lock cmpxchg [r12+7*STRIDE], rcx; jne .cas8
    mov eax, [r12+8*STRIDE]; mov edx, [r12+8*STRIDE+4]
.cas8b: mov ebx, eax; mov ecx, edx; add ebx, 1; adc ecx, 0; sub ecx, 1; lock cmpxchg8b [r12+8*STRIDE]; jne .cas8b
    mov r13d, PAIR
    mov rax, [r13]; mov rdx, [r13+8]
.cas16: mov rbx, rax; mov rcx, rdx; inc rbx; dec rcx; lock cmpxchg16b [r13]; jne .cas16
    // XCHG locks by itself: a number goes round, 0 is there while someone has it.
.xchg: xor eax, eax; xchg [r12+9*STRIDE], rax; test rax, rax; je .busy
    inc rax; xchg [r12+9*STRIDE], rax
    mov ecx, edi; mov eax, 1; shl eax, cl; lock xor [r12+10*STRIDE], al
    lock neg qword [r12+11*STRIDE]
    lock not dword [r12+12*STRIDE]
    // Bits beyond the operand's width, by register.
    mov eax, edi; add eax, 64; lock btc [r12+13*STRIDE], rax
    lock or dword [r12+14*STRIDE], 0x100; lock and dword [r12+14*STRIDE], -2
    dec ebp; jne .round
    call barrier
    test edi, edi; jne .done
    mov ebx, r12d; xor edx, edx
.copy:
    mov rax, [rbx]; mov [rdx+results], rax
    add ebx, STRIDE; add edx, 8; cmp edx, 15*8; jne .copy
    mov rax, [r12+13*STRIDE+8]; mov [results+13*8], rax
    mov rax, [PAIR]; mov [results+15*8], rax
    mov rax, [PAIR+8]; mov [results+16*8], rax
.done: ret
.busy: pause; jmp .xchg
    align 8
results: zero 17*8
