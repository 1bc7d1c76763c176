//! Names in a FAT file system: just enough to find out for which processors its EFI folder has boot programs.
//!
//! Read here rather than by a library: a few sectors are all that is wanted, of file systems that anyone may have made.

use super::source::{Source, field};

/// Clusters of a folder that are followed.
const MAX_CLUSTERS: usize = 64;
/// Entries of a FAT12 or FAT16 root folder that are looked at.
const MAX_ROOT: u64 = 4096;

/// A FAT file system at `base` of an image.
pub struct Fat {
    base: u64,
    cluster_bytes: u64,
    fat: u64,
    data: u64,
    clusters: u64,
    root: Folder,
}

/// Where a folder's entries are.
#[derive(Clone, Copy)]
pub enum Folder {
    /// The root folder of FAT12 and FAT16.
    Fixed(u64, u64),
    /// A chain of clusters.
    Chain(u64),
}

/// A name in a folder.
pub struct Entry {
    /// As it is stored: 8 and 3 characters with a dot, capitals.
    pub name: String,
    /// The folder that it is, if it is one.
    pub folder: Option<Folder>,
}

impl Fat {
    /// The file system whose boot sector is at `base`, if there is one.
    pub fn open(source: &mut Source<'_>, base: u64) -> Option<Self> {
        let boot = source.read(base, 512)?;
        let sector = field::<2>(&boot, 11);
        let per_cluster = field::<1>(&boot, 13);
        let (reserved, fats, root_entries) =
            (field::<2>(&boot, 14), field::<1>(&boot, 16), field::<2>(&boot, 17));
        let total = match field::<2>(&boot, 19) {
            0 => field::<4>(&boot, 32),
            small => small,
        };
        let fat_sectors = match field::<2>(&boot, 22) {
            0 => field::<4>(&boot, 36),
            small => small,
        };
        let sound = matches!(sector, 512 | 1024 | 2048 | 4096)
            && per_cluster.is_power_of_two()
            && reserved != 0
            && matches!(fats, 1 | 2)
            && fat_sectors != 0
            && boot[21] >= 0xf0;
        if !sound {
            return None;
        }
        let root_sectors = (root_entries * 32).div_ceil(sector);
        let data = reserved + fats * fat_sectors + root_sectors;
        let clusters = total.checked_sub(data)? / per_cluster;
        let root = match root_entries {
            0 => Folder::Chain(field::<4>(&boot, 44)),
            n => Folder::Fixed((reserved + fats * fat_sectors) * sector, n.min(MAX_ROOT) * 32),
        };
        Some(Self {
            base,
            cluster_bytes: per_cluster * sector,
            fat: reserved * sector,
            data: data * sector,
            clusters,
            root,
        })
    }

    /// The names in the folder at `path`.
    pub fn list(&self, source: &mut Source<'_>, path: &[&str]) -> Option<Vec<Entry>> {
        let mut folder = self.root;
        for part in path {
            let entries = self.entries(source, folder);
            folder = entries.into_iter().find(|entry| entry.name == *part)?.folder?;
        }
        Some(self.entries(source, folder))
    }

    fn entries(&self, source: &mut Source<'_>, folder: Folder) -> Vec<Entry> {
        let mut bytes = Vec::new();
        match folder {
            Folder::Fixed(at, len) => bytes = source.read_up_to(self.base + at, len as usize),
            Folder::Chain(first) => {
                let mut cluster = first;
                for _ in 0..MAX_CLUSTERS {
                    if !(2..self.clusters + 2).contains(&cluster) {
                        break;
                    }
                    let at = self.base + self.data + (cluster - 2) * self.cluster_bytes;
                    bytes.extend(source.read_up_to(at, self.cluster_bytes as usize));
                    cluster = self.next(source, cluster);
                }
            }
        }
        bytes.chunks_exact(32).take_while(|entry| entry[0] != 0).filter_map(entry).collect()
    }

    /// The cluster that follows; a number that is none at the chain's end.
    fn next(&self, source: &mut Source<'_>, cluster: u64) -> u64 {
        let at = self.base + self.fat;
        let mut read = |offset: u64, len| source.read(at + offset, len).unwrap_or_default();
        match self.clusters {
            // The number of clusters alone decides the width (FAT specification, "FAT type determination").
            0..4085 => {
                let pair = field::<2>(&read(cluster * 3 / 2, 2), 0);
                if cluster.is_multiple_of(2) { pair & 0xfff } else { pair >> 4 }
            }
            4085..65525 => field::<2>(&read(cluster * 2, 2), 0),
            _ => field::<4>(&read(cluster * 4, 4), 0) & 0x0fff_ffff,
        }
    }
}

fn entry(raw: &[u8]) -> Option<Entry> {
    let attributes = raw[11];
    // Deleted, a part of a long name, or the volume's label.
    if raw[0] == 0xe5 || attributes & 0x08 != 0 {
        return None;
    }
    let text = |part: &[u8]| String::from_utf8_lossy(part).trim_end().to_uppercase();
    let (base, extension) = (text(&raw[..8]), text(&raw[8..11]));
    let name = if extension.is_empty() { base } else { format!("{base}.{extension}") };
    let first = field::<2>(raw, 20) << 16 | field::<2>(raw, 26);
    Some(Entry { name, folder: (attributes & 0x10 != 0).then_some(Folder::Chain(first)) })
}
