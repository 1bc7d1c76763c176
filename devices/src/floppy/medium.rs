//! Formats of floppy disks, told apart by their size.

use serde::{Deserialize, Serialize};

/// Kinds of drives; the numbers are those of CMOS register 10h.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum DriveType {
    /// 5.25 inch, 1.2 MB (and 360 KB).
    Inch5_1200 = 2,
    /// 3.5 inch, 1.44 MB (and 720 KB).
    Inch3_1440 = 4,
    /// 3.5 inch, 2.88 MB.
    Inch3_2880 = 5,
}

/// A format.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Geometry {
    /// Tracks of a side.
    pub cylinders: u8,
    /// Sides.
    pub heads: u8,
    /// 512-byte sectors of a track.
    pub sectors: u8,
}

const FORMATS: [Geometry; 12] = [
    Geometry { cylinders: 80, heads: 2, sectors: 18 }, // 1.44 MB
    Geometry { cylinders: 80, heads: 2, sectors: 36 }, // 2.88 MB
    Geometry { cylinders: 80, heads: 2, sectors: 9 },  // 720 KB
    Geometry { cylinders: 80, heads: 2, sectors: 15 }, // 1.2 MB
    Geometry { cylinders: 40, heads: 2, sectors: 9 },  // 360 KB
    Geometry { cylinders: 40, heads: 1, sectors: 9 },  // 180 KB
    Geometry { cylinders: 40, heads: 2, sectors: 8 },  // 320 KB
    Geometry { cylinders: 40, heads: 1, sectors: 8 },  // 160 KB
    Geometry { cylinders: 80, heads: 2, sectors: 20 },
    Geometry { cylinders: 80, heads: 2, sectors: 21 }, // 1.68 MB
    Geometry { cylinders: 82, heads: 2, sectors: 21 },
    Geometry { cylinders: 83, heads: 2, sectors: 21 },
];

impl Geometry {
    /// The format of an image of `len` bytes; a short image is the next larger common format. `None`: no floppy is that large.
    pub fn of(len: u64) -> Option<Self> {
        let exact = FORMATS.into_iter().find(|format| format.bytes() == len);
        let larger = [FORMATS[0], FORMATS[1]].into_iter().find(|format| len <= format.bytes());
        exact.or(larger)
    }

    /// Bytes of a disk.
    pub fn bytes(&self) -> u64 {
        512 * u64::from(self.cylinders) * u64::from(self.heads) * u64::from(self.sectors)
    }

    /// Where a sector (counted from 1) is.
    pub(super) fn offset(&self, cylinder: u8, head: u8, sector: u8) -> Option<u64> {
        let fits = cylinder < self.cylinders && head < self.heads && (1..=self.sectors).contains(&sector);
        let track = u64::from(cylinder) * u64::from(self.heads) + u64::from(head);
        fits.then(|| 512 * (track * u64::from(self.sectors) + u64::from(sector) - 1))
    }

    pub(super) fn drive_type(&self) -> DriveType {
        match (self.cylinders, self.sectors) {
            (_, 22..) => DriveType::Inch3_2880,
            (80, 15) | (40, _) => DriveType::Inch5_1200,
            _ => DriveType::Inch3_1440,
        }
    }
}
