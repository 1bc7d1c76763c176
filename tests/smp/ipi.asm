// Interprocessor interrupts with a vector, by each destination that there is. X2: by MSRs, else by the memory window.
// Results: for each processor the number of interrupts of each kind that came.
test:
    mov eax, X2; test eax, eax; je .window
    call use_x2apic
    mov ecx, 0x80f; mov eax, 0x1ff; xor edx, edx; wrmsr
    jmp .gates
.window:
    // Flat logical ids.
    mov ecx, edi; add ecx, 24; mov eax, 1; shl eax, cl; mov [APIC+0xd0], eax
.gates:
    test edi, edi; jne .ready
    mov ecx, 0x60; mov eax, physical; call set_gate
    mov ecx, 0x71; mov eax, all; call set_gate
    mov ecx, 0x82; mov eax, others; call set_gate
    mov ecx, 0x93; mov eax, self; call set_gate
    mov ecx, 0xa4; mov eax, logical; call set_gate
    mov ecx, 0xef; mov eax, cluster; call set_gate
.ready:
    call barrier
    sti
    xor esi, esi                    // whose turn it is to send
.sender:
    call barrier
    cmp edi, esi; jne .next
    // To one after the other, itself too.
    xor ebx, ebx
.one:
    mov eax, 0x4060; mov edx, ebx; call send
    mov ecx, ebx; shl ecx, 6; lea edx, [rsi+1]
.arrives: pause; cmp [rcx+results], rdx; jne .arrives
    inc ebx; cmp ebx, CPUS; jne .one
    // Shorthands.
    mov eax, 0x84071; xor edx, edx; call send
    xor ebx, ebx
.all:
    mov ecx, ebx; shl ecx, 6; lea edx, [rsi+1]
.all_arrive: pause; cmp [rcx+results+8], rdx; jne .all_arrive
    inc ebx; cmp ebx, CPUS; jne .all
    mov eax, 0xc4082; xor edx, edx; call send
    xor ebx, ebx
.others:
    cmp ebx, esi; je .not_me
    // Each has had one from all before, but from itself.
    mov ecx, ebx; shl ecx, 6; lea edx, [rsi+1]
    cmp ebx, esi; jae .others_arrive
    dec edx
.others_arrive: pause; cmp [rcx+results+16], rdx; jne .others_arrive
.not_me:
    inc ebx; cmp ebx, CPUS; jne .others
    mov eax, 0x44093; xor edx, edx; call send
    mov ecx, esi; shl ecx, 6
.self_arrives: pause; cmp qword [rcx+results+24], 1; jne .self_arrives
.next:
    inc esi; cmp esi, CPUS; jne .sender

    // Logical destinations: every set of processors, from number 0.
    call barrier
    test edi, edi; jne .set_done
    mov ebx, 1
.set:
    xor ecx, ecx
.before: mov edx, ecx; shl edx, 6; mov rax, [rdx+results+32]; mov [rcx*8+old], rax; inc ecx; cmp ecx, CPUS; jne .before
    mov eax, 0x48a4; mov edx, ebx; call send
    xor ecx, ecx
.member:
    mov edx, ecx; shl edx, 6
    mov rax, [rcx*8+old]
    bt ebx, ecx; adc rax, 0
.member_arrives: pause; cmp [rdx+results+32], rax; jne .member_arrives
    inc ecx; cmp ecx, CPUS; jne .member
    inc ebx; cmp ebx, ALL+1; jne .set
.set_done:
    call barrier

    // Clusters: two processors in each.
    mov eax, X2; test eax, eax; jne .done
    mov eax, 0x0fffffff; mov [APIC+0xe0], eax
    mov ecx, edi; and ecx, 1; mov eax, 1; shl eax, cl
    mov ecx, edi; shr ecx, 1; shl ecx, 4; or eax, ecx; shl eax, 24; mov [APIC+0xd0], eax
    call barrier
    test edi, edi; jne .done
    mov eax, 0x48ef; mov edx, 0x01; call send   // 0
    mov eax, 0x48ef; mov edx, 0x12; call send   // 3
    mov eax, 0x48ef; mov edx, 0x13; mov ebx, 2
.first: pause; cmp qword [results+3*64+40], 1; jne .first
    call send                                   // 2 and 3
.second: pause; cmp qword [results+3*64+40], 2; jne .second
    cmp qword [results+2*64+40], 1; jne .second
.alone: pause; cmp qword [results+40], 1; jne .alone
    mov eax, 0x48ef; mov edx, 0xff; call send   // all
.third: pause; cmp qword [results+40], 2; jne .third
    cmp qword [results+64+40], 1; jne .third
    cmp qword [results+2*64+40], 2; jne .third
    cmp qword [results+3*64+40], 3; jne .third
.done:
    call barrier
    cli
    ret

physical: push rax; xor eax, eax; jmp count
all: push rax; mov eax, 1; jmp count
others: push rax; mov eax, 2; jmp count
self: push rax; mov eax, 3; jmp count
logical: push rax; mov eax, 4; jmp count
cluster: push rax; mov eax, 5
count:
    push rdi; push rcx; push rdx
    push rax; call number; pop rax
    shl edi, 6; inc qword [rdi+rax*8+results]
    call eoi
    pop rdx; pop rcx; pop rdi; pop rax; iretq

old: zero 64
    align 64
results: zero 256
