//! Segments of the program apart by a huge page, so that `host_text` can put each into huge pages as a whole.

use std::env;

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    let target = |name| env::var(name).unwrap_or_default();
    if target("CARGO_CFG_TARGET_OS") == "linux" && target("CARGO_CFG_TARGET_ARCH") == "x86_64" {
        // All of the package's targets: the tests of `host_text` need it as the program does. (GNU's and LLVM's linkers agree on the option.)
        println!("cargo::rustc-link-arg=-Wl,-z,max-page-size=2097152");
    }
}
