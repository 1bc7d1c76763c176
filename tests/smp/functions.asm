// Registers of different PCI functions, by a processor each, ROUNDS times: number 0 asks a virtio disk for its name, and is told by the
// function's pin each time that it has got it; the others write to registers of an NVMe controller, of the AHCI controller and of the PCI test
// device, and read back what they wrote. Results: what each has done, and the first eight letters of the disk's name.
test:
    mov r14d, edi
    test edi, edi; jne .ready
    call prepare
.ready:
    call barrier
    sti
    xor ebp, ebp
.round:
    inc ebp
    call qword [r14*8+actions]
    cmp ebp, ROUNDS; jne .round
    mov [results+r14*8], rbp
    call barrier
    cli; ret

    align 8
actions: dq ask, nvme, ahci, testdev

prepare:
    // The AHCI controller 00:1f.2, the NVMe controller 00:09.0, the virtio disk 00:0a.0, the test device 00:08.0.
    mov ebx, 0x8000fa24; mov eax, 0xd0000000; call configure
    mov ebx, 0x8000fa04; mov eax, 2; call configure
    mov ebx, 0x80004810; mov eax, 0xd0010000; call configure
    mov ebx, 0x80004814; xor eax, eax; call configure
    mov ebx, 0x80004804; mov eax, 2; call configure
    mov ebx, 0x80005010; mov eax, 0xc000; call configure
    mov ebx, 0x80005014; mov eax, 0xd0020000; call configure
    mov ebx, 0x80005020; mov eax, 0xd0024000; call configure
    mov ebx, 0x80005024; xor eax, eax; call configure
    mov ebx, 0x80005004; mov eax, 7; call configure
    mov ebx, 0x80004010; mov eax, 0xd0030000; call configure
    mov ebx, 0x80004014; mov eax, 0xc100; call configure
    mov ebx, 0x80004004; mov eax, 3; call configure
    // The test of any data in memory.
    mov byte [REGISTERS+0x30000], 1
    // The disk's queue 0, by the legacy interface: descriptors, what is available, what was used.
    mov edx, 0xc012; mov al, 3; out dx, al
    mov edx, 0xc00e; xor eax, eax; out dx, ax
    mov edx, 0xc00c; in ax, dx; movzx eax, ax
    mov ecx, eax; shl ecx, 4; add ecx, FREE; mov [available], rcx
    lea ecx, [rcx+rax*2+6+4095]; and ecx, 0xfffff000; mov [used], rcx
    mov edx, 0xc008; mov eax, FREE; shr eax, 12; out dx, eax
    mov ebx, FREE
    mov eax, header; mov [rbx], rax; mov dword [rbx+8], 16; mov dword [rbx+12], 0x10001
    mov eax, name; mov [rbx+16], rax; mov dword [rbx+24], 20; mov dword [rbx+28], 0x20003
    mov eax, status; mov [rbx+32], rax; mov dword [rbx+40], 1; mov dword [rbx+44], 2
    mov edx, 0xc012; mov al, 7; out dx, al
    // Its pin: level-triggered, to number 0.
    mov ecx, 0x50; mov eax, told; call set_gate
    mov dword [IOAPIC], 0x11+2*PIN; mov dword [IOAPIC+16], 0
    mov dword [IOAPIC], 0x10+2*PIN; mov dword [IOAPIC+16], 0x8050
    ret

ask:
    mov byte [status], 0xff; mov qword [name], 0
    // The ring's entries all say descriptor 0.
    mov rbx, [available]; inc word [rbx+2]
    mov edx, 0xc010; xor eax, eax; out dx, ax
.wait: pause; cmp [tellings], rbp; jb .wait
    jne .more
    mov rbx, [used]; cmp [rbx+2], bp; jne .unused
    cmp byte [status], 0; jne .failed
    mov rax, [name]; mov [results+CPUS*8], rax
    ret
.more: mov eax, 0x100; jmp fail
.unused: mov eax, 0x101; jmp fail
.failed: mov eax, 0x102; jmp fail

told:
    push rax; push rdx
    mov edx, 0xc013; in al, dx; cmp al, 1; jne .nothing
    inc qword [tellings]
    call eoi
    pop rdx; pop rax; iretq
.nothing: mov eax, 0x103; jmp fail

// Where the admin submission queue is.
nvme:
    mov rax, rbp; shl rax, 12; mov ebx, REGISTERS+0x10000
    mov [rbx+0x28], rax; cmp [rbx+0x28], rax; jne .wrong
    ret
.wrong: mov eax, 0x110; jmp fail

// Where port 0's command list is.
ahci:
    mov eax, ebp; shl eax, 10; mov ebx, REGISTERS
    mov [rbx+0x100], eax; cmp [rbx+0x100], eax; jne .wrong
    ret
.wrong: mov eax, 0x120; jmp fail

// How many writes to memory have come.
testdev:
    mov ebx, REGISTERS+0x30000
    mov [rbx+2049], bpl; cmp [rbx+12], ebp; jne .wrong
    // Ports show the same header.
    mov edx, 0xc10c; in eax, dx; cmp eax, ebp; jne .wrong
    ret
.wrong: mov eax, 0x130; jmp fail

    align 64
tellings: dq 0
available: dq 0
used: dq 0
header: dd 8, 0; dq 0
name: zero 24
status: db 0
    align 64
results: zero CPUS*8+8
