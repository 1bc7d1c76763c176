// The I/O APIC's redirection to each processor: an edge on a pin of the test device goes where the entry says, physically and
// logically; a level goes on until EOI. Results: interrupts of each kind for each processor.
test:
    mov ecx, edi; add ecx, 24; mov eax, 1; shl eax, cl; mov [APIC+0xd0], eax
    test edi, edi; jne .ready
    mov ecx, 0x50; mov eax, edge; call set_gate
    mov ecx, 0x51; mov eax, level; call set_gate
.ready:
    call barrier
    sti
    test edi, edi; je .conductor
.wait: pause; cmp dword [finished], 0; je .wait
    cli; ret
.conductor:
    xor ebx, ebx
.one:
    // Pin 5, edge, physical destination EBX.
    mov ecx, 0x1b; mov edx, ebx; shl edx, 24; call write_entry
    mov ecx, 0x1a; mov edx, 0x50; call write_entry
    call pulse
    mov ecx, ebx; shl ecx, 5
.edge: pause; cmp qword [rcx+results], 1; jne .edge
    // Logical destination.
    mov ecx, ebx; add ecx, 24; mov edx, 1; shl edx, cl; mov ecx, 0x1b; call write_entry
    mov ecx, 0x1a; mov edx, 0x850; call write_entry
    call pulse
    mov ecx, ebx; shl ecx, 5
.logical: pause; cmp qword [rcx+results], 2; jne .logical
    // A level: it comes again until the handler lowers it.
    mov ecx, 0x1a; mov edx, 0x8851; call write_entry
    mov dx, 0x2005; mov al, 1; out dx, al
    mov ecx, ebx; shl ecx, 5
.level: pause; cmp qword [rcx+results+8], 3; jne .level
    mov ecx, 0x1a; mov edx, 0x10000; call write_entry
    inc ebx; cmp ebx, CPUS; jne .one
    // To all of a logical set.
    mov ecx, 0x1b; mov edx, 0xff000000; call write_entry
    mov ecx, 0x1a; mov edx, 0x850; call write_entry
    call pulse
    xor ebx, ebx
.all:
    mov ecx, ebx; shl ecx, 5
.each: pause; cmp qword [rcx+results], 3; jne .each
    inc ebx; cmp ebx, CPUS; jne .all
    mov dword [finished], 1
    cli; ret

pulse: mov dx, 0x2005; mov al, 1; out dx, al; xor eax, eax; out dx, al; ret
write_entry: mov [IOAPIC], ecx; mov [IOAPIC+16], edx; ret

edge:
    push rax; push rdi; push rcx; push rdx
    call number; shl edi, 5; inc qword [rdi+results]
    call eoi
    pop rdx; pop rcx; pop rdi; pop rax; iretq
level:
    push rax; push rdi; push rcx; push rdx
    call number; shl edi, 5
    cmp qword [rdi+results+8], 2; jne .again
    mov dx, 0x2005; xor eax, eax; out dx, al
.again:
    // What the conductor waits for comes last: its next edge must find the line low.
    call eoi
    inc qword [rdi+results+8]
    pop rdx; pop rcx; pop rdi; pop rax; iretq

    align 64
finished: dd 0
    align 64
results: zero CPUS*32
