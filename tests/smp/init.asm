// INIT of a processor that runs, and what a start-up IPI does. Results: what number 1 finds at its start, see the test.
test:
    call barrier
    test edi, edi; je conductor
    cmp edi, 1; je first_life
    ret

first_life:
    // What INIT changes, and what it keeps.
    mov rax, 0x1122334455667788; movq xmm5, rax
    mov ecx, 0xc0000102; mov eax, 0x5678; mov edx, 0x1234; wrmsr
    mov eax, 0x7000; mov dr0, rax
    mov eax, 0xb6e0; mov cr2, rax
    mov eax, 2; mov cr8, rax
    mov eax, 0x20031; mov [APIC+0x320], eax
    mov dword [alive], 1
.run: inc qword [steps]; jmp .run

conductor:
    cmp dword [alive], 1; je .alive
    pause; jmp conductor
.alive:
    // A start-up IPI does nothing to a processor that runs.
    mov eax, probe_page; shr eax, 12; add eax, 0x4600; mov edx, 1; call send
    call still_runs
    cmp qword [starts], 0; jne .restarted
    // INIT stops it ...
    mov eax, 0x4500; mov edx, 1; call send
    mov r13d, 5
.stops:
    mov rbx, [steps]
    mov ecx, 5000; call delay
    cmp rbx, [steps]; jne .stops
    // ... whatever else comes, but for a start-up IPI. (Its thread may have stood still before the INIT came: a few tries.)
    mov eax, 0x4031; mov edx, 1; call send
    mov ecx, 500; call delay
    cmp rbx, [steps]; je .stopped
    dec r13d; jnz .stops
    jmp .runs
.stopped:
    mov qword [entries+8], second_life
    mov eax, probe_page; shr eax, 12; add eax, 0x4600; mov edx, 1; call send
.second: pause; cmp dword [alive], 2; jne .second
    call still_runs
    // Out of HLT; the second of two start-up IPIs is for nothing.
    mov qword [entries+8], third_life
    mov ecx, probe_page; shr ecx, 12; mov edx, 1; call start
.third: pause; cmp dword [alive], 3; jne .third
    mov ecx, 500; call delay
    mov rax, [starts]; mov [results], rax
    ret
.restarted: mov eax, 1; jmp fail
.runs: mov eax, 2; jmp fail

still_runs:
    mov rax, [steps]
.wait: pause; cmp [steps], rax; je .wait
    ret

second_life:
    mov dword [alive], 2
.run: inc qword [steps]; cmp qword [entries+8], third_life; jne .run
.halt: hlt; jmp .halt

third_life:
    mov ecx, 0xc0000102; rdmsr; shl rdx, 32; or rax, rdx; mov [results+16], rax
    movq rax, xmm5; mov [results+24], rax
    mov dword [alive], 3
    // As if it came from the test.
    jmp long.returned

    align 4096
probe_page:
bits 16
    cli
    mov [results+8], cs
    mov [results+10], dx            // the processor's signature, low half
    mov eax, cr0; mov [results+32], eax
    mov eax, cr2; mov [results+36], eax
    mov eax, cr3; mov [results+40], eax
    mov eax, cr4; mov [results+44], eax
    mov eax, dr0; mov [results+48], eax
    mov eax, dr7; mov [results+52], eax
    mov ecx, 0xc0000080; rdmsr; mov [results+56], eax
    mov [results+60], esp
    inc dword [starts]
    db 0xea; dw 0x8000, 0
bits 64
    align 8
alive: dq 0
steps: dq 0
starts: dq 0
results: zero 64
