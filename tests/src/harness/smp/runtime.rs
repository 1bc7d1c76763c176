//! What every guest begins with: from the reset vector to 64-bit mode on each processor, and a small library.
//!
//! The ROM copies the guest to low memory, and the bootstrap processor goes through the same start-up code as the others do after
//! their start-up IPI. The first 4 GiB are mapped as they are (the last of them uncached); at `WINDOW` lie 512 pages of
//! 4 KiB whose table is at `WINDOW_TABLE`. Each processor then calls `test` with its number, which is its APIC id, in EDI, and
//! interrupts off; a register that the library names is all that it changes, but for RAX, RCX, RDX and flags. When all have come
//! back, number 0 writes what stands from `results` to the end of the program to port E9h and ends the machine by port F4h.
//!
//! - `barrier`: waits until all processors are here.
//! - `send`: the IPI whose ICR low half is in EAX, to EDX; `eoi`; `set_gate`: RAX handles vector ECX; `start`: number EDX
//!   begins at the page ECX by INIT and two start-up IPIs.
//! - `use_x2apic`: from here on this processor uses the MSRs (and `send`, `eoi` know it).
//! - `configure`: EAX goes to the register of a PCI function's configuration space that EBX names.
//! - `probe`: calls RBX with the registers as they are, but for RDI; carry: it raised #GP or #PF, and ended there.
//! - `random`: EAX from the generator in R15.
//! - `fail`: ends the machine with RAX as reason.

/// Where the guest's image lies in memory.
pub const IMAGE: u64 = 0x1000;
/// Bytes of the ROM: its last one is at 4 GiB, and at 1 MiB.
pub const ROM_LEN: usize = 128 << 10;
/// Where in the ROM its own code is.
pub const ROM_CODE: usize = ROM_LEN - 256;

/// Names for all guests.
pub const CONSTANTS: [(&str, i64); 11] = [
    ("IMAGE", IMAGE as i64),
    // By the second gigabyte, where 32-bit displacements reach.
    ("APIC", 0x7ee0_0000),
    ("IOAPIC", 0x7ec0_0000),
    ("HPET", 0x7ed0_0000),
    ("WINDOW", 0x1_0000_0000),
    ("WINDOW_TABLE", 0x4000),
    // What lies behind the image: stacks, and memory that tests may use from here on.
    ("STACKS", 0x10_0000),
    ("STACK", 0x4000),
    ("FREE", 0x20_0000),
    ("PAIR", 0x30_0000),
    // Marks of what is written to the debug port.
    ("FAILED", 0x4c49_4146),
];

/// The ROM's own code: copies the image and goes on at `protected`, in 32-bit mode.
pub const ROM: &str = "
    bits 16
    begin:
        cli
        db 0x66; lgdt [cs:table-0xffff0000]
        mov eax, cr0; or al, 1; mov cr0, eax
        db 0x66, 0xea; dd copy; dw 8
    bits 32
    copy:
        mov eax, 16; mov ds, ax; mov es, ax; mov ss, ax
        mov esi, 0xfffe0000; mov edi, IMAGE; mov ecx, LENGTH
        cld; rep movsb
        mov eax, PROTECTED; jmp eax
        align 8
    table: dw 23; dd gdt
        align 8
    gdt: dq 0, 0xcf9b000000ffff, 0xcf93000000ffff
        org 0xfffffff0
    bits 16
        jmp begin
        align 16
";

/// The image.
pub const IMAGE_START: &str = "
    // 1000h: page tables.
        dq 0x2027; zero 4088
        dq 0x87, 0xc000009f, 0x80000087, 0xc000009f, 0x3027; zero 4056
        dq 0x4027; zero 4088
        zero 4096
    gdt: dq 0, 0xcf9b000000ffff, 0xcf93000000ffff, 0xaf9b000000ffff; zero 4064
    idt: zero 4096
        zero 4096

    // 8000h: start-up IPIs lead here.
    bits 16
        cli
        lgdt [gdt_pointer]
        mov eax, cr0; or al, 1; mov cr0, eax
        db 0x66, 0xea; dd protected; dw 8
    bits 32
    protected:
        mov eax, 16; mov ds, ax; mov es, ax; mov ss, ax
        lgdt [gdt_pointer]
        mov eax, cr4; or eax, 0x620; mov cr4, eax
        mov eax, 0x1000; mov cr3, eax
        mov ecx, 0xc0000080; rdmsr; or eax, 0x901; wrmsr
        // PG, WP, NE, MP; caches on.
        mov eax, 0x80010033; mov cr0, eax
        db 0xea; dd long; dw 24
        align 8
    gdt_pointer: dw 31; dq gdt
    idt_pointer: dw 4095; dq idt

    bits 64
    long:
        mov eax, 1; cpuid
        mov edi, ebx; shr edi, 24
        lea eax, [rdi+1]; imul eax, eax, STACK
        lea rsp, [rax+STACKS]
        imul r15d, edi, 0x3779b1; add r15d, SEED
        test edi, edi; jne .other
        cmp byte [built], 0; jne .other
        call build
    .other:
        lidt [idt_pointer]
        mov eax, 0x1ff; mov [APIC+0xf0], eax
        mov eax, 0x10000; mov [APIC+0x350], eax
        // A processor that a test starts once more goes where the test says.
        mov rax, [entries+rdi*8]; test rax, rax; jne .again
        lock inc dword [present]
        test edi, edi; jne .wait
        call start_others
    .wait:
        call barrier
        call test
    .returned:
        call number
        cli
        call barrier
        test edi, edi; jne .stop
        mov eax, 0x10
        jmp finish
    .stop: hlt; jmp .stop
    .again: jmp rax

    // The 8259As are silent; every vector has a handler.
    build:
        inc byte [built]
        mov al, 0xff; out 0x21, al; out 0xa1, al
        xor ecx, ecx
    .gate:
        lea rax, [rcx*8+stubs]
        call set_gate
        inc ecx; cmp ecx, 256; jne .gate
        mov ecx, 13; mov eax, protection; call set_gate
        mov ecx, 14; mov eax, protection; jmp set_gate

    set_gate:
        push rbx; mov ebx, ecx; shl ebx, 4
        mov [rbx+idt], ax
        mov word [rbx+idt+2], 24
        mov word [rbx+idt+4], 0x8e00
        shr rax, 16; mov [rbx+idt+6], ax
        shr rax, 16; mov [rbx+idt+8], rax
        pop rbx; ret

    // The others, one by one.
    start_others:
        push rdi; mov edi, 1
    .one:
        cmp edi, CPUS; je .done
        mov edx, edi; mov ecx, 8; call start
    .wait:
        pause; cmp [present], edi; jbe .wait
        inc edi; jmp .one
    .done: pop rdi; ret

    start:
        push rcx; push rdx
        mov eax, 0x4500; call send
        mov ecx, 200; call delay
        pop rdx; pop rcx; push rcx; push rdx
        lea eax, [rcx+0x4600]; call send
        mov ecx, 200; call delay
        pop rdx; pop rcx
        lea eax, [rcx+0x4600]; jmp send

    // About ECX microseconds: a port access is one.
    delay: in al, 0x80; dec ecx; jne delay; ret

    send:
        push rdi; push rax; push rdx; call number; pop rdx; pop rax
        cmp byte [x2+rdi], 0; pop rdi; jne .msr
        shl edx, 24
        mov [APIC+0x310], edx; mov [APIC+0x300], eax
    .busy:
        mov eax, [APIC+0x300]; test eax, 0x1000; jne .busy_more
        ret
    .busy_more: pause; jmp .busy
    .msr: mov ecx, 0x830; wrmsr; ret

    eoi:
        push rdi; call number
        cmp byte [x2+rdi], 0; pop rdi; jne .msr
        mov dword [APIC+0xb0], 0; ret
    .msr: mov ecx, 0x80b; xor eax, eax; xor edx, edx; wrmsr; ret

    // EAX to the register of a PCI function's configuration space that EBX names.
    configure:
        push rax
        mov edx, 0xcf8; mov eax, ebx; out dx, eax
        mov edx, 0xcfc; pop rax; out dx, eax
        ret

    use_x2apic:
        push rdi; call number
        mov ecx, 0x1b; rdmsr; or eax, 0x400; wrmsr
        mov byte [x2+rdi], 1
        pop rdi; ret

    // EDI: by the stack, so that handlers can ask. Changes RAX.
    number: mov rax, rsp; sub rax, STACKS; shr rax, 14; mov edi, eax; ret

    barrier:
        mov eax, [barrier_turn]
        mov ecx, 1; lock xadd [barrier_count], ecx
        inc ecx; cmp ecx, CPUS; je .last
    .wait: pause; cmp [barrier_turn], eax; je .wait
        ret
    .last:
        mov dword [barrier_count], 0
        lock inc dword [barrier_turn]
        ret

    // xorshift32.
    random:
        mov eax, r15d; shl eax, 13; xor r15d, eax
        mov eax, r15d; shr eax, 17; xor r15d, eax
        mov eax, r15d; shl eax, 5; xor r15d, eax
        mov eax, r15d; ret

    probe:
        push rdi; push rax; call number
        mov [recover_sp+rdi*8], rsp
        mov qword [recover+rdi*8], .faulted
        pop rax; call rbx
        push rax; call number
        mov qword [recover+rdi*8], 0
        pop rax; pop rdi; clc; ret
    .faulted:
        pop rax; pop rdi; stc; ret

    // A #GP or #PF: where a probe is going on, it ends there.
    protection:
        push rdi; push rax; call number
        cmp qword [recover+rdi*8], 0; je .unexpected
        add rsp, 24
        mov rax, [recover+rdi*8]; mov [rsp], rax
        mov rax, [recover_sp+rdi*8]; mov [rsp+24], rax
        mov qword [recover+rdi*8], 0
        iretq
    .unexpected:
        pop rax; pop rdi
        sub rsp, 8; mov qword [rsp], stubs+13*8+5

    // What a stub called, above perhaps an error code, and RIP.
    trap:
        push rax; push rbx
        call begin_failure
        mov rax, [rsp+16]; call out_qword
        mov rax, [rsp+24]; call out_qword
        mov rax, [rsp+32]; call out_qword
        mov rax, cr2; call out_qword
        mov eax, 0x12; jmp leave

    fail:
        push rax
        call begin_failure
        mov eax, 256; call out_qword
        pop rax; call out_qword
        mov rax, [rsp]; call out_qword
        xor eax, eax; call out_qword; xor eax, eax; call out_qword
        mov eax, 0x11; jmp leave

    // The first one speaks.
    begin_failure:
        lock bts dword [failing], 0; jc leave.stop
        mov eax, FAILED
    out_qword:
        push rcx; mov ecx, 8
    .byte: out 0xe9, al; shr rax, 8; dec ecx; jne .byte
        pop rcx; ret

    finish:
        push rax
        mov rbx, results
    .next:
        cmp rbx, results_end; jae .written
        mov rax, [rbx]; call out_qword
        add rbx, 8; jmp .next
    .written: pop rax
    leave:
        out 0xf4, al
    .stop: cli; hlt; jmp .stop

        align 8
    present: dd 0
    failing: dd 0
    barrier_count: dd 0
        align 64
    barrier_turn: dd 0
    built: db 0
        align 64
    x2: zero 8
    entries: zero 64
    recover: zero 64
    recover_sp: zero 64
        align 4096
    stubs:
";
