//! Compilation, in a process of its own: how much time and memory it takes is up to the component.

use std::io::{Read as _, Write as _};
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use rustix::process::{Resource, Signal, getrlimit, setrlimit};
use tokio_util::sync::CancellationToken;

use super::config::config;
use super::functions::Functions;

/// What the program is called with to be the compiler: this, and the file of functions. See [`compile_component`].
pub const COMPILE_COMPONENT: &str = "compile-component";

/// What one component may cost to compile. A handler in JavaScript takes 16 seconds of processor time and 0.8 GB.
const MAX_MEMORY: u64 = 4 << 30;
const MAX_CPU: Duration = Duration::from_secs(300);

/// Bytes of compiled code, which the host holds. A handler in JavaScript has 44 million.
const MAX_CODE: u64 = 512 << 20;

/// Threads of the compiler: with more of them, it takes more memory.
const MAX_THREADS: usize = 8;

/// How often the host looks whether the compiler has ended, or nobody waits for it any longer.
const LOOK: Duration = Duration::from_millis(10);

/// Compiles a component in another process, with a file of functions that were compiled before.
///
/// # Errors
/// When it is not valid, costs too much, or is `abandoned`.
pub(super) fn compile(
    wasm: &[u8],
    functions: &Path,
    abandoned: &CancellationToken,
) -> anyhow::Result<Vec<u8>> {
    let threads =
        std::thread::available_parallelism().map_or(1, |cores| cores.get().min(MAX_THREADS));
    let mut compiler = Command::new(program()?)
        .arg(COMPILE_COMPONENT)
        .arg(functions)
        // The host's has tokens, and values of variables.
        .env_clear()
        .env("RAYON_NUM_THREADS", threads.to_string())
        .env("RUST_BACKTRACE", "0")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .context("the compiler cannot be started")?;
    let pipes = (
        compiler.stdin.take(),
        compiler.stdout.take(),
        compiler.stderr.take(),
    );
    let (Some(mut input), Some(output), Some(mut errors)) = pipes else {
        anyhow::bail!("the compiler has no pipes");
    };
    let (status, code, message) = std::thread::scope(|scope| {
        // One that ends before it has read everything says why by itself.
        scope.spawn(move || input.write_all(wasm));
        let code = scope.spawn(move || {
            let mut code = Vec::new();
            let read = output.take(MAX_CODE + 1).read_to_end(&mut code);
            read.map(|_| code)
        });
        let message = scope.spawn(move || {
            let mut message = Vec::new();
            errors.read_to_end(&mut message).map(|_| message)
        });
        let status = loop {
            if abandoned.is_cancelled() {
                compiler.kill()?;
            }
            match compiler.try_wait()? {
                Some(status) => break status,
                None => std::thread::sleep(LOOK),
            }
        };
        let joined = (code.join(), message.join());
        let (Ok(code), Ok(message)) = joined else {
            anyhow::bail!("the compiler cannot be read from");
        };
        anyhow::Ok((status, code?, message?))
    })?;
    anyhow::ensure!(
        code.len() as u64 <= MAX_CODE,
        "it has more than {} MiB of compiled code; split the component",
        MAX_CODE >> 20
    );
    let message = String::from_utf8_lossy(&message);
    let message = message.trim();
    match status.code() {
        Some(0) => {
            if !message.is_empty() {
                tracing::warn!(message, "compiled functions are not kept");
            }
            Ok(code)
        }
        Some(1) => anyhow::bail!("{message}"),
        Some(_) => {
            tracing::error!(message, "the compiler failed");
            anyhow::bail!("the compiler failed; the reason is in the host's log");
        }
        None if abandoned.is_cancelled() => anyhow::bail!("nobody waits for it any longer"),
        None => {
            tracing::warn!(%status, message, "the compiler was ended");
            let by_the_system = [Signal::KILL, Signal::TERM].map(|signal| Some(signal.as_raw()));
            anyhow::ensure!(
                !by_the_system.contains(&status.signal()),
                "the system ended the compiler, most likely because memory is short; try again"
            );
            anyhow::bail!(
                "that takes more than the {} GiB of memory or the {} of processor time that it may take; let the component's own compiler optimize it, or split the component",
                MAX_MEMORY >> 30,
                humantime::format_duration(MAX_CPU),
            );
        }
    }
}

/// This program, also where its file has been replaced since.
fn program() -> anyhow::Result<PathBuf> {
    let running = Path::new("/proc/self/exe");
    match running.exists() {
        true => Ok(running.to_owned()),
        false => std::env::current_exe().context("the host does not know its own file"),
    }
}

/// Compiles the component on standard input to standard output, within bounds: what the program does when it is called with
/// [`COMPILE_COMPONENT`].
#[must_use]
pub fn compile_component(functions: &Path) -> ExitCode {
    let compiled = bound_process().and_then(|()| {
        let mut wasm = Vec::new();
        std::io::stdin().read_to_end(&mut wasm)?;
        let known = Arc::new(Functions::read(functions));
        let mut config = config(None);
        config
            .enable_incremental_compilation(Arc::clone(&known) as _)
            .map_err(anyhow::Error::from)?;
        let engine = wasmtime::Engine::new(&config).map_err(anyhow::Error::from)?;
        let code = engine.precompile_component(&wasm);
        std::io::stdout().write_all(&code.map_err(anyhow::Error::from)?)?;
        // What cannot be kept is compiled again some day.
        Ok(known.write(functions))
    });
    let (result, code) = match compiled {
        Ok(kept) => (kept, ExitCode::SUCCESS),
        Err(error) => (Err(error), ExitCode::FAILURE),
    };
    if let Err(error) = result {
        let _ = writeln!(std::io::stderr(), "{error:#}");
    }
    code
}

/// Bounds what this process may take, and has it end with the host.
fn bound_process() -> anyhow::Result<()> {
    let bound = |resource, most: u64| {
        // No process may raise what it is bound to already. Beyond the first limit of processor time is a signal of its own, beyond
        // the second SIGKILL.
        let mut limit = getrlimit(resource);
        limit.current = Some(limit.current.unwrap_or(most).min(most));
        setrlimit(resource, limit)
    };
    bound(Resource::Cpu, MAX_CPU.as_secs())?;
    bound(Resource::Core, 0)?;
    #[cfg(target_os = "linux")]
    {
        bound(Resource::As, MAX_MEMORY)?;
        rustix::process::set_parent_process_death_signal(Some(Signal::KILL))?;
        // Where memory is short, the system ends this process and not the host. Not all systems let it be said.
        let _ = std::fs::write("/proc/self/oom_score_adj", "1000");
    }
    Ok(())
}
