//! What the host accepts as a component.

/// Bytes of a component that is fetched or deployed. Interpreters of scripting languages have 10 to 40 MB.
pub const MAX_COMPONENT: u64 = 128 << 20;

/// Checks the preamble of a component, its first eight bytes.
///
/// # Errors
/// If the bytes are a core module, or not WebAssembly.
pub fn check_component(wasm: &[u8]) -> anyhow::Result<()> {
    // The preambles of components and of core modules differ from the fifth byte on: layer 1 instead of 0.
    anyhow::ensure!(
        wasm.get(..8) != Some(b"\0asm\x01\0\0\0"),
        "it is a core WebAssembly module, not a component; build it for the target wasm32-wasip2, or wrap it with `wasm-tools component new`"
    );
    anyhow::ensure!(wasm.get(..4) == Some(b"\0asm"), "it is not WebAssembly");
    Ok(())
}
