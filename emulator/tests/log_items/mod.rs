//! `-d`: each item, by a guest that does what the item shows.

use std::fs;

use tempfile::TempDir;

use super::{POWER_OFF, RESET, TRIPLE_FAULT, error_line, retrograde, run_guest, status};

/// `mov ecx, 5; top: dec ecx; jnz top`.
const LOOP: &[u8] = &[0xb9, 5, 0, 0, 0, 0x49, 0x75, 0xfd];
/// Where the parts of a guest lie: the greeting, the loop's beginning, its top, and what follows.
const START: u64 = 0x10_0020;
const AFTER_GREETING: u64 = 0x10_0027;
const TOP: u64 = 0x10_002c;
const REST: u64 = 0x10_002f;

/// The log of a guest that runs `code` and powers off.
fn log(items: &str, code: &[u8], arguments: &[&str]) -> String {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("log");
    let log = ["-nographic", "-no-reboot", "-d", items, "-D", path.to_str().unwrap()];
    let code: Vec<u8> = [code, POWER_OFF].concat();
    let output = run_guest(&code, &[&log, arguments].concat());
    assert_eq!(output.stdout, b"R", "{output:?}");
    fs::read_to_string(path).unwrap()
}

/// The addresses of the blocks that `-d exec` shows.
fn entered(log: &str) -> Vec<u64> {
    let rip = |line: &str| {
        let place = line.strip_prefix("Trace 0: ")?.split('/').nth(1)?;
        u64::from_str_radix(place, 16).ok()
    };
    log.lines().filter_map(rip).collect()
}

const TIERS: [&[&str]; 3] = [&["-tier", "0"], &["-tier", "1"], &[]];

#[test]
fn exec_shows_every_entry_in_every_tier() {
    // The block that begins with the greeting ends at its OUT, which is executed alone; the loop's jump leads to a block of
    // its own four times.
    let want = [START, AFTER_GREETING, TOP, TOP, TOP, TOP, REST];
    for tier in TIERS {
        let log = log("exec,nochain", LOOP, tier);
        assert_eq!(entered(&log), want, "{tier:?}\n{log}");
        assert!(log.lines().all(|line| line.starts_with("Trace 0: ")), "{log}");
    }
    assert!(log("exec", LOOP, TIERS[1]).contains("tier 1"));
}

#[test]
fn cpu_shows_the_registers_at_each_entry() {
    for tier in TIERS {
        let log = log("cpu", LOOP, tier);
        let of = |name: &str| -> Vec<u64> {
            let words = log.split_whitespace().filter_map(|word| word.strip_prefix(name));
            words.map(|digits| u64::from_str_radix(digits, 16).unwrap()).collect()
        };
        assert_eq!(of("EIP="), [START, AFTER_GREETING, TOP, TOP, TOP, TOP, REST], "{tier:?}");
        assert_eq!(of("ECX=")[2..], [4, 3, 2, 1, 0], "{tier:?}");
        assert!(log.contains("[---Z-P-] CPL=0"), "DEC to zero: {log}");
        assert!(log.contains("CS =") && log.contains("CR0=00000011"), "{log}");
    }
}

#[test]
fn in_asm_shows_each_block_once() {
    for tier in TIERS {
        let log = log("in_asm", LOOP, tier);
        assert_eq!(log.matches("IN: 0x10002c, 32-bit\n").count(), 1, "{log}");
        let block = log.split("IN: 0x10002c, 32-bit\n").nth(1).unwrap();
        let lines: Vec<Vec<&str>> =
            block.lines().take(2).map(|line| line.split_whitespace().collect()).collect();
        assert_eq!(lines[0], ["0x0010002c:", "49", "dec", "ecx"]);
        assert_eq!(lines[1][..4], ["0x0010002d:", "75", "fd", "jne"]);
        assert!(log.contains("hlt") || log.contains("out dx,ax"), "{log}");
    }
}

#[test]
fn out_asm_and_op_show_compiled_code() {
    let out = log("out_asm", LOOP, &["-tier", "1"]);
    let block = out.split("OUT: 0x10002c, 2 instructions, tier 1 [size=").nth(1).unwrap();
    assert!(block.lines().nth(1).is_some_and(|line| !line.is_empty()), "{out}");
    let op = log("op", LOOP, &["-tier", "1"]);
    let block = op.split("OP: 0x10002c, 2 instructions, tier 1\n").nth(1).unwrap();
    assert!(block.starts_with("function ") && block.contains("brif"), "{op}");
    assert!(!op.contains("OUT:") && !out.contains("OP:"));
}

#[test]
fn int_shows_each_event_with_the_registers() {
    let log = log("int", TRIPLE_FAULT, &[]);
    let events: Vec<&str> = log.lines().filter(|line| line.contains(" v=")).collect();
    // INT3; the gate lies beyond the table's limit; so does that of #GP.
    assert_eq!(events.len(), 3, "{log}");
    let fields = |n: usize| events[n].split_once(": ").unwrap().1;
    assert!(fields(0).starts_with("v=03 e=0000 i=1 cpl=0 IP="), "{log}");
    assert!(fields(1).starts_with("v=0d e=001a i=0 cpl=0 IP="), "{log}");
    assert!(fields(2).starts_with("v=08 e=0000 i=0 cpl=0 IP="), "{log}");
    assert!(fields(1).contains(":0000000000100027 SP="), "{log}");
    assert_eq!(log.matches("EIP=00100027").count(), 3);
}

#[test]
fn cpu_reset_shows_power_on_resets_and_triple_faults() {
    let log = log("cpu_reset", TRIPLE_FAULT, &[]);
    assert!(log.starts_with("CPU Reset (CPU 0), power-on at 0\nEAX="), "{log}");
    assert!(log.contains("EIP=00100020"), "{log}");
    assert_eq!(log.lines().last(), Some("Triple fault at 3"), "{log}");
    assert_eq!(log.matches("CPU Reset").count(), 1);
}

#[test]
fn mmu_shows_faults_and_flushes() {
    let code = [
        &[0xc7, 5, 0, 0, 0x20, 0, 0x83, 0, 0, 0][..], // mov dword [0x200000], 0x83
        &[0xb8, 0x10, 0, 0, 0, 0x0f, 0x22, 0xe0],     // mov eax, 0x10; mov cr4, eax
        &[0xb8, 0, 0, 0x20, 0, 0x0f, 0x22, 0xd8],     // mov eax, 0x200000; mov cr3, eax
        &[0x0f, 0x20, 0xc0, 0x0d, 0, 0, 0, 0x80, 0x0f, 0x22, 0xc0], // mov eax, cr0; or eax, 1 << 31; mov cr0, eax
        &[0xa1, 0x34, 0x12, 0x80, 0],                               // mov eax, [0x801234]
    ]
    .concat();
    for tier in TIERS {
        let log = log("mmu", &code, tier);
        assert_eq!(log.matches("page fault: address 0x801234, error code 0x0\n").count(), 1, "{log}");
        assert!(log.contains("TLB flush: All"), "{log}");
    }
}

#[test]
fn pcall_shows_far_transfers() {
    // jmp 0:0x1234
    let log = log("pcall", &[0xea, 0x34, 0x12, 0, 0, 0, 0], &[]);
    assert_eq!(log, "far jump from 0x100027 to 0000:0x1234, CPL 0\n");
}

#[test]
fn guest_errors_shows_what_no_device_answers() {
    // mov dx, 0x5678; out dx, al; in al, dx
    let log = log("guest_errors", &[0x66, 0xba, 0x78, 0x56, 0xee, 0xec], &[]);
    let want = "write of 0x52 to the unassigned port 0x5678\nread of the unassigned port 0x5678\n";
    assert!(log.contains(want), "{log}");
}

#[test]
fn unimp_shows_refused_msrs() {
    // mov ecx, 0x1234; rdmsr
    let log = log("unimp", &[0xb9, 0x34, 0x12, 0, 0, 0x0f, 0x32], &[]);
    assert_eq!(log, "MSR 0x1234 read: refused with #GP\n");
}

#[test]
fn io_and_mmio_show_device_accesses() {
    // mov eax, [0xfed00000]: the HPET's identity.
    let code = [0xa1, 0, 0, 0xd0, 0xfe];
    assert!(log("io", &code, &[]).starts_with("out port 0x03f8 size 1 value 0x52 at 2 ns\n"));
    let log = log("mmio", &code, &[]);
    assert!(log.starts_with("read  address 0xfed00000 size 4 value 0x"), "{log}");
    assert_eq!(log.lines().count(), 1);
}

#[test]
fn items_combine_and_equal_runs_have_equal_logs() {
    let items = "in_asm,exec,cpu,int,io";
    let run = || log(items, LOOP, &["-tier", "0"]);
    let first = run();
    assert_eq!(first, run());
    let place = |text: &str| first.find(text).unwrap_or_else(|| panic!("{text} in {first}"));
    assert!(place("IN: 0x10002c") < place("/000000000010002c/"));
}

#[test]
fn a_log_goes_to_standard_error_without_a_file() {
    let output = run_guest(RESET, &["-nographic", "-no-reboot", "-d", "cpu_reset"]);
    assert_eq!(status(&output), Some(0));
    assert!(output.stderr.starts_with(b"CPU Reset (CPU 0)"), "{output:?}");
}

#[test]
fn help_lists_them_and_an_unknown_one_gets_the_nearest() {
    let help = String::from_utf8(retrograde(&["-d", "help"]).output().unwrap().stdout).unwrap();
    for item in ["in_asm", "out_asm", "op", "exec", "cpu", "int", "cpu_reset", "guest_errors", "mmu", "pcall"]
    {
        assert!(help.lines().any(|line| line.split_whitespace().next() == Some(item)), "{item}: {help}");
    }
    let output = retrograde(&["-kernel", "x", "-d", "exce"]).output().unwrap();
    assert_eq!(status(&output), Some(2));
    assert!(error_line(&output).contains("\"exec\""), "{output:?}");
}

#[test]
fn boot_shows_how_far_a_guest_has_come() {
    // mov al, 0x42; out 0x80, al
    let log = log("boot", &[0xb0, 0x42, 0xe6, 0x80], &[]);
    let steps: Vec<&str> = log.lines().filter_map(|line| line.split("] ").nth(1)).collect();
    for step in ["power-on", "the processor is in protected mode", "COM1 speaks", "POST code 42h"] {
        assert!(steps.contains(&step), "{step}\n{log}");
    }
    assert_eq!(steps.last(), Some(&"the guest switches the machine off"), "{log}");
}
