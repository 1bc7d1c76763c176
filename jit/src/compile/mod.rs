//! Tiers 1 and 2: a block becomes a host function, by Cranelift.
//!
//! The instructions' meanings come from `x86::lift` and `x86::vec`, called with a [`Lifter`] for an emitter; what those do not
//! express (or refuse) becomes a call of the instruction's tier-0 handler. A block's function has the signature
//! `tail fn(state)`: `state` is the `Vcpu`. Exits to a RIP that is known are direct jumps ([`crate::jump`]).
//!
//! Generated code contains absolute addresses (thunks, instructions, links), but none of its own: it may be moved.

mod emitter;
mod exits;
mod flags;
mod float;
mod float_packed;
mod lanes;
mod memory;
mod order;
mod place;
mod products;
mod regs;
mod sums;
mod value;
mod vector;
mod x87;

use std::sync::Arc;

use cranelift_codegen::control::ControlPlane;
use cranelift_codegen::ir::{
    AbiParam, Block, InstBuilder, MemFlagsData, SigRef, Signature, UserFuncName, Value, types,
};
use cranelift_codegen::isa::{self, CallConv, OwnedTargetIsa, TargetIsa};
use cranelift_codegen::settings::{self, Configurable};
use cranelift_codegen::{CodegenError, Context};
use cranelift_frontend::{FunctionBuilder, FunctionBuilderContext};
use x86::insn::{Insn, Op};

pub use crate::compiled::{Code, Tier};
use crate::jump::Jumps;
use crate::quick::{self, Features, Quick};
use crate::tb::{Links, Tb};
use flags::Flags;
use regs::Reg;
use value::V;

/// How the compiler is set up.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// Optimise (Cranelift's `speed`): slower to compile, a little faster to run.
    pub optimise: bool,
    /// Several vCPUs run at the same time: LOCK needs host atomics, and accesses keep x86's order on every host (see the module
    /// `order`).
    pub parallel: bool,
    /// Check Cranelift's input (tests).
    pub verify: bool,
}

/// Why a block has no host code.
#[derive(Debug)]
pub enum Refused {
    /// Cranelift refused the function: our bug, reported once, harmless.
    Codegen(String),
    /// The code refers to something outside that our cache cannot provide.
    Relocation(String),
}

impl std::fmt::Display for Refused {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Codegen(e) => write!(f, "code generation failed: {e}"),
            Self::Relocation(e) => write!(f, "generated code needs {e}"),
        }
    }
}

/// The host's instruction set, shared by the workers.
pub fn host_isa(options: Options) -> Result<Arc<dyn TargetIsa>, String> {
    finish(cranelift_native::builder().map_err(str::to_owned)?, options)
}

/// An instruction set by its target's name and features, to look at what is compiled for it. Such code runs nowhere: it contains
/// addresses of this process.
pub fn named_isa(target: &str, features: &[&str], options: Options) -> Result<Arc<dyn TargetIsa>, String> {
    let mut builder = isa::lookup_by_name(target).map_err(|e| format!("{target}: {e}"))?;
    for feature in features {
        builder.enable(feature).map_err(|e| format!("{target} {feature}: {e}"))?;
    }
    finish(builder, options)
}

fn finish(builder: isa::Builder, options: Options) -> Result<Arc<dyn TargetIsa>, String> {
    let mut flags = settings::builder();
    let set = |flags: &mut settings::Builder, name: &str, value: &str| {
        flags.set(name, value).map_err(|e| format!("Cranelift setting {name}: {e}"))
    };
    set(&mut flags, "opt_level", if options.optimise { "speed" } else { "none" })?;
    set(&mut flags, "enable_verifier", if options.verify { "true" } else { "false" })?;
    set(&mut flags, "preserve_frame_pointers", "true")?;
    set(&mut flags, "unwind_info", "false")?;
    set(&mut flags, "enable_probestack", "false")?;
    set(&mut flags, "enable_heap_access_spectre_mitigation", "false")?;
    set(&mut flags, "enable_table_access_spectre_mitigation", "false")?;
    set(&mut flags, "machine_code_cfg_info", "false")?;
    let isa: OwnedTargetIsa =
        builder.finish(settings::Flags::new(flags)).map_err(|e: CodegenError| e.to_string())?;
    Ok(isa)
}

/// One thread's compiler.
pub struct Compiler {
    isa: Arc<dyn TargetIsa>,
    options: Options,
    /// Embedded as a number only.
    stub: usize,
    context: Context,
    builder: FunctionBuilderContext,
    /// For tier 1, where it knows the host.
    quick: Option<Quick>,
}

impl std::fmt::Debug for Compiler {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Compiler").field("options", &self.options).finish_non_exhaustive()
    }
}

impl Compiler {
    /// Has tier 1 a quick back end on this host?
    pub const fn is_quick_here() -> bool {
        cfg!(all(target_arch = "x86_64", not(windows)))
    }

    /// A compiler whose unlinked exits lead to `stub`.
    pub fn new(isa: Arc<dyn TargetIsa>, options: Options, stub: *const u8) -> Self {
        let quick = (isa.name() == "x64" && isa.default_call_conv() == CallConv::SystemV).then(|| {
            let has = |name| flag(&*isa, name);
            Quick::new(Features { popcnt: has("has_popcnt"), lzcnt: has("has_lzcnt"), bmi1: has("has_bmi1") })
        });
        Self {
            isa,
            options,
            stub: stub as usize,
            context: Context::new(),
            builder: FunctionBuilderContext::new(),
            quick,
        }
    }

    /// Compiles a block.
    pub fn compile(&mut self, tb: &Tb, tier: Tier) -> Result<Code, Refused> {
        self.context.clear();
        let links = self.build(tb, tier);
        let quick = self.quick.as_mut().filter(|_| tier == Tier::One);
        if let Some(quick::Output { code, jumps }) = quick.and_then(|q| q.compile(&self.context.func)) {
            return self.place(code, &jumps, links, tier);
        }
        self.finish(links, tier)
    }

    /// The Cranelift function of a block, for dumps.
    pub fn dump(&mut self, tb: &Tb, tier: Tier) -> Result<(String, String), Refused> {
        self.context.clear();
        let links = self.build(tb, tier);
        let ir = self.context.func.display().to_string();
        let quick = self.quick.as_mut().filter(|_| tier == Tier::One);
        if let Some(quick::Output { code, .. }) = quick.and_then(|q| q.compile(&self.context.func)) {
            return Ok((ir, x86::show::listing(&code, 0, 64)));
        }
        self.context.set_disasm(true);
        self.context
            .compile(&*self.isa, &mut ControlPlane::default())
            .map_err(|e| Refused::Codegen(format!("{:?}", e.inner)))?;
        let code = self.context.compiled_code().and_then(|c| c.vcode.clone()).unwrap_or_default();
        drop(links);
        Ok((ir, code))
    }

    fn finish(&mut self, links: Links, tier: Tier) -> Result<Code, Refused> {
        let code = self
            .context
            .compile(&*self.isa, &mut ControlPlane::default())
            .map_err(|e| Refused::Codegen(format!("{:?}", e.inner)))?;
        let (bytes, relocations) = (code.code_buffer().to_vec(), code.buffer.relocs().to_vec());
        let jumps = place::jumps(&relocations, self.context.func.params.user_named_funcs())?;
        self.place(bytes, &jumps, links, tier)
    }

    fn place(
        &self,
        code: Vec<u8>,
        jumps: &[(usize, u32)],
        links: Links,
        tier: Tier,
    ) -> Result<Code, Refused> {
        let kind =
            Jumps::of(&*self.isa).ok_or_else(|| Refused::Codegen("no jumps for this host".to_owned()))?;
        let place::Placed { code: bytes, jumps, inner, body } =
            place::resolve(kind, code, jumps, &links, self.stub)?;
        Ok(Code { bytes, body, inner, jumps, links, tier })
    }

    fn build(&mut self, tb: &Tb, tier: Tier) -> Links {
        let func = &mut self.context.func;
        func.name = UserFuncName::user(0, 0);
        func.signature = block_signature();
        let mut b = FunctionBuilder::new(func, &mut self.builder);
        let call = self.isa.default_call_conv();
        let sigs = Sigs {
            block: b.import_signature(block_signature()),
            memory: b.import_signature(signature(CallConv::PreserveAll, 4, false)),
            access: b.import_signature(signature(CallConv::PreserveAll, 3, false)),
            handler: b.import_signature(signature(call, 3, true)),
            redo: b.import_signature(signature(call, 3, false)),
            eval_cond: b.import_signature(signature(call, 2, true)),
            eval_flags: b.import_signature(signature(call, 1, true)),
        };
        let entry = b.create_block();
        b.append_block_params_for_function_params(entry);
        b.switch_to_block(entry);
        let state = b.block_params(entry)[0];
        let header = b.create_block();
        let mut l = Lifter {
            b,
            tb,
            state,
            sigs,
            header,
            parallel: self.options.parallel,
            ordered: self.options.parallel && self.isa.name() != "x64",
            host_lse: flag(&*self.isa, "has_lse"),
            fenced: false,
            light: tier == Tier::One,
            host_flags: self.isa.name() == "x64",
            host_fma: has(&*self.isa, &["has_fma", "has_avx"]),
            host_rounds: has(&*self.isa, &["has_sse41"]),
            count: tb.block.count,
            insn: &tb.block.insns[0],
            regs: [Reg::default(); 16],
            flags: Flags::State,
            flags_dirty: false,
            entry_cf: None,
            xmm: Default::default(),
            zero: None,
            scalar: None,
            sums: Vec::new(),
            entries: Vec::new(),
            compared: None,
            bank: None,
            write_place: None,
            links: Links::default(),
            in_cold: false,
            ended: false,
        };
        if tb.spans[1].is_some() {
            l.check_second_page();
        }
        if tb.floats {
            l.check_fp();
        }
        l.b.ins().jump(header, &[]);
        l.b.switch_to_block(header);
        l.take_budget();
        for insn in &tb.block.insns {
            l.instruction(insn);
        }
        assert!(l.ended, "the last record of a block sets RIP");
        let Lifter { mut b, links, .. } = l;
        b.seal_all_blocks();
        b.finalize(self.isa.frontend_config());
        links
    }
}

/// Has an x86 host these extensions? (Others have what they stand for.) Cranelift would call a library otherwise.
fn has(isa: &dyn TargetIsa, extensions: &[&str]) -> bool {
    isa.name() != "x64" || extensions.iter().all(|name| flag(isa, name))
}

/// Is this flag of the host on?
fn flag(isa: &dyn TargetIsa, name: &str) -> bool {
    isa.isa_flags().iter().any(|f| f.name == name && f.as_bool() == Some(true))
}

fn signature(conv: CallConv, params: usize, result: bool) -> Signature {
    let mut s = Signature::new(conv);
    s.params.extend((0..params).map(|_| AbiParam::new(types::I64)));
    if result {
        s.returns.push(AbiParam::new(types::I64));
    }
    s
}

fn block_signature() -> Signature {
    signature(CallConv::Tail, 1, false)
}

/// Accesses to the state and other structures of ours: aligned, cannot trap.
fn state_flags() -> MemFlagsData {
    MemFlagsData::trusted()
}

#[derive(Clone, Copy)]
struct Sigs {
    block: SigRef,
    memory: SigRef,
    access: SigRef,
    handler: SigRef,
    redo: SigRef,
    eval_cond: SigRef,
    eval_flags: SigRef,
}

/// One block being compiled: the [`x86::Emitter`].
pub struct Lifter<'a> {
    b: FunctionBuilder<'a>,
    tb: &'a Tb,
    state: Value,
    sigs: Sigs,
    /// Where the block jumps to itself.
    header: Block,
    parallel: bool,
    /// Several vCPUs run in parallel on a host whose order is weaker than x86's.
    ordered: bool,
    /// Has it atomic instructions (FEAT_LSE)?
    host_lse: bool,
    /// No store has been emitted since the last full barrier (on the path that goes on).
    fenced: bool,
    /// Tier 1: quick to compile.
    light: bool,
    /// Does the host keep x86's floating-point flags for us?
    host_flags: bool,
    /// Has it a fused multiply-add?
    host_fma: bool,
    /// And rounding to integers?
    host_rounds: bool,
    /// Instructions that the block counts for.
    count: u32,
    /// The current instruction.
    insn: &'a Insn,
    regs: [Reg; 16],
    flags: Flags,
    /// The flags are not in the state.
    flags_dirty: bool,
    /// CF of the flags in the state, where it was evaluated.
    entry_cf: Option<Value>,
    xmm: [vector::Xmm; 16],
    /// The zero vector.
    zero: Option<Value>,
    /// The last vector made of a scalar and zeros, and the scalar.
    scalar: Option<(Value, Value)>,
    /// Sums of a value and a constant.
    sums: Vec<sums::Sum>,
    /// TLB entries' addresses that were computed.
    entries: Vec<memory::Entry>,
    /// Flags made by the last comparison of scalars, and the numbers.
    compared: Option<(Value, Value, Value)>,
    /// The TLB bank's address.
    bank: Option<Value>,
    /// Offset and host address of a [`x86::Emitter::load_for_write`] of this instruction.
    write_place: Option<(V, Value)>,
    links: Links,
    /// Emitting a path that is left or rejoins: nothing of it may be remembered.
    in_cold: bool,
    /// The block's end has been emitted.
    ended: bool,
}

impl<'a> Lifter<'a> {
    fn instruction(&mut self, insn: &'a Insn) {
        self.insn = insn;
        self.write_place = None;
        let lifted = match insn.op {
            Op::Vec(_) => x86::vec::lift(self, insn),
            Op::X87(_) if !self.light => x86::x87::lift::lift(self, insn),
            Op::Str(_) | Op::X87(_) | Op::In | Op::Cold => Err(x86::Stop),
            _ => x86::lift::lift(self, insn),
        };
        if lifted.is_err() {
            self.call_handler(insn.ends);
            self.fenced = false;
        }
    }

    /// The address of the current instruction's record.
    fn insn_address(&mut self) -> Value {
        let at = std::ptr::from_ref(self.insn) as i64;
        self.b.ins().iconst(types::I64, at)
    }

    /// The address of one of our functions.
    fn helper(&mut self, address: usize) -> Value {
        self.b.ins().iconst(types::I64, address as i64)
    }
}
