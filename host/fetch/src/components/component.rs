//! What the host accepts as a component.

use std::fs::File;
use std::io::Read as _;
use std::path::Path;

use anyhow::Context as _;

/// Bytes of a component that is fetched or deployed. Interpreters of scripting languages have 10 to 40 MB.
pub const MAX_COMPONENT: u64 = 128 << 20;

/// Reads a component from a file.
///
/// # Errors
/// If it cannot be read, is larger than [`MAX_COMPONENT`], or is not a component.
pub fn read_component(path: &Path) -> anyhow::Result<Vec<u8>> {
    let mut wasm = Vec::new();
    File::open(path)
        .and_then(|file| file.take(MAX_COMPONENT + 1).read_to_end(&mut wasm))
        .with_context(|| {
            format!(
                "cannot read {}; build it, or correct its path",
                path.display()
            )
        })?;
    anyhow::ensure!(
        wasm.len() as u64 <= MAX_COMPONENT,
        "{} is larger than the {} MiB that a component may have",
        path.display(),
        MAX_COMPONENT >> 20
    );
    check_component(&wasm).with_context(|| path.display().to_string())?;
    Ok(wasm)
}

/// Checks the preamble of a component, its first eight bytes.
///
/// # Errors
/// If the bytes are a core module, or not WebAssembly.
pub(crate) fn check_component(wasm: &[u8]) -> anyhow::Result<()> {
    // The preambles of components and of core modules differ from the fifth byte on: layer 1 instead of 0.
    anyhow::ensure!(
        wasm.get(..8) != Some(b"\0asm\x01\0\0\0"),
        "it is a core WebAssembly module, not a component; build it for the target wasm32-wasip2, or wrap it with `wasm-tools component new`"
    );
    anyhow::ensure!(wasm.get(..4) == Some(b"\0asm"), "it is not WebAssembly");
    Ok(())
}
