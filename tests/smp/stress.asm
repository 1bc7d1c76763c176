// Everything at once, each access checked. Every processor does random things in a random order: it changes translations of its own
// and uses everybody's, between memory and devices and nothing; frees page tables and uses them anew; moves PCI memory; patches
// code. What a translation, a table or an address register is good for stands beside a sequence number that is odd while it is being
// changed: what was accessed while the number stayed the same and even must have been exactly that.
//
// A page of memory F, one of FRAMES at FREE, holds F + 1000h in its first half; at 800h a word for each processor, which it alone
// writes; at C00h code that returns F + 2000h. Kinds of what a slot of the window shows: F; 100h + N, the Nth place of PCI registers;
// 200h, the local APIC; 300h, nothing. The upper four of each processor's eight slots show memory or nothing, and code is run there.
// Results: what each processor has done.
test:
    mov r14d, edi
    test edi, edi; jne .ready
    call prepare
.ready:
    call prepare_own
    call barrier
    sti
    xor ebp, ebp
.round:
    call random; mov ebx, eax; shr ebx, 16; and ebx, 15
    call qword [rbx*8+actions]
    inc ebp; cmp ebp, ROUNDS; jne .round
    mov [results+r14*8], rbp
    // Until all have done, somebody waits for our acknowledgement.
    call barrier
    cli; ret

    align 8
actions:
    dq use_slot, use_slot, use_slot, use_slot, run_slot, remap, remap, map_table
    dq use_table, use_table, move_registers, use_registers, use_video_memory, fault, accessed_and_dirty, patch

// Once, by number 0.
prepare:
    mov ebx, FREE; mov esi, 0
.frame:
    lea rax, [rsi+0x1000]; mov rdi, rbx; mov ecx, 512; cld; rep stosq
    mov byte [rbx+0xc00], 0xb8; lea eax, [rsi+0x2000]; mov [rbx+0xc01], eax; mov byte [rbx+0xc05], 0xc3
    add ebx, 0x1000; inc esi; cmp esi, FRAMES; jne .frame
    mov rdi, GUARD; mov eax, 0xdead; mov ecx, 512; rep stosq
    // Free pages hold what would lead a walk to the guard.
    mov rdi, POOL; mov eax, GUARD+3; mov ecx, 512*8; rep stosq
    xor ebx, ebx
.slot:
    mov eax, ebx; shl eax, 12; add eax, FREE+3; mov [rbx*8+WINDOW_TABLE], rax
    mov [rbx*8+kinds], rbx
    inc ebx; cmp ebx, 32; jne .slot
    xor ebx, ebx
.gate:
    mov rax, [rbx*8+handlers]; lea ecx, [rbx+0x50]; call set_gate
    inc ebx; cmp ebx, 4; jne .gate
    mov ecx, 14; mov rax, page_fault; call set_gate
    // Registers of the AHCI controller and of the display, and video memory, at their first places.
    mov ebx, 0x8000fa24; mov eax, 0xd0000000; call configure
    mov ebx, 0x80000818; mov eax, 0xd0001000; call configure
    mov ebx, 0x80000810; mov eax, 0xe0000000; call configure
    mov ebx, 0x8000fa04; mov eax, 2; call configure
    mov ebx, 0x80000804; mov eax, 2; call configure
    mov rsi, REGISTERS
    mov eax, [rsi+0x10]; mov [ahci_low], eax; mov [lows], eax
    mov eax, [rsi+0x500]; mov [ahci_high], eax; mov [highs], eax
    mov eax, [rsi+0x1010]; mov [display_low], eax; mov [lows+8], eax
    mov eax, [rsi+0x1500]; mov [display_high], eax; mov [highs+8], eax
    // They can be told apart.
    mov eax, [ahci_low]; cmp eax, [display_low]; je .alike
    cmp eax, -1; je .alike
    mov eax, [display_high]; cmp eax, -1; je .alike
    cmp eax, [ahci_high]; je .alike
    ret
.alike: mov eax, 0x100; jmp fail

// By each: its code in the page of all, and its private pages.
prepare_own:
    mov ebx, r14d; shl ebx, 4
    mov byte [rbx+CODES], 0xb8; mov eax, r14d; shl eax, 24; mov [rbx+CODES+1], eax; mov byte [rbx+CODES+5], 0xc3
    mov dword [r14*8+WINDOW_TABLE+2048], FREE+3
    ret

// The translation of the page at RAX is no more, or (0) any of those that have gone: returns when nobody has it.
shoot:
    // A test of this test: nobody is told.
    cmp byte [silent], 0; jne .silent
    mov [r14*8+shots], rax
    mov dword [r14*8+acknowledged], 0
    call invalidate
    lea eax, [r14+0xc4050]; xor edx, edx; call send
.wait: pause; cmp dword [r14*8+acknowledged], CPUS-1; jne .wait
.silent: ret

invalidate:
    test rax, rax; je .all
    invlpg [rax]; ret
.all: mov rax, cr3; mov cr3, rax; ret

shot0: push rbx; xor ebx, ebx; jmp shot
shot1: push rbx; mov ebx, 1; jmp shot
shot2: push rbx; mov ebx, 2; jmp shot
shot3: push rbx; mov ebx, 3
shot:
    push rax; push rcx; push rdx
    mov rax, [rbx*8+shots]; call invalidate
    call eoi
    lock inc dword [rbx*8+acknowledged]
    pop rdx; pop rcx; pop rax; pop rbx; iretq

    align 8
handlers: dq shot0, shot1, shot2, shot3

// RSI: the address of slot EBX. R8: its sequence number, at R12; zero flag: it may be used. R9: its kind.
slot:
    mov esi, ebx; shl esi, 12; mov rax, WINDOW; add rsi, rax
    lea r12, [rbx*8+sequences]
    mov r8, [r12]; mov r9, [rbx*8+kinds]
    test r8d, 1; ret

// The memory F that R9 says, at RSI: reads it, writes its own word by this address and reads that by the other.
use_memory:
    mov [r14*8+expected], rsi
    mov qword [r14*8+resume], .fault
    mov rax, [rsi+8]
    mov [rsi+r14*8+0x800], r15
    mov qword [r14*8+resume], 0
    mov rdx, r9; shl rdx, 12; mov rdx, [rdx+r14*8+FREE+0x800]
    cmp [r12], r8; jne .over
    lea rcx, [r9+0x1000]; cmp rax, rcx; jne .wrong
    cmp rdx, r15; jne .lost
.over: ret
.fault: cmp [r12], r8; jne .over
    mov eax, 0x110; jmp fail
.wrong: mov eax, 0x111; jmp fail
.lost: mov eax, 0x112; jmp fail

use_slot:
    call random; mov ebx, eax; shr ebx, 20; and ebx, 8*CPUS-1
    call slot; jne .any
    cmp r9, 0x100; jb use_memory
    mov [r14*8+expected], rsi
    mov qword [r14*8+resume], .fault
    cmp r9, 0x300; je .nothing
    cmp r9, 0x200; je .apic
    // A place of registers, which may change as well.
    mov rdx, [moved]; test edx, 1; jne .over
    movzx ecx, r9b
    mov edi, [rsi+0x10]; mov eax, [rsi+0x500]
    mov qword [r14*8+resume], 0
    mov r10d, [rcx*8+lows]; mov r11d, [rcx*8+highs]
    cmp [moved], rdx; jne .over
    cmp [r12], r8; jne .over
    cmp edi, r10d; jne .wrong
    cmp eax, r11d; jne .wrong
    ret
.apic:
    mov eax, [rsi+0x20]
    mov qword [r14*8+resume], 0
    cmp [r12], r8; jne .over
    shr eax, 24; cmp eax, r14d; jne .wrong_apic
    ret
.nothing:
    mov rax, [rsi]
    mov qword [r14*8+resume], 0
    cmp [r12], r8; jne .over
    mov eax, 0x120; jmp fail
.any:
    // Old or new: what it is cannot be said.
    mov [r14*8+expected], rsi
    mov qword [r14*8+resume], .over
    mov eax, [rsi+0x20]
.over: mov qword [r14*8+resume], 0; ret
.fault: cmp r9, 0x300; je .over
    cmp [r12], r8; jne .over
    mov eax, 0x121; jmp fail
.wrong: mov eax, 0x122; jmp fail
.wrong_apic: mov eax, 0x123; jmp fail

run_slot:
    call random; mov ebx, eax; shr ebx, 20; and ebx, 4*CPUS-1; add ebx, 4*CPUS
    call slot; jne .over
    mov [r14*8+expected], rsi
    mov qword [r14*8+resume], .fault
    lea rax, [rsi+0xc00]; call rax
    mov qword [r14*8+resume], 0
    cmp [r12], r8; jne .over
    lea ecx, [r9+0x2000]; cmp eax, ecx; jne .wrong
.over: ret
.fault: pop rax
    cmp r9, 0x300; je .over
    cmp [r12], r8; jne .over
    mov eax, 0x130; jmp fail
.wrong: mov eax, 0x131; jmp fail

// One of its own slots shows something else from now on.
remap:
    call random; mov ebx, eax; shr ebx, 20; and ebx, 7; imul ebx, ebx, CPUS; add ebx, r14d
    mov r9d, eax; shr r9d, 8; and r9d, FRAMES-1
    mov edx, r9d; shl edx, 12; add edx, FREE+3
    shr eax, 16; and eax, 7
    cmp eax, 3; je .nothing
    cmp ebx, 4*CPUS; jae .put
    cmp eax, 2; jb .place
    jne .put
    mov r9d, 0x200; mov edx, 0xfee00013; jmp .put
.place:
    and r9d, 3; mov edx, r9d; shl edx, 12; mov eax, 0xd0000013; add edx, eax
    add r9d, 0x100; jmp .put
.nothing:
    mov r9d, 0x300; xor edx, edx
.put:
    inc qword [rbx*8+sequences]
    mov [rbx*8+WINDOW_TABLE], rdx
    mov esi, ebx; shl esi, 12; mov rax, WINDOW; add rax, rsi
    call shoot
    mov [rbx*8+kinds], r9
    inc qword [rbx*8+sequences]
    ret

// A table of eight pages for its own region of the window; and no more.
map_table:
    mov rsi, [r14*8+tables]; test rsi, rsi; jne unmap_table
.take: lock bts dword [pool_lock], 0; jnc .taken
    pause; jmp .take
.taken:
    mov ecx, [pool_free]; bsf ebx, ecx; btr ecx, ebx; mov [pool_free], ecx
    mov dword [pool_lock], 0
    mov esi, ebx; shl esi, 12; add esi, POOL
    // Nobody has used it meanwhile, not even to note that it was used.
    xor ebx, ebx; mov eax, GUARD+3
.whole: cmp [rsi+rbx*8], rax; jne .touched
    mov qword [rsi+rbx*8], 0; inc ebx; cmp ebx, 512; jne .whole
    mov r12d, r14d; shl r12d, 6
    xor ebx, ebx
.entry:
    call random; shr eax, 9; and eax, FRAMES-1
    mov [r12+rbx*8+table_kinds], rax
    shl eax, 12; add eax, FREE+3; mov [rsi+rbx*8], rax
    inc ebx; cmp ebx, 8; jne .entry
    mov [r14*8+tables], rsi
    lea rax, [rsi+3]; mov [r14*8+0x3008], rax
    inc qword [r14*8+table_sequences]
    ret
.touched: mov eax, 0x140; jmp fail

unmap_table:
    inc qword [r14*8+table_sequences]
    mov qword [r14*8+0x3008], 0
    mov r12d, r14d; shl r12d, 6
    mov edi, r14d; inc edi; shl rdi, 21; mov rax, WINDOW; add rdi, rax
    xor ebx, ebx
    call random; test eax, 0x10000; jne .each
    xor eax, eax; call shoot
    jmp .gone
.each:
    mov rax, rdi; call shoot
    add rdi, 0x1000; inc ebx; cmp ebx, 8; jne .each
.gone:
    // Accessed and dirty bits may have come, nothing else.
    xor ebx, ebx
.entry:
    mov rax, [r12+rbx*8+table_kinds]; shl eax, 12; add eax, FREE+3
    mov rcx, [rsi+rbx*8]; and rcx, -0x61; cmp rax, rcx; jne .changed
    inc ebx; cmp ebx, 8; jne .entry
    mov rdi, rsi; mov eax, GUARD+3; mov ecx, 512; rep stosq
    mov qword [r14*8+tables], 0
.give: lock bts dword [pool_lock], 0; jnc .given
    pause; jmp .give
.given:
    mov ecx, esi; sub ecx, POOL; shr ecx, 12; mov eax, [pool_free]; bts eax, ecx; mov [pool_free], eax
    mov dword [pool_lock], 0
    ret
.changed: mov eax, 0x141; jmp fail

// Somebody's region.
use_table:
    call random; mov ebx, eax; shr ebx, 20; mov ecx, ebx; and ebx, CPUS-1; shr ecx, 4; and ecx, 7
    lea r12, [rbx*8+table_sequences]
    mov r8, [r12]; test r8d, 1; je .over
    lea eax, [rbx*8+rcx]; mov r9, [rax*8+table_kinds]
    lea esi, [rbx+1]; shl rsi, 21; shl ecx, 12; add rsi, rcx; mov rax, WINDOW; add rsi, rax
    jmp use_memory
.over: ret

// The registers of two devices move to other places, over one another's as well; and so does video memory.
move_registers:
    lock bts dword [moving], 0; jc .over
    inc qword [moved]
    call random; mov esi, eax; shr esi, 18; mov edi, esi; shr edi, 2; and esi, 3
    // The other one is at one of the three others.
    and edi, 15; mov eax, edi; imul eax, eax, 11; shr eax, 5; imul eax, eax, 3; sub edi, eax; lea edi, [rdi+rsi+1]; and edi, 3
    mov dword [lows], -1; mov dword [lows+8], -1; mov dword [lows+16], -1; mov dword [lows+24], -1
    mov dword [highs], -1; mov dword [highs+8], -1; mov dword [highs+16], -1; mov dword [highs+24], -1
    mov eax, [ahci_low]; mov [rsi*8+lows], eax; mov eax, [ahci_high]; mov [rsi*8+highs], eax
    mov eax, [display_low]; mov [rdi*8+lows], eax; mov eax, [display_high]; mov [rdi*8+highs], eax
    mov ebx, 0x8000fa24; mov eax, esi; shl eax, 12; mov ecx, 0xd0000000; add eax, ecx; call configure
    mov ebx, 0x80000818; mov eax, edi; shl eax, 12; mov ecx, 0xd0000000; add eax, ecx; call configure
    test r15d, 0x300; jne .stays
    mov ebx, 0x80000810; mov eax, esi; shl eax, 24; mov [video_place], rax; mov ecx, 0xe0000000; add eax, ecx; call configure
.stays:
    inc qword [moved]
    mov dword [moving], 0
.over: ret

use_registers:
    call random; mov ebx, eax; shr ebx, 20; and ebx, 3
    mov r8, [moved]; test r8d, 1; jne .over
    mov r10d, [rbx*8+lows]; mov r11d, [rbx*8+highs]
    mov esi, ebx; shl esi, 12; add esi, REGISTERS
    mov eax, [rsi+0x10]; mov ecx, [rsi+0x500]
    cmp [moved], r8; jne .over
    cmp eax, r10d; jne .wrong
    cmp ecx, r11d; jne .wrong
.over: ret
.wrong: mov eax, 0x150; jmp fail

use_video_memory:
    mov r8, [moved]; test r8d, 1; jne .over
    mov rbx, [video_place]
    call random; mov esi, eax; shr esi, 20; and esi, 0x3f; shl esi, 12; lea rsi, [rsi+r14*8+VIDEO]
    mov [rsi+rbx], r15; mov rax, [rsi+rbx]
    xor ebx, 0x1000000; mov ecx, [rsi+rbx]
    cmp [moved], r8; jne .over
    cmp rax, r15; jne .wrong
    cmp ecx, -1; jne .somewhere
.over: ret
.wrong: mov eax, 0x160; jmp fail
.somewhere: mov eax, 0x161; jmp fail

// A page that is mapped when it is first used.
fault:
    lea ebx, [r14+272]
    mov qword [rbx*8+WINDOW_TABLE], 0
    mov esi, ebx; shl esi, 12; mov rax, WINDOW; add rsi, rax
    invlpg [rsi]
    call random; mov ecx, eax; shr ecx, 16; and ecx, 0xff; lea rsi, [rsi+rcx*8]
    shr eax, 8; and eax, FRAMES-1; mov [r14*8+lazy_frames], rax
    mov [r14*8+lazy], rsi
    mov rcx, [rsi]
    add eax, 0x1000; cmp rcx, rax; jne .wrong
    cmp qword [r14*8+lazy], 0; jne .none
    ret
.wrong: mov eax, 0x170; jmp fail
.none: mov eax, 0x171; jmp fail

page_fault:
    push rax; push rdi; push rbx
    call number
    mov rax, [rdi*8+resume]; test rax, rax; je .lazy
    mov rbx, cr2; and rbx, -0x1000; cmp rbx, [rdi*8+expected]; jne .elsewhere
    test byte [rsp+24], 1; jne .present
    mov [rsp+32], rax
    mov qword [rdi*8+resume], 0
.back: pop rbx; pop rdi; pop rax; add rsp, 8; iretq
.lazy:
    mov rbx, cr2; test rbx, rbx; je .elsewhere
    cmp rbx, [rdi*8+lazy]; jne .elsewhere
    cmp dword [rsp+24], 0; jne .present
    mov rax, [rdi*8+lazy_frames]; shl eax, 12; add eax, FREE+3; mov [rdi*8+WINDOW_TABLE+2176], rax
    mov qword [rdi*8+lazy], 0
    jmp .back
.elsewhere: mov rax, cr2; shl rax, 12; add rax, 0x172; push qword [rsp+32]; jmp fail
.present: mov eax, 0x173; push qword [rsp+32]; jmp fail

// Its own page's accessed and dirty bits come when they should, while the others change bits that are theirs in the same entry.
accessed_and_dirty:
    lea ebx, [r14+256]
    mov esi, ebx; shl esi, 12; mov rax, WINDOW; add rsi, rax
    lock and dword [rbx*8+WINDOW_TABLE], -0x61
    invlpg [rsi]
    mov rax, [rsi+8]
    mov ecx, [rbx*8+WINDOW_TABLE]; and ecx, 0x60; cmp ecx, 0x20; jne .wrong
    mov [rsi+r14*8+0x840], rax
    mov ecx, [rbx*8+WINDOW_TABLE]; and ecx, 0x60; cmp ecx, 0x60; jne .wrong
    // Another one's entry.
    call random; shr eax, 20
    xor ebx, ebx
.other:
    cmp ebx, r14d; je .next
    mov ecx, r14d; sub ecx, ebx; and ecx, CPUS-1; add ecx, 8
    lock btc dword [rbx*8+WINDOW_TABLE+2048], ecx
    setb al
    mov edx, r14d; shl edx, 3; cmp al, [rdx+rbx+toggled]; jne .lost
    xor byte [rdx+rbx+toggled], 1
.next: inc ebx; cmp ebx, CPUS; jne .other
    ret
.wrong: mov eax, 0x180; jmp fail
.lost: mov eax, 0x181; jmp fail

// Its own code returns what it has just put there; another one's what that one has told of at least.
patch:
    mov ebx, r14d; shl ebx, 4
    inc dword [rbx+CODES+1]
    lea rsi, [rbx+CODES]; call rsi
    mov ecx, [rbx+CODES+1]; cmp eax, ecx; jne .wrong
    mov [r14*8+told], eax
    call random; mov esi, eax; shr esi, 20; and esi, CPUS-1
    mov r8d, [rsi*8+told]
    xor eax, eax; cpuid
    mov ebx, esi; shl ebx, 4; lea rbx, [rbx+CODES]; call rbx
    mov ecx, eax; shr ecx, 24; cmp ecx, esi; jne .wrong
    cmp eax, r8d; jb .old
    ret
.wrong: mov eax, 0x190; jmp fail
.old: mov eax, 0x191; jmp fail

    align 64
sequences: zero 256
kinds: zero 256
shots: zero 32
acknowledged: zero 32
expected: zero 32
resume: zero 32
tables: zero 32
table_sequences: zero 32
table_kinds: zero 256
lazy: zero 32
lazy_frames: zero 32
toggled: zero 32
told: zero 32
lows: dq -1, -1, -1, -1
highs: dq -1, -1, -1, -1
ahci_low: dd 0
ahci_high: dd 0
display_low: dd 0
display_high: dd 0
video_place: dq 0
pool_lock: dd 0
pool_free: dd 0xff
moving: dd 0
silent: dd SILENT
    align 64
moved: dq 0
    align 64
results: dq 0, 0, 0, 0
