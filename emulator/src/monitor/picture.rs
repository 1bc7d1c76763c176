//! Pictures of the display as files.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::Path;

use devices::vga::Picture;

/// Writes a PNG.
pub fn write_png(picture: &Picture, path: &Path) -> io::Result<()> {
    let file = BufWriter::new(File::create(path)?);
    let mut encoder = png::Encoder::new(file, picture.width, picture.height);
    encoder.set_color(png::ColorType::Rgb);
    encoder.set_depth(png::BitDepth::Eight);
    let mut writer = encoder.write_header().map_err(io::Error::other)?;
    writer.write_image_data(&picture.rgb).map_err(io::Error::other)?;
    writer.finish().map_err(io::Error::other)
}

/// Writes a PPM.
pub fn write_ppm(picture: &Picture, path: &Path) -> io::Result<()> {
    let mut file = BufWriter::new(File::create(path)?);
    write!(file, "P6\n{} {}\n255\n", picture.width, picture.height)?;
    file.write_all(&picture.rgb)?;
    file.flush()
}
