//! Small images of each kind: for tests, and as inputs that fuzzing begins with.

/// A file system FAT12 with these names in its folder `EFI/BOOT`.
pub fn fat(names: &[&str]) -> Vec<u8> {
    let mut image = vec![0; 64 * 512];
    image[..3].copy_from_slice(&[0xeb, 0x3c, 0x90]);
    let fields: [(usize, &[u8]); 8] = [
        (11, &512u16.to_le_bytes()),
        (13, &[1]),
        (14, &1u16.to_le_bytes()),
        (16, &[1]),
        (17, &16u16.to_le_bytes()),
        (19, &64u16.to_le_bytes()),
        (21, &[0xf8]),
        (22, &1u16.to_le_bytes()),
    ];
    put(&mut image, &fields);
    image[510..512].copy_from_slice(&[0x55, 0xaa]);
    // Clusters 2 and 3 are folders of one sector each.
    put(&mut image, &[(512, &[0xf8, 0xff, 0xff, 0xff, 0xff, 0xff])]);
    entry(&mut image[2 * 512..], 0, "EFI", true, 2);
    entry(&mut image[3 * 512..], 0, "BOOT", true, 3);
    for (n, name) in names.iter().enumerate() {
        entry(&mut image[4 * 512..], n, name, false, 0);
    }
    image
}

fn put(image: &mut [u8], parts: &[(usize, &[u8])]) {
    for (at, bytes) in parts {
        image[*at..at + bytes.len()].copy_from_slice(bytes);
    }
}

fn entry(folder: &mut [u8], n: usize, name: &str, is_folder: bool, cluster: u16) {
    let raw = &mut folder[32 * n..32 * n + 32];
    let (base, extension) = name.split_once('.').unwrap_or((name, ""));
    raw[..11].fill(b' ');
    raw[..base.len()].copy_from_slice(base.as_bytes());
    raw[8..8 + extension.len()].copy_from_slice(extension.as_bytes());
    raw[11] = if is_folder { 0x10 } else { 0x20 };
    raw[26..28].copy_from_slice(&cluster.to_le_bytes());
}

/// A disk of 1 MiB with a master boot record: code in it or not, and partitions of these types.
pub fn mbr(code: bool, types: &[u8]) -> Vec<u8> {
    let mut image = vec![0; 1 << 20];
    if code {
        image[..4].copy_from_slice(&[0xfa, 0x33, 0xc0, 0x8e]);
    }
    for (n, kind) in types.iter().enumerate() {
        let at = 446 + 16 * n;
        let (start, sectors) = (64 + 64 * n as u32, 64u32);
        image[at] = if n == 0 { 0x80 } else { 0 };
        image[at + 4] = *kind;
        put(&mut image, &[(at + 8, &start.to_le_bytes()), (at + 12, &sectors.to_le_bytes())]);
    }
    image[510..512].copy_from_slice(&[0x55, 0xaa]);
    image
}

/// A disk with a GPT whose only partition is an EFI system partition with these boot programs.
pub fn gpt(names: &[&str]) -> Vec<u8> {
    let mut image = mbr(false, &[0xee]);
    let fat = fat(names);
    let last = (image.len() / 512 - 1) as u64;
    // C12A7328-F81F-11D2-BA4B-00A0C93EC93B
    let kind = [0x28, 0x73, 0x2a, 0xc1, 0x1f, 0xf8, 0xd2, 0x11, 0xba, 0x4b, 0, 0xa0, 0xc9, 0x3e, 0xc9, 0x3b];
    let name: Vec<u8> = "boot".encode_utf16().flat_map(u16::to_le_bytes).collect();
    let mut table = vec![0; 128 * 128];
    put(
        &mut table,
        &[(0, &kind), (16, &[7; 16]), (32, &64u64.to_le_bytes()), (40, &127u64.to_le_bytes()), (56, &name)],
    );
    let header = |here: u64, other: u64, entries: u64| {
        let mut header = vec![0; 512];
        let fields: [(usize, &[u8]); 10] = [
            (0, b"EFI PART\0\0\x01\0"),
            (12, &92u32.to_le_bytes()),
            (24, &here.to_le_bytes()),
            (32, &other.to_le_bytes()),
            (40, &34u64.to_le_bytes()),
            (48, &(last - 34).to_le_bytes()),
            (72, &entries.to_le_bytes()),
            (80, &128u32.to_le_bytes()),
            (84, &128u32.to_le_bytes()),
            (88, &crc32fast::hash(&table).to_le_bytes()),
        ];
        put(&mut header, &fields);
        let sum = crc32fast::hash(&header[..92]);
        put(&mut header, &[(16, &sum.to_le_bytes())]);
        header
    };
    let (first, second) = (header(1, last, 2), header(last, 1, last - 32));
    let places: [(usize, &[u8]); 5] = [
        (512, &first),
        (1024, &table),
        (64 * 512, &fat),
        ((last - 32) as usize * 512, &table),
        (last as usize * 512, &second),
    ];
    put(&mut image, &places);
    image
}

/// A CD with boot catalogue entries for these platforms (none: no boot record) and these names in `EFI/BOOT`.
pub fn cd(platforms: &[u8], names: &[&str]) -> Vec<u8> {
    const SECTOR: usize = 2048;
    let mut image = vec![0; 48 * SECTOR];
    let blocks = (image.len() / SECTOR) as u32;
    let record = |name: &[u8], folder: bool, at: u32| {
        let mut record = vec![0; 33 + name.len() + (name.len() + 1) % 2];
        record[0] = record.len() as u8;
        put(&mut record, &[(2, &at.to_le_bytes()), (10, &(SECTOR as u32).to_le_bytes()), (33, name)]);
        (record[25], record[32]) = (if folder { 2 } else { 0 }, name.len() as u8);
        record
    };
    let folder =
        |parts: &[Vec<u8>]| [&[record(&[0], true, 20), record(&[1], true, 20)], parts].concat().concat();
    let files: Vec<Vec<u8>> =
        names.iter().map(|name| record(format!("{name};1").as_bytes(), false, 24)).collect();
    let root = folder(&[record(b"EFI", true, 21)]);
    let efi = folder(&[record(b"BOOT", true, 22)]);
    let boot = folder(&files);
    let at = |sector: usize| sector * SECTOR;
    put(&mut image, &[(at(16), b"\x01CD001\x01"), (at(16) + 40, b"SAMPLE                          ")]);
    let places: [(usize, &[u8]); 6] = [
        (at(16) + 80, &blocks.to_le_bytes()),
        (at(16) + 156, &record(&[0], true, 20)),
        (at(18), b"\xffCD001\x01"),
        (at(20), &root),
        (at(21), &efi),
        (at(22), &boot),
    ];
    put(&mut image, &places);
    if platforms.is_empty() {
        put(&mut image, &[(at(17), b"\xffCD001\x01")]);
        return image;
    }
    put(
        &mut image,
        &[(at(17), b"\x00CD001\x01EL TORITO SPECIFICATION"), (at(17) + 71, &19u32.to_le_bytes())],
    );
    let mut catalogue = vec![0; 32];
    (catalogue[0], catalogue[1], catalogue[30], catalogue[31]) = (1, platforms[0], 0x55, 0xaa);
    for (n, platform) in platforms.iter().enumerate() {
        if n != 0 {
            let mut header = vec![0; 32];
            header[..4].copy_from_slice(&[
                if n + 1 == platforms.len() { 0x91 } else { 0x90 },
                *platform,
                1,
                0,
            ]);
            catalogue.extend(header);
        }
        let mut row = vec![0; 32];
        put(&mut row, &[(0, &[0x88]), (6, &[4, 0]), (8, &30u32.to_le_bytes())]);
        catalogue.extend(row);
    }
    put(&mut image, &[(at(19), &catalogue)]);
    image
}

/// A UEFI firmware volume of `len` bytes with nothing in it: one of variables, or one of code.
pub fn firmware_volume(variables: bool, len: usize) -> Vec<u8> {
    let mut image = vec![0xff; len];
    let file_system: [u8; 16] = if variables {
        [0x8d, 0x2b, 0xf1, 0xff, 0x96, 0x76, 0x8b, 0x4c, 0xa9, 0x85, 0x27, 0x47, 0x07, 0x5b, 0x4f, 0x50]
    } else {
        [0x78, 0xe5, 0x8c, 0x8c, 0x3d, 0x8a, 0x1c, 0x4f, 0x99, 0x35, 0x89, 0x61, 0x85, 0xc3, 0x2d, 0xd3]
    };
    let fields: [(usize, &[u8]); 4] =
        [(0, &[0; 16]), (16, &file_system), (32, &(len as u64).to_le_bytes()), (40, b"_FVH")];
    put(&mut image, &fields);
    image
}

/// One of each.
pub fn all() -> Vec<Vec<u8>> {
    vec![
        fat(&["BOOTX64.EFI"]),
        mbr(true, &[0x83, 0x05]),
        mbr(false, &[]),
        gpt(&["BOOTAA64.EFI"]),
        cd(&[0, 0xef], &["BOOTX64.EFI", "BOOTIA32.EFI"]),
        cd(&[0xef], &["BOOTAA64.EFI"]),
        cd(&[], &[]),
        firmware_volume(true, 4096),
    ]
}
