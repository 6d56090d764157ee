//! Compilation in a separate process, because the time and memory it takes depend on the component.

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

/// First argument of the program when it runs as the compiler; the second is the file of compiled functions. See
/// [`compile_component`].
pub const COMPILE_COMPONENT: &str = "compile-component";

/// Limits on compiling one component. A handler in JavaScript takes 16 seconds of CPU time and 0.8 GB.
const MAX_MEMORY: u64 = 4 << 30;
const MAX_CPU: Duration = Duration::from_secs(300);

/// Size limit of compiled code, in bytes: the host holds it in memory. A handler in JavaScript has 44 million.
const MAX_CODE: u64 = 512 << 20;

/// Threads of the compiler: more threads take more memory.
const MAX_THREADS: usize = 8;

/// How often the host checks whether the compiler has exited or is cancelled.
const POLL_INTERVAL: Duration = Duration::from_millis(10);

/// Compiles a component in another process, reusing the functions in the file `functions`.
///
/// # Errors
/// When it is invalid, exceeds the limits, or `cancel` is cancelled.
pub(super) fn compile(
    wasm: &[u8],
    functions: &Path,
    cancel: &CancellationToken,
) -> anyhow::Result<Vec<u8>> {
    let threads =
        std::thread::available_parallelism().map_or(1, |cores| cores.get().min(MAX_THREADS));
    let mut compiler = Command::new(program()?)
        .arg(COMPILE_COMPONENT)
        .arg(functions)
        // The host's environment has tokens and values of variables.
        .env_clear()
        .env("RAYON_NUM_THREADS", threads.to_string())
        .env("RUST_BACKTRACE", "0")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .context("cannot start the compiler")?;
    let pipes = (
        compiler.stdin.take(),
        compiler.stdout.take(),
        compiler.stderr.take(),
    );
    let (Some(mut input), Some(output), Some(mut errors)) = pipes else {
        anyhow::bail!("the compiler has no pipes");
    };
    let (status, code, message) = std::thread::scope(|scope| {
        // If the compiler exits before it has read everything, its own message says why.
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
            if cancel.is_cancelled() {
                compiler.kill()?;
            }
            match compiler.try_wait()? {
                Some(status) => break status,
                None => std::thread::sleep(POLL_INTERVAL),
            }
        };
        let joined = (code.join(), message.join());
        let (Ok(code), Ok(message)) = joined else {
            anyhow::bail!("cannot read from the compiler");
        };
        anyhow::Ok((status, code?, message?))
    })?;
    anyhow::ensure!(
        code.len() as u64 <= MAX_CODE,
        "its compiled code is larger than {} MiB; split the component",
        MAX_CODE >> 20
    );
    let message = String::from_utf8_lossy(&message);
    let message = message.trim();
    match status.code() {
        Some(0) => {
            if !message.is_empty() {
                tracing::warn!(message, "cannot cache compiled functions");
            }
            Ok(code)
        }
        Some(1) => anyhow::bail!("{message}"),
        Some(_) => {
            tracing::error!(message, "the compiler failed");
            anyhow::bail!("the compiler failed; the reason is in the host's log");
        }
        None if cancel.is_cancelled() => anyhow::bail!("compilation was cancelled"),
        None => {
            tracing::warn!(%status, message, "the compiler was killed");
            let killed = [Signal::KILL, Signal::TERM].map(|signal| Some(signal.as_raw()));
            anyhow::ensure!(
                !killed.contains(&status.signal()),
                "the system killed the compiler, most likely because memory is short; try again"
            );
            anyhow::bail!(
                "compilation takes more than the {} GiB of memory or the {} of CPU time allowed; let the component's own compiler optimize it, or split the component",
                MAX_MEMORY >> 30,
                humantime::format_duration(MAX_CPU),
            );
        }
    }
}

/// Returns the path of this program, even if its file has been replaced since it started.
fn program() -> anyhow::Result<PathBuf> {
    let running = Path::new("/proc/self/exe");
    match running.exists() {
        true => Ok(running.to_owned()),
        false => std::env::current_exe().context("cannot find the host's own program file"),
    }
}

/// Compiles the component on standard input to standard output, within limits. The program calls this when started with
/// [`COMPILE_COMPONENT`].
#[must_use]
pub fn compile_component(functions: &Path) -> ExitCode {
    let compiled = limit_process().and_then(|()| {
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
        // Functions that cannot be cached are compiled again some day.
        Ok(known.write(functions))
    });
    let (result, code) = match compiled {
        Ok(written) => (written, ExitCode::SUCCESS),
        Err(error) => (Err(error), ExitCode::FAILURE),
    };
    if let Err(error) = result {
        let _ = writeln!(std::io::stderr(), "{error:#}");
    }
    code
}

/// Limits the resources of this process, and ties its life to the host's.
fn limit_process() -> anyhow::Result<()> {
    let set_limit = |resource, max: u64| {
        // A process may not raise its limits. Exceeding the soft limit of CPU time sends SIGXCPU, the hard limit SIGKILL.
        let mut limit = getrlimit(resource);
        limit.current = Some(limit.current.unwrap_or(max).min(max));
        setrlimit(resource, limit)
    };
    set_limit(Resource::Cpu, MAX_CPU.as_secs())?;
    set_limit(Resource::Core, 0)?;
    #[cfg(target_os = "linux")]
    {
        set_limit(Resource::As, MAX_MEMORY)?;
        rustix::process::set_parent_process_death_signal(Some(Signal::KILL))?;
        // If memory is short, the system kills this process rather than the host. Not all systems allow the setting.
        let _ = std::fs::write("/proc/self/oom_score_adj", "1000");
    }
    Ok(())
}
