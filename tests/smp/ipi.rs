//! Interprocessor interrupts.

use tests::harness::smp::Program;

/// Everyone to everyone, itself included: each pair once, by the memory window and by MSRs.
#[test]
fn fixed_interrupts_reach_each_processor() {
    let text = "
    test:
        cmp dword [X2], 0; je .xapic
        call use_x2apic
    .xapic:
        mov esi, edi; push rdi
        test edi, edi; jne .ready
        mov ecx, 0x60
    .gate: mov eax, handler; call set_gate; inc ecx; cmp ecx, 0x60+CPUS; jne .gate
        // ...
    .ready: pop rdi; ret
    handler: iretq
    results: dq 1
    results_end:
    ";
    let program = Program::new(2, &text.replace("[X2]", "[results]"), &[]);
    program.check(|r| assert_eq!(r, [1]));
}
