//! Tests for what random programs cannot have: each line names a test and the instructions that it is about.

use iced_x86::Mnemonic as M;

/// Test (file and function) and mnemonics.
pub const TESTS: &[(&str, &[M])] = &[
    (
        "jit/x86/src/sys/tests/remaining.rs::sixteen_bit_branches",
        &[
            M::Jo,
            M::Jno,
            M::Jb,
            M::Jae,
            M::Je,
            M::Jne,
            M::Jbe,
            M::Ja,
            M::Js,
            M::Jns,
            M::Jp,
            M::Jnp,
            M::Jl,
            M::Jge,
            M::Jle,
            M::Jg,
        ],
    ),
    (
        "jit/x86/src/sys/tests/remaining.rs::sixteen_bit_loops",
        &[M::Loop, M::Loope, M::Loopne, M::Jcxz, M::Jecxz, M::Jrcxz],
    ),
    (
        "jit/x86/src/sys/tests/remaining.rs::segment_registers_on_the_stack_and_in_registers",
        &[M::Push, M::Pop],
    ),
    ("jit/x86/src/sys/tests/remaining.rs::far_pointers", &[M::Lds, M::Les, M::Lss, M::Lfs, M::Lgs]),
    (
        "jit/x86/src/sys/tests/remaining.rs::descriptor_table_registers_are_stored_and_loaded",
        &[M::Lgdt, M::Lidt, M::Sgdt, M::Sidt, M::Sldt, M::Str, M::Smsw],
    ),
    ("jit/x86/src/sys/tests/remaining.rs::clocks", &[M::Rdtsc, M::Rdtscp, M::Rdpid, M::Rdpmc]),
    (
        "jit/x86/src/sys/tests/remaining.rs::privileged_without_operands",
        &[M::Invd, M::Wbinvd, M::Clts, M::Hlt, M::Invlpg, M::Lmsw, M::Stac, M::Clac, M::Cli, M::Sti],
    ),
    (
        "jit/x86/src/sys/tests/remaining.rs::hints_and_relics_do_nothing",
        &[M::Prefetch, M::Prefetchw, M::Fneni, M::Fndisi, M::Fnsetpm, M::Ud0, M::Ud1, M::Ud2],
    ),
    (
        "jit/x86/src/sys/tests/remaining.rs::string_ports",
        &[M::Insb, M::Insw, M::Insd, M::Outsb, M::Outsw, M::Outsd],
    ),
    ("jit/x86/src/sys/tests/remaining.rs::icebp_is_a_debug_exception", &[M::Int1]),
    ("jit/x86/src/sys/tests/registers.rs::cr0_rules", &[M::Mov]),
    ("jit/x86/src/sys/tests/registers.rs::model_specific_registers", &[M::Rdmsr, M::Wrmsr]),
    ("jit/x86/src/sys/tests/registers.rs::cpuid_instruction", &[M::Cpuid]),
    (
        "jit/x86/src/sys/tests/registers.rs::fxsave_round_trip",
        &[M::Fxsave, M::Fxsave64, M::Fxrstor, M::Fxrstor64],
    ),
    (
        "jit/x86/src/sys/tests/registers.rs::xsave_formats",
        &[M::Xsave, M::Xsave64, M::Xrstor, M::Xrstor64, M::Xsaveopt, M::Xsaveopt64, M::Xsavec, M::Xsavec64],
    ),
    ("jit/x86/src/sys/tests/registers.rs::xsetbv_rules", &[M::Xsetbv, M::Xgetbv]),
    ("jit/x86/src/sys/tests/registers.rs::denied_extensions_are_undefined", &[M::Rsm]),
    (
        "jit/x86/src/sys/tests/paging.rs::supervisor_xsave_rules",
        &[M::Xsaves, M::Xsaves64, M::Xrstors, M::Xrstors64],
    ),
    ("jit/x86/src/sys/tests/paging.rs::pkru_instructions", &[M::Rdpkru, M::Wrpkru]),
    ("jit/x86/src/sys/tests/paging.rs::invpcid_rules", &[M::Invpcid]),
    ("jit/x86/src/sys/tests/real.rs::far_call_and_return", &[M::Call, M::Retf]),
    ("jit/x86/src/sys/tests/real.rs::far_jump_keeps_limits", &[M::Jmp]),
    ("jit/x86/src/sys/tests/real.rs::interrupt_and_iret", &[M::Int, M::Iret, M::Iretd]),
    ("jit/x86/src/sys/tests/long.rs::interrupt_and_iretq", &[M::Iretq]),
    ("jit/x86/src/sys/tests/real.rs::ports", &[M::In, M::Out]),
    ("jit/x86/src/sys/tests/long.rs::syscall_and_sysret", &[M::Syscall]),
    ("jit/x86/src/sys/tests/long.rs::sysret_rules", &[M::Sysret, M::Sysretq]),
    ("jit/x86/src/sys/tests/long.rs::sysenter_and_sysexit", &[M::Sysenter, M::Sysexit, M::Sysexitq]),
    ("jit/x86/src/sys/tests/long.rs::bases", &[M::Swapgs]),
    ("jit/x86/src/sys/tests/protected.rs::ldt_and_task_register", &[M::Lldt, M::Ltr]),
    ("jit/x86/src/sys/tests/protected.rs::examining_selectors", &[M::Verr, M::Verw, M::Lar, M::Lsl]),
    ("jit/x86/src/sys/tests/integer.rs::random_numbers_repeat_with_the_seed", &[M::Rdrand, M::Rdseed]),
    ("tests/isa/faults.rs::software_interrupts", &[M::Int3, M::Into]),
    ("tests/isa/stack.rs::flags_on_the_stack", &[M::Popf, M::Popfd, M::Popfq]),
    ("jit/x86/tests/fp_state.rs::environments_in_all_formats", &[M::Fldenv, M::Fnstenv]),
    ("jit/x86/tests/fp_state.rs::fnsave_and_frstor_round_trip", &[M::Frstor, M::Fnsave]),
    ("jit/x86/src/sys/tests/vme.rs::monitor_and_mwait", &[M::Monitor, M::Mwait]),
];
