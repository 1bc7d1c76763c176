//! What level 1 derives from level 2, as its owner and the zapper see it.

use crate::shadow::{Shadow, ShadowPage, Steps};
use crate::sync::Ordering;
use crate::tlb::{SETS, SLOT_MASK, SharedTlb, TLB_ENTRIES, TlbEntry, Words};

/// Where a fill of level 1 comes from.
#[derive(Debug)]
pub struct Derived<'a> {
    /// The shadow pages.
    pub shadow: &'a Shadow,
    /// The one with the leaf.
    pub page: &'a ShadowPage,
    /// Where in it.
    pub index: usize,
    /// [`Shadow::upper`] before the words above the leaf were read, in the pages of which the bank is named (see [`ShadowPage::join`]).
    pub upper: u64,
}

impl SharedTlb {
    /// Owner: fills an entry with what `make` makes of a shadow page's word. False: nothing stays in level 1, look again.
    pub fn derive<S: Steps>(
        &self,
        bank: usize,
        slot: usize,
        from: &Derived<'_>,
        make: impl FnOnce(u64) -> Option<Words>,
    ) -> bool {
        let Derived { shadow, page, index, upper } = *from;
        let banks = self.bank_bit(bank);
        if S::JOIN_FIRST {
            page.join(banks);
        }
        let word = page.get(index);
        let Some(words) = Some(word).filter(|word| *word != 0).and_then(make) else { return false };
        self.publish(bank, slot, words);
        let stays = page.still::<S>(index, word) && (!S::LOOK_ABOVE || shadow.upper() == upper);
        if !stays {
            self.bank(bank)[slot].clear();
        }
        if !S::JOIN_FIRST {
            page.join(banks);
        }
        stays
    }

    /// Any thread: removes what is about the `len` bytes from `start` (all, where that is not known) from the banks whose
    /// bit is in `banks`, see [`Self::bank_bit`].
    pub fn zap_derived(&self, banks: u64, start: Option<u64>, len: u64) {
        for (number, bank) in self.banks.iter().enumerate() {
            let Some(entries) = bank.get().filter(|_| banks & self.bank_bit(number) != 0) else { continue };
            match start {
                Some(start) if len >> 12 < TLB_ENTRIES as u64 => {
                    for page in (start..start.wrapping_add(len)).step_by(1 << 12) {
                        let entry = &entries[(page & SLOT_MASK) as usize >> 12];
                        if entry.derives(|at| at == page) {
                            entry.clear();
                        }
                    }
                }
                _ => {
                    let within = |at: u64| start.is_none_or(|start| at.wrapping_sub(start) < len);
                    entries.iter().filter(|entry| entry.derives(within)).for_each(TlbEntry::clear);
                }
            }
        }
    }

    /// The bit of a bank in masks that vCPUs share. Others may have the same.
    #[inline]
    pub fn bank_bit(&self, bank: usize) -> u64 {
        let number = self.number.load(Ordering::Relaxed) as usize;
        1 << ((number * 3 * SETS + bank) & 63)
    }

    /// Before the first fill: the vCPU's number.
    pub fn set_number(&self, number: u32) {
        self.number.store(number, Ordering::Relaxed);
    }

    /// Any thread: execute translations of the banks whose bits are in `banks` were zapped.
    pub fn lose_execute(&self, banks: u64) {
        let mine = (0..3 * SETS).filter(|bank| banks & self.bank_bit(*bank) != 0);
        let mine = mine.fold(0, |all, bank| all | 1 << bank);
        if mine != 0 {
            self.execute_lost.fetch_or(mine, Ordering::SeqCst);
        }
    }
}
