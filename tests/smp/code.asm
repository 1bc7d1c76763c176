// Code that one processor changes and others execute (SDM vol. 3, "Handling Self- and Cross-Modifying Code"). Results: wrong ones, rounds.
//
// First as the manual has it: the writer changes the code and sets a flag; the others wait for the flag, serialise and execute. Then
// as operating systems patch a running function: INT3 at its first byte, everyone serialises, the tail, everyone
// serialises, the first byte; meanwhile the others call it all the time and find the old code, INT3, or the new one.
test:
    test edi, edi; jne .ready
    mov ecx, 0x50; mov eax, serialise; call set_gate
    mov ecx, 3; mov eax, breakpoint; call set_gate
.ready:
    call barrier
    test edi, edi; jne follower

    xor esi, esi
.round:
    inc esi
    imul eax, esi, 0x10203; mov [patched+1], eax
    // At times in two pieces, at times by another mapping of nothing but the same bytes.
    test esi, 3; jne .flag
    mov [patched+1], al; mov ecx, eax; shr ecx, 8; mov [patched+2], ecx; mov byte [patched+5], 0xc3
.flag:
    mov [flag], esi
    xor ebx, ebx
.wait: pause; mov eax, [done]; cmp eax, CPUS-1; jne .wait
    mov dword [done], 0
    cmp esi, ROUNDS; jne .round
    mov [results+8], rsi
    call barrier

    sti
    xor esi, esi
.patch:
    inc esi
    mov byte [function], 0xcc
    call everyone
    // ADD EAX, imm32 becomes SUB EAX, imm32 and back; the operand changes as well.
    imul eax, esi, 0x1000100; mov [function+1], eax
    call everyone
    mov al, 0x05; test esi, 1; je .first
    mov al, 0x2d
.first: mov [function], al
    call everyone
    mov [settled], esi
    mov ecx, 5; call delay
    cmp esi, PATCHES; jne .patch
    mov dword [settled], -1
    call barrier
    mov [results+16], rsi
    ret

// Makes all others serialise.
everyone:
    mov dword [acknowledged], 0
    mov eax, 0xc4050; xor edx, edx; call send
.wait: pause; cmp dword [acknowledged], CPUS-1; jne .wait
    ret

follower:
    xor esi, esi
.round:
    inc esi
.wait: pause; cmp [flag], esi; jne .wait
    xor eax, eax; cpuid
    call patched
    imul ecx, esi, 0x10203; cmp eax, ecx; je .right
    lock inc qword [results]
.right:
    lock inc dword [done]
    cmp esi, ROUNDS; jne .round
    call barrier
    sti
.again:
    mov ebx, [settled]
    mov eax, 0x55555; call function
    cmp ebx, -1; je .end
    // Old or new: with the operand of some round, added or subtracted.
    mov ecx, eax; sub ecx, 0x55555
    mov edx, ebx; imul edx, edx, 0x1000100; call is_it; je .again
    lea edx, [rbx+1]; imul edx, edx, 0x1000100; call is_it; je .again
    lea edx, [rbx+2]; imul edx, edx, 0x1000100; call is_it; je .again
    cmp eax, 0x77777; je .again
    // It may have been interrupted for longer.
    cmp [settled], ebx; jne .again
    lock inc qword [results]
    jmp .again
.end:
    call barrier
    cli; ret

is_it: cmp ecx, edx; je .yes
    neg edx; cmp ecx, edx
.yes: ret

serialise:
    push rax; push rcx; push rdx; push rbx
    xor eax, eax; cpuid
    call eoi
    lock inc dword [acknowledged]
    pop rbx; pop rdx; pop rcx; pop rax; iretq

// Where the function is being changed: another result, and past it.
breakpoint:
    mov eax, 0x77777
    add qword [rsp], 4
    iretq

    align 64
patched: mov eax, 0x11111111; ret
    align 64
    zero PLACE
function: db 0x05, 0, 0, 0, 0
    ret
    align 64
flag: dd 0
    align 64
done: dd 0
    align 64
settled: dd 0
    align 64
acknowledged: dd 0
    align 64
results: dq 0, 0, 0
