// The rules of IA32_APIC_BASE and of the x2APIC's MSRs, on number 1. RULES: rows of what to do (0 read, 1 write, 2 read and compare
// under a mask), MSR, value, mask, and whether it raises #GP. A failure's reason is the row's number.
test:
    cmp edi, 1; je .go
    ret
.go:
    xor r12d, r12d
    mov r13d, rules
.row:
    mov rax, [r13+16]; mov rdx, rax; shr rdx, 32
    mov ecx, [r13+8]
    mov ebx, reading
    cmp dword [r13], 1; jne .try
    mov ebx, writing
.try:
    call probe
    setc bl; movzx ebx, bl
    cmp rbx, [r13+32]; jne .wrong
    cmp dword [r13], 2; jne .next
    shl rdx, 32; mov eax, eax; or rax, rdx
    xor rax, [r13+16]; test [r13+24], rax; jne .wrong
.next:
    inc r12d; add r13, 40
    cmp r13, rules_end; jne .row
    ret
.wrong: mov eax, r12d; jmp fail
reading: rdmsr; ret
writing: wrmsr; ret
    align 8
