//! The file `bootorder`, by which firmware learns what to boot from first: paths of the IEEE 1275 kind, as QEMU writes them.

use super::PcDevices;

/// Where a drive is that may be booted from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BootPlace {
    /// At an IDE channel: place 0 to 3.
    Ide(usize),
    /// At a port of the board's own AHCI controller.
    Sata(usize),
    /// At an AHCI controller on a card.
    Ahci {
        /// Which of [`Peripherals::cards`](super::Peripherals::cards).
        card: usize,
        /// Its port there.
        port: usize,
    },
    /// A virtio block device: which of the cards.
    Virtio(usize),
    /// The namespace of an NVMe controller: which of the cards.
    Nvme(usize),
}

/// The node of a PCI function: its name, then where it is.
fn node(name: &str, devfn: u8) -> String {
    match devfn & 7 {
        0 => format!("/pci@i0cf8/{name}@{:x}", devfn >> 3),
        function => format!("/pci@i0cf8/{name}@{:x},{function:x}", devfn >> 3),
    }
}

/// The IDE function of a `pc`, and the AHCI function of a `q35`.
const IDE: u8 = 1 << 3 | 1;
const SATA: u8 = 0x1f << 3 | 2;
/// Names of functions whose class has none.
const AHCI_NAME: &str = "pci8086,2922";
const NVME_NAME: &str = "pci1b36,10";

impl PcDevices {
    /// `None`: there was no room for the card.
    fn boot_path(&self, place: BootPlace) -> Option<String> {
        Some(match place {
            BootPlace::Ide(n) => format!("{}/drive@{:x}/disk@{:x}", node("ide", IDE), n / 2, n % 2),
            BootPlace::Sata(port) => format!("{}/drive@{port:x}/disk@0", node(AHCI_NAME, SATA)),
            BootPlace::Ahci { card, port } => {
                format!("{}/drive@{port:x}/disk@0", node(AHCI_NAME, self.card_at(card)?))
            }
            BootPlace::Virtio(card) => format!("{}/disk@0,0", node("scsi", self.card_at(card)?)),
            BootPlace::Nvme(card) => format!("{}/namespace@1,0", node(NVME_NAME, self.card_at(card)?)),
        })
    }

    /// Tells firmware of `places`, if there are any.
    pub(super) fn offer_boot_paths(&mut self, places: &[BootPlace]) {
        let lines: Vec<_> = places.iter().filter_map(|place| self.boot_path(*place)).collect();
        if !lines.is_empty() {
            self.fw_cfg.add_file("bootorder", (lines.join("\n") + "\0").into_bytes());
        }
    }
}
