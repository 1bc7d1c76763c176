#![allow(unsafe_code, dead_code)]
#[path = "../tests/host/mod.rs"]
mod host;
use iced_x86::code_asm::*;
use std::time::Instant;
fn main() {
    let mut cpu = host::guest();
    let run = |name: &str, cpu: &mut x86::Vcpu, f: &dyn Fn(&mut CodeAssembler)| {
        let mut a = CodeAssembler::new(64).unwrap();
        f(&mut a);
        let n0 = a.instructions().len();
        for _ in 0..(60 / n0 - 1) { f(&mut a); }
        let bytes = a.assemble(host::CODE).unwrap();
        let b = x86::decode::block(&bytes, host::CODE, cpu.st.mode).unwrap();
        cpu.st.gpr[15] = host::AT;
        cpu.st.mxcsr = 0x1fa0; cpu.st.mxcsr_changed();
        for k in 0..4 { cpu.st.xmm[k] = [1.5f64.to_bits(), 1.0f64.to_bits()]; }
        for k in 0..8 { cpu.st.x87.mant[k] = 0xc000_0000_0000_0000; cpu.st.x87.sexp[k] = 0x3fff; }
        cpu.st.x87.cw = 0x37f;
        cpu.mmu.space().store(softmmu::Gpa(host::AT + host::OPERAND as u64), 1.0f64.to_bits()).unwrap();
        cpu.mmu.space().store(softmmu::Gpa(host::AT + host::OPERAND as u64 + 8), 1.0f64.to_bits()).unwrap();
        let iters = 200_000u64;
        let t = Instant::now();
        for _ in 0..iters {
            cpu.st.budget = 1000; cpu.st.stop = 0;
            std::hint::black_box(x86::interp::run_block(cpu, &b));
            assert_eq!(cpu.st.stop, 0);
        }
        let ns = t.elapsed().as_nanos() as f64 / (iters * u64::from(b.count)) as f64;
        println!("{name:20} {ns:6.2} ns");
    };
    let m = host::OPERAND as i32;
    run("mov r,r", &mut cpu, &|a| a.mov(rax, rcx).unwrap());
    run("mov r,[m]", &mut cpu, &|a| a.mov(rax, qword_ptr(r15 + m)).unwrap());
    run("pxor", &mut cpu, &|a| a.pxor(xmm5, xmm6).unwrap());
    run("paddb", &mut cpu, &|a| a.paddb(xmm5, xmm6).unwrap());
    run("pcmpeqb", &mut cpu, &|a| a.pcmpeqb(xmm5, xmm6).unwrap());
    run("pminub", &mut cpu, &|a| a.pminub(xmm5, xmm6).unwrap());
    run("pmovmskb", &mut cpu, &|a| a.pmovmskb(eax, xmm6).unwrap());
    run("pshufd", &mut cpu, &|a| a.pshufd(xmm5, xmm6, 0x1b).unwrap());
    run("pshufb", &mut cpu, &|a| a.pshufb(xmm5, xmm6).unwrap());
    run("punpcklbw", &mut cpu, &|a| a.punpcklbw(xmm5, xmm6).unwrap());
    run("packuswb", &mut cpu, &|a| a.packuswb(xmm5, xmm6).unwrap());
    run("pmullw", &mut cpu, &|a| a.pmullw(xmm5, xmm6).unwrap());
    run("pmuludq", &mut cpu, &|a| a.pmuludq(xmm5, xmm6).unwrap());
    run("psadbw", &mut cpu, &|a| a.psadbw(xmm5, xmm6).unwrap());
    run("pslld imm", &mut cpu, &|a| a.pslld(xmm5, 3).unwrap());
    run("psrldq", &mut cpu, &|a| a.psrldq(xmm5, 3).unwrap());
    run("palignr", &mut cpu, &|a| a.palignr(xmm5, xmm6, 3).unwrap());
    run("movaps r,r", &mut cpu, &|a| a.movaps(xmm5, xmm6).unwrap());
    run("movups r,[m]", &mut cpu, &|a| a.movups(xmm5, xmmword_ptr(r15 + m)).unwrap());
    run("movups [m],r", &mut cpu, &|a| a.movups(xmmword_ptr(r15 + m), xmm1).unwrap());
    run("movsd r,[m]", &mut cpu, &|a| a.movsd_2(xmm5, qword_ptr(r15 + m)).unwrap());
    run("movsd [m],r", &mut cpu, &|a| a.movsd_2(qword_ptr(r15 + m), xmm1).unwrap());
    run("movq r,x", &mut cpu, &|a| a.movq(rax, xmm1).unwrap());
    run("mulsd", &mut cpu, &|a| { a.mulsd(xmm1, xmm1).unwrap(); a.movaps(xmm1, xmm2).unwrap() });
    run("addsd", &mut cpu, &|a| a.addsd(xmm1, xmm2).unwrap());
    run("addsd m", &mut cpu, &|a| a.addsd(xmm1, qword_ptr(r15 + m)).unwrap());
    run("divsd", &mut cpu, &|a| a.divsd(xmm2, xmm1).unwrap());
    run("sqrtsd", &mut cpu, &|a| a.sqrtsd(xmm2, xmm1).unwrap());
    run("addpd", &mut cpu, &|a| a.addpd(xmm1, xmm2).unwrap());
    run("addps", &mut cpu, &|a| a.addps(xmm1, xmm2).unwrap());
    run("ucomisd", &mut cpu, &|a| a.ucomisd(xmm1, xmm2).unwrap());
    run("cvtsi2sd", &mut cpu, &|a| a.cvtsi2sd(xmm1, rcx).unwrap());
    run("cvttsd2si", &mut cpu, &|a| a.cvttsd2si(rcx, xmm1).unwrap());
    run("cvtsd2ss", &mut cpu, &|a| a.cvtsd2ss(xmm3, xmm1).unwrap());
    run("fld fmul fstp m64", &mut cpu, &|a| { a.fld(qword_ptr(r15 + m)).unwrap(); a.fmul(qword_ptr(r15 + m)).unwrap(); a.fstp(qword_ptr(r15 + m)).unwrap(); });
    cpu.st.x87.empty = 0xff; cpu.st.x87.sw = 0;
    run("fld fld faddp fstp", &mut cpu, &|a| { a.fld(qword_ptr(r15 + m)).unwrap(); a.fld(qword_ptr(r15 + m)).unwrap(); a.faddp(st1, st0).unwrap(); a.fstp(qword_ptr(r15 + m)).unwrap(); });
    run("fld fstp st0", &mut cpu, &|a| { a.fld(qword_ptr(r15 + m)).unwrap(); a.fstp(st0).unwrap(); });
}
