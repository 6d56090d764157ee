//! The host with its counters exposed: measurements that a client cannot make.
//!
//! `bench STATE-DIR MODEL-DIR PRECISION THREADS`, run from the repository root, serves the default application like
//! `whisper-host up`, and reads commands from standard input. The response is one line of JSON on standard output:
//!
//! | command | response |
//! |---|---|
//! | (at start) | `url`: the server's URL |
//! | `counters` | `encoder`, `decoder`: seconds spent so far; `windows`, and `batches` they were decoded in |
//! | `features FILE` | `seconds` of the component `audio` from bytes to frames; `duration`: seconds of audio |
//! | `decode FILE` | `seconds` of the same code to decode and resample, without the log-mel spectrum |

mod stages;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context as _;
use inference::metrics::{BATCHES, DECODER_DURATION, ENCODER_DURATION, MODEL, WINDOWS};
use serde_json::{Value, json};

use output::print;

mod output;
mod serve;
mod store;

fn main() -> anyhow::Result<ExitCode> {
    let mut called_with = std::env::args().skip(1);
    if called_with.next().as_deref() == Some(runtime::COMPILE_COMPONENT)
        && let Some(functions) = called_with.next()
    {
        return Ok(runtime::compile_component(Path::new(&functions)));
    }
    if std::env::args().nth(1).as_deref() == Some("store")
        && let Some(file) = std::env::args().nth(2)
    {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .enable_all()
            .build()?;
        runtime.block_on(store::run(Path::new(&file), std::io::stdin().lock()))?;
        return Ok(ExitCode::SUCCESS);
    }
    let (state, config) =
        arguments().context("usage: bench STATE-DIR MODEL-DIR PRECISION THREADS")?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()?;
    let served = runtime.block_on(serve::start(&state, config))?;
    let stages = stages::Stages::load(Path::new("target/components"))?;
    print(&json!({ "url": served.url }))?;
    for line in std::io::stdin().lines() {
        print(&answer(&line?, &served, &stages)?)?;
    }
    Ok(ExitCode::SUCCESS)
}

fn arguments() -> anyhow::Result<(PathBuf, inference::Config)> {
    let mut arguments = std::env::args().skip(1);
    let mut next = |what: &str| arguments.next().with_context(|| format!("no {what}"));
    let state = PathBuf::from(next("folder for state")?);
    let mut config = inference::Config::new(next("model")?, ".tools/onnxruntime/libonnxruntime.so");
    config.name = "bench".into();
    config.precision = match next("precision")?.as_str() {
        "auto" => inference::Precision::Auto,
        "fp32" => inference::Precision::Fp32,
        "int8" => inference::Precision::Int8,
        other => anyhow::bail!("unknown precision {other:?}"),
    };
    config.threads = next("number of threads")?.parse()?;
    Ok((state, config))
}

fn answer(line: &str, served: &serve::Served, stages: &stages::Stages) -> anyhow::Result<Value> {
    match line.split_once(' ').unwrap_or((line, "")) {
        ("counters", _) => {
            let labels = [(MODEL, "bench")];
            let sum = |name| served.metrics.histogram(name, &labels).sum;
            let counter = |name| served.metrics.counter(name, &labels);
            Ok(json!({
                "encoder": sum(ENCODER_DURATION),
                "decoder": sum(DECODER_DURATION),
                "windows": counter(WINDOWS),
                "batches": counter(BATCHES),
            }))
        }
        ("features", file) => {
            let n_mels = u32::try_from(served.model.model().n_mels)?;
            let (time, duration) = stages.features(&read(file)?, n_mels)?;
            Ok(json!({ "seconds": time.as_secs_f64(), "duration": duration }))
        }
        ("decode", file) => {
            let time = stages.decode(&read(file)?)?;
            Ok(json!({ "seconds": time.as_secs_f64() }))
        }
        (command, _) => anyhow::bail!("unknown command {command:?}"),
    }
}

fn read(file: &str) -> anyhow::Result<Vec<u8>> {
    std::fs::read(file).with_context(|| format!("cannot read {file}"))
}
