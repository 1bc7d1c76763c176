// NMIs and HLT. Results: NMIs that number 1 and 2 have taken.
test:
    test edi, edi; jne .ready
    mov ecx, 2; mov eax, nmi; call set_gate
    mov ecx, 0x60; mov eax, fixed; call set_gate
.ready:
    call barrier
    cmp edi, 1; je one
    cmp edi, 2; je two
    test edi, edi; jne .done
    // Taken although number 1 has interrupts off.
    mov eax, 0x4400; mov edx, 1; call send
.taken: pause; cmp qword [results], 1; jne .taken
    // Two more while its handler runs: one waits until IRET, the other is lost.
    mov eax, 0x4400; mov edx, 1; call send
    mov eax, 0x4400; mov edx, 1; call send
    mov ecx, 1000; call delay
    cmp qword [results], 1; jne .nested
    mov byte [go_on], 1
.later: pause; cmp qword [results], 2; jne .later
    mov ecx, 1000; call delay
    cmp qword [results], 2; jne .nested
    // Out of HLT, where a fixed interrupt would not do.
.halts: pause; cmp dword [at], 1; jne .halts
    mov ecx, 100; call delay
    mov eax, 0x4060; mov edx, 1; call send
    mov ecx, 1000; call delay
    cmp dword [at], 1; jne .woken
    mov eax, 0x4400; mov edx, 1; call send
.out: pause; cmp dword [at], 2; jne .out
    // To all others by shorthand: number 0 has none.
    mov eax, 0xc4400; call send
.both: pause; cmp qword [results], 4; jne .both
    cmp qword [results+8], 1; jne .both
    mov byte [go_on+1], 1
.done: call barrier; ret
.nested: mov eax, 1; jmp fail
.woken: mov eax, 2; jmp fail

one:
    cmp byte [go_on], 0; jne .halt
    pause; jmp one
.halt:
    cmp qword [results], 2; jne .halt
    mov dword [at], 1
    hlt
    mov dword [at], 2
.wait: pause; cmp byte [go_on+1], 0; je .wait
    jmp test.done
two:
    pause; cmp byte [go_on+1], 0; je two
    jmp test.done

nmi:
    push rax; push rdi
    call number
    cmp edi, 3; je .out
    dec edi; js .zero
    inc qword [rdi*8+results]
    test edi, edi; jne .out
    cmp qword [results], 1; jne .out
.wait: pause; cmp byte [go_on], 0; je .wait
.out: pop rdi; pop rax; iretq
.zero: mov eax, 3; jmp fail
fixed: mov eax, 4; jmp fail
go_on: dw 0
    align 8
at: dd 0
    align 8
results: dq 0, 0
