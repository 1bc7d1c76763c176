//! Interrupts between processors, and from their timers and the I/O APIC; waiting for them.

use tests::harness::smp::Program;

/// Physical and logical destinations (flat, cluster) and shorthands, by the window and by the MSRs.
#[test]
fn fixed_interrupts_reach_their_destinations() {
    let wanted = |cpus: u64, clusters: [u64; 4]| -> Vec<u64> {
        (0..cpus).flat_map(|n| [cpus, cpus, cpus - 1, 1, 8, clusters[n as usize], 0, 0]).collect()
    };
    let by_window = Program::new(4, include_str!("ipi.asm"), &[("X2", 0), ("ALL", 15)]);
    by_window.check(|results| assert_eq!(results, wanted(4, [2, 1, 2, 3])));
    let by_msrs = Program::new(4, include_str!("ipi.asm"), &[("X2", 1), ("ALL", 15)]);
    by_msrs.check(|results| assert_eq!(results, wanted(4, [0; 4])));
}

#[test]
fn lowest_priority_goes_by_task_priority() {
    Program::new(4, include_str!("lowest.asm"), &[]).check(|results| assert_eq!(results, [1; 4]));
}

#[test]
fn an_nmi_comes_always_but_in_its_handler() {
    Program::new(3, include_str!("nmi.asm"), &[]).check(|results| assert_eq!(results, [4, 1]));
}

/// SDM vol. 3, table 10-1: INIT keeps the caching bits, vector state and MSRs, and nothing else.
#[test]
fn init_stops_a_processor_until_a_start_up_ipi() {
    Program::new(2, include_str!("init.asm"), &[]).check(|results| {
        let [starts, segment, gs_base, xmm, cr0_2, cr3_4, dr0_7, efer_esp] = results else {
            panic!("{results:?}")
        };
        assert_eq!(*starts, 2);
        assert!(segment & 0xff == 0 && segment & 0xff00 != 0, "the page that the vector names: {segment:#x}");
        assert_eq!((*gs_base, *xmm), (0x1234_0000_5678, 0x1122_3344_5566_7788));
        assert_eq!((*cr0_2, *cr3_4), (0x10, 0));
        assert_eq!((*dr0_7, *efer_esp), (0x400 << 32, 0));
    });
}

/// HLT and MWAIT: no wake-up is lost, whenever it comes.
#[test]
fn processors_wake_one_another() {
    let program = Program::new(3, include_str!("waits.asm"), &[("ROUNDS", 100)]);
    program.check(|results| assert_eq!(results, [0, 400, 400]));
}

#[test]
fn each_processor_has_its_timer_and_all_have_one_time() {
    let program = Program::new(3, include_str!("timers.asm"), &[("ROUNDS", 1000), ("PERIOD", 300_000)]);
    program.check(|results| assert_eq!(results, [[5, 5, 5, 0].repeat(3), vec![0]].concat()));
}

#[test]
fn the_io_apic_reaches_each_processor() {
    let program = Program::new(3, include_str!("ioapic.asm"), &[]);
    program.check(|results| assert_eq!(results, [3, 3, 0, 0].repeat(3)));
}
