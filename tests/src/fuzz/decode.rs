//! Bytes, mode and processor model: the decoder does not panic, and takes the same bytes as iced-x86 does.

use std::sync::LazyLock;

use iced_x86::{Decoder, DecoderOptions};
use x86::decode::MAX_LEN;
use x86::model::{CpuModel, Era};
use x86::state::Mode;

use super::take;
use crate::harness::generate;
use crate::harness::guest::Bits;
use crate::harness::random::Rng;

static MODELS: LazyLock<Vec<CpuModel>> = LazyLock::new(|| {
    let names = CpuModel::models().map(|(name, _)| name).chain(["8086", "286", "386"]);
    names.filter_map(|name| CpuModel::new(name).ok()).collect()
});

const MODES: [u32; 5] = [
    Mode::KERNEL,
    Mode::PROTECTED | Mode::USER,
    Mode::PROTECTED | Mode::USER | Mode::CODE32 | Mode::STACK32,
    Mode::PROTECTED | Mode::KERNEL | Mode::LONG | Mode::CODE64 | Mode::STACK32,
    Mode::PROTECTED | Mode::VM86 | Mode::USER,
];

/// See the module. The first two bytes choose mode and model.
pub fn decode(mut data: &[u8]) {
    let [mode, model, bits] = take(&mut data);
    let mut m = MODES[usize::from(mode) % MODES.len()];
    if bits & 1 != 0 {
        m |= Mode::AVX;
    }
    if bits & 2 != 0 {
        m |= Mode::CS_FLAT | Mode::DS_FLAT | Mode::ES_FLAT | Mode::SS_FLAT;
    }
    let mode = Mode(m);
    let ip = if mode.has(Mode::CODE64) { 0xffff_ffff_8000_0ff0 } else { 0xfff0 };
    let model = &MODELS[usize::from(model) % MODELS.len()];
    let whole = model.isa().block(data, ip, mode);
    let one = model.isa().single(data, ip, mode);
    if let Some(block) = &whole {
        assert!(block.len as usize <= data.len(), "a block of {} bytes out of {}", block.len, data.len());
        let lengths: u32 = block.counted().iter().map(|i| u32::from(i.len)).sum();
        assert_eq!(lengths, block.len, "the instructions make up the block");
        assert_eq!(block.counted().len() as u32, block.count);
    }
    // Older processors than iced-x86 knows take some bytes for other instructions.
    if matches!(model.era(), Era::I8086 | Era::I186 | Era::V30 | Era::I286) {
        return;
    }
    let mut decoder = Decoder::with_ip(mode.bitness(), data, ip, DecoderOptions::FORCE_RESERVED_NOP);
    let x = decoder.decode();
    match &one {
        None => assert!(data.len() < MAX_LEN, "{data:x?} is neither an instruction nor an exception"),
        Some(block) => {
            let i = &block.counted()[0];
            if !x.is_invalid() {
                assert_eq!(usize::from(i.len), x.len(), "the length of {x} ({:x?})", &data[..x.len()]);
            }
            if let Some(first) = whole.as_ref().and_then(|w| w.counted().first()) {
                assert_eq!(first.len, i.len, "alone and in a block");
            }
        }
    }
    if data.len() >= MAX_LEN {
        assert!(one.is_some());
    }
}

/// One instruction of every tenth form.
pub(super) fn seeds() -> Vec<Vec<u8>> {
    let codes = generate::codes(generate::ALL, Bits::Long);
    let mut rng = Rng(1);
    let case = |code: &iced_x86::Code| generate::case(&mut rng, *code, Bits::Long);
    codes.iter().step_by(10).filter_map(case).map(|c| [&[3, 0, 3], &c.code[..]].concat()).collect()
}
