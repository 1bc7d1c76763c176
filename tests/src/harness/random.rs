//! Reproducible random values with a liking for edges.

/// SplitMix64.
#[derive(Clone, Debug)]
pub struct Rng(pub u64);

const INTEGERS: [u64; 24] = [
    0,
    1,
    2,
    3,
    7,
    8,
    0x1f,
    0x3f,
    0x40,
    0x7f,
    0x80,
    0xff,
    0x100,
    0x7fff,
    0x8000,
    0xffff,
    0x1_0000,
    0x7fff_ffff,
    0x8000_0000,
    0xffff_ffff,
    0x1_0000_0000,
    0x7fff_ffff_ffff_ffff,
    0x8000_0000_0000_0000,
    0xffff_ffff_ffff_ffff,
];

const DOUBLES: [u64; 26] = [
    0x0000_0000_0000_0000,
    0x8000_0000_0000_0000,
    0x0000_0000_0000_0001,
    0x800f_ffff_ffff_ffff,
    0x0010_0000_0000_0000,
    0x8010_0000_0000_0000,
    0x3ff0_0000_0000_0000,
    0xbff0_0000_0000_0000,
    0x3fe0_0000_0000_0000,
    0x4008_0000_0000_0000,
    0x3ff8_0000_0000_0001,
    0x7fef_ffff_ffff_ffff,
    0xffef_ffff_ffff_ffff,
    0x7ff0_0000_0000_0000,
    0xfff0_0000_0000_0000,
    0x7ff8_0000_0000_0000,
    0xfff8_0000_0000_0000,
    0x7ff0_0000_0000_0001,
    0xfff4_0000_0000_1234,
    0x41df_ffff_ffc0_0000,
    0xc1e0_0000_0000_0000,
    0x43e0_0000_0000_0000,
    0xc3e0_0000_0000_0000,
    0x3ca0_0000_0000_0000,
    0x1ff0_0000_0000_0001,
    0x380f_ffff_ffff_ffff,
];

const SINGLES: [u32; 24] = [
    0x0000_0000,
    0x8000_0000,
    0x0000_0001,
    0x807f_ffff,
    0x0080_0000,
    0x8080_0000,
    0x3f80_0000,
    0xbf80_0000,
    0x3f00_0000,
    0x4040_0000,
    0x3fc0_0001,
    0x7f7f_ffff,
    0xff7f_ffff,
    0x7f80_0000,
    0xff80_0000,
    0x7fc0_0000,
    0xffc0_0000,
    0x7f80_0001,
    0xffa0_1234,
    0x4eff_ffff,
    0xcf00_0000,
    0x5f00_0000,
    0x3380_0000,
    0x2000_0001,
];

impl Rng {
    /// The next 64 bits.
    pub fn draw(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ self.0 >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ z >> 31
    }
    /// Less than `n`.
    pub fn below(&mut self, n: u64) -> u64 {
        self.draw() % n
    }
    /// True once in `n` times.
    pub fn one_in(&mut self, n: u64) -> bool {
        self.below(n) == 0
    }
    /// One of them.
    pub fn pick<T: Copy>(&mut self, of: &[T]) -> T {
        of[self.below(of.len() as u64) as usize]
    }
    /// An integer, often near an edge of some width.
    pub fn integer(&mut self) -> u64 {
        match self.below(6) {
            0 | 1 => self.pick(&INTEGERS),
            2 => self.pick(&INTEGERS).wrapping_add(self.below(5)).wrapping_sub(2),
            3 => self.draw() & 0xffff_ffff,
            4 => (self.draw() as i32 >> self.below(32)) as u64,
            _ => self.draw(),
        }
    }
    /// The bits of a double.
    pub fn double(&mut self) -> u64 {
        match self.below(4) {
            0 => self.draw(),
            1 => (self.below(4000) as f64 / 16.0 - 100.0).to_bits(),
            2 => (1023 - 40 + self.below(80)) << 52 | self.draw() & 0x800f_ffff_ffff_ffff,
            _ => self.pick(&DOUBLES),
        }
    }
    /// The bits of a single.
    pub fn single(&mut self) -> u32 {
        match self.below(4) {
            0 => self.draw() as u32,
            1 => (self.below(4000) as f32 / 16.0 - 100.0).to_bits(),
            2 => (127 - 20 + self.below(40) as u32) << 23 | self.draw() as u32 & 0x807f_ffff,
            _ => self.pick(&SINGLES),
        }
    }
    /// A vector of doubles, singles or integers.
    pub fn vector(&mut self) -> u128 {
        let pair = |h: u64, l: u64| u128::from(h) << 64 | u128::from(l);
        match self.below(4) {
            0 => pair(self.double(), self.double()),
            1 => {
                let v: [u64; 4] = std::array::from_fn(|_| self.single().into());
                pair(v[0] << 32 | v[1], v[2] << 32 | v[3])
            }
            2 => pair(self.integer(), self.integer()),
            _ => pair(self.draw(), self.draw()),
        }
    }
    /// An x87 register: mostly numbers, sometimes what is none.
    pub fn extended(&mut self) -> [u8; 10] {
        let sign = (self.below(2) as u16) << 15;
        let (exponent, mantissa) = match self.below(12) {
            0 => (0, 0),
            1 => (0x7fff, 1 << 63),
            2 => (0x7fff, 0xc000_0000_0000_0000 | self.draw() >> 2),
            3 => (0x7fff, 0x8000_0000_0000_0001 | self.draw() >> 3),
            4 => (0, self.draw() >> 1),
            5 => (self.pick(&[1u16, 0x7ffe, 0x3c01, 0x3f81]), 1 << 63 | self.draw()),
            // Unnormals and pseudo-numbers.
            6 if self.one_in(4) => (self.below(0x8000) as u16, self.draw() >> 1),
            7 => (16383 + self.below(64) as u16, 1 << 63 | self.draw() << self.below(64)),
            8 => (16383 - 3, 1 << 63 | self.draw() << 40),
            _ => (16383 - 70 + self.below(140) as u16, 1 << 63 | self.draw()),
        };
        let mut v = [0; 10];
        v[..8].copy_from_slice(&mantissa.to_le_bytes());
        v[8..].copy_from_slice(&(exponent | sign).to_le_bytes());
        v
    }
}
