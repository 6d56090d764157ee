//! `whisper-host transcribe`: runs the application's pipeline on files, without a server.

use std::io::IsTerminal as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use anyhow::Context as _;
use clap::Args;
use futures::StreamExt as _;
use http_body::Frame;
use http_body_util::{BodyExt as _, StreamBody};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use inference::metrics::{FRAMES_DONE, FRAMES_PUSHED, MODEL};
use runtime::triggers::http::HasRoutes as _;
use serde_json::{Value, json};
use tokio_util::io::ReaderStream;

use crate::options::Common;
use crate::output::{outln, print_error};
use crate::scheduler;
use crate::setup::{self, Loaded};

/// Bytes of a file that are read at a time.
const CHUNK_SIZE: usize = 256 << 10;

#[derive(Args)]
pub struct Transcribe {
    #[command(flatten)]
    pub common: Common,

    /// Audio files.
    #[arg(value_name = "FILE", required = true)]
    pub files: Vec<PathBuf>,

    /// Language of the speech, e.g. `en`. Default: detected by the model.
    #[arg(long, value_name = "CODE")]
    pub language: Option<String>,

    /// What to do with the speech: `transcribe`, or `translate` into English.
    #[arg(long, value_name = "TASK", default_value = "transcribe")]
    pub task: String,

    /// Text that precedes the recording, for spelling and style.
    #[arg(long, value_name = "TEXT")]
    pub prompt: Option<String>,

    /// Hypotheses of the beam search; 1 is greedy decoding. Default: the model's own setting.
    #[arg(long, value_name = "N")]
    pub beam_size: Option<u32>,

    /// Print the times of segments.
    #[arg(long)]
    pub timestamps: bool,

    /// The application's route that transcribes.
    #[arg(long, value_name = "PATH", default_value = "/analyze")]
    pub route: String,

    /// Print one JSON object per line: `file`, and the response or `error`.
    #[arg(long)]
    pub json: bool,
}

/// Transcribes all files. If one fails, the others are still transcribed, but the exit code is 1.
///
/// # Errors
/// When the application cannot be loaded.
pub fn run(options: &Transcribe) -> anyhow::Result<ExitCode> {
    telemetry::log::start(&options.common.log, options.common.log_format(), None)?;
    scheduler::start()?.block_on(async {
        let loaded = setup::load(&options.common).await?;
        let mut code = ExitCode::SUCCESS;
        for file in &options.files {
            let result = transcribe(options, &loaded, file).await;
            if result.is_err() {
                code = ExitCode::FAILURE;
            }
            print(options, file, result);
        }
        loaded.close().await?;
        Ok(code)
    })
}

async fn transcribe(options: &Transcribe, loaded: &Loaded, file: &Path) -> anyhow::Result<Value> {
    let audio = tokio::fs::File::open(file)
        .await
        .context("cannot be read")?;
    // Streamed, so that the component's limit on the body applies to it.
    let unreadable = Arc::new(OnceLock::new());
    let unread = Arc::clone(&unreadable);
    let audio = ReaderStream::with_capacity(audio, CHUNK_SIZE).map(move |chunk| {
        chunk.map(Frame::data).inspect_err(|error| {
            let _ = unread.set(error.to_string());
        })
    });
    let request = http::Request::post(uri(options)?)
        .header(http::header::CONTENT_TYPE, "application/octet-stream")
        .body(StreamBody::new(audio))
        .context("the request is malformed")?;
    let progress = progress(file, loaded);
    let result = async {
        let response = loaded
            .application
            .routes()
            .call(request)
            .await
            .map_err(|failure| anyhow::anyhow!(failure.message))?;
        let status = response.status();
        let body = response
            .into_body()
            .collect()
            .await
            .context("the response is incomplete")?
            .to_bytes();
        anyhow::Ok((status, body))
    }
    .await;
    progress.abort();
    if let Some(error) = unreadable.get() {
        anyhow::bail!("cannot be read: {error}");
    }
    let (status, body) = result?;
    let response: Value = serde_json::from_slice(&body).context("the response is not JSON")?;
    match response["error"]["message"].as_str() {
        Some(message) => anyhow::bail!("{message}"),
        None if response["transcription"].is_string() => Ok(response),
        None if status.is_success() => {
            anyhow::bail!(
                "{} does not respond with a transcription; choose another --route",
                options.route
            )
        }
        None => anyhow::bail!("the application responded with {status}"),
    }
}

/// Returns the route with the options as its query.
fn uri(options: &Transcribe) -> anyhow::Result<http::Uri> {
    let mut query = form_urlencoded::Serializer::new(String::new());
    query.append_pair("task", &options.task);
    query.append_pair(
        "timestamps",
        if options.timestamps {
            "segment"
        } else {
            "none"
        },
    );
    for (name, value) in [("language", &options.language), ("prompt", &options.prompt)] {
        if let Some(value) = value {
            query.append_pair(name, value);
        }
    }
    if let Some(beam_size) = options.beam_size {
        query.append_pair("beam_size", &beam_size.to_string());
    }
    http::Uri::builder()
        .scheme("http")
        .authority("localhost")
        .path_and_query(format!("{}?{}", options.route, query.finish()))
        .build()
        .context("--route is not a path, or an option is too long for a URL")
}

/// Shows a progress bar: seconds of audio transcribed, out of those decoded so far.
fn progress(file: &Path, loaded: &Loaded) -> tokio::task::JoinHandle<()> {
    let bar = ProgressBar::with_draw_target(Some(0), ProgressDrawTarget::stderr())
        .with_message(file.display().to_string());
    // The template is a constant; if it were malformed, the default style would do.
    if let Ok(style) =
        ProgressStyle::with_template("{spinner} {msg} {wide_bar} {pos}/{len} s of audio, {elapsed}")
    {
        bar.set_style(style);
    }
    let (models, metrics) = (loaded.models.clone(), loaded.metrics.clone());
    tokio::spawn(async move {
        if models.is_empty() || !std::io::stderr().is_terminal() {
            return;
        }
        // One file goes through one model, which the application chooses.
        let seconds = || {
            models.iter().fold((0.0, 0.0), |(pushed, done), model| {
                let rate = model.engine.model().frames_per_second;
                let seconds = |name| metrics.counter(name, &[(MODEL, &model.id)]) as f64 / rate;
                (pushed + seconds(FRAMES_PUSHED), done + seconds(FRAMES_DONE))
            })
        };
        let before = seconds();
        // Cleared when this task is aborted.
        let bar = ClearOnDrop(bar);
        loop {
            let now = seconds();
            bar.0.set_length((now.0 - before.0) as u64);
            bar.0.set_position((now.1 - before.1) as u64);
            bar.0.tick();
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    })
}

struct ClearOnDrop(ProgressBar);

impl Drop for ClearOnDrop {
    fn drop(&mut self) {
        self.0.finish_and_clear();
    }
}

fn print(options: &Transcribe, file: &Path, result: anyhow::Result<Value>) {
    let name = file.display().to_string();
    match (result, options.json) {
        (Ok(mut response), true) => {
            response["file"] = json!(name);
            outln!("{response}");
        }
        (Err(error), true) => outln!("{}", json!({"file": name, "error": format!("{error:#}")})),
        (Ok(response), false) => {
            if options.files.len() > 1 {
                outln!("{name}:");
            }
            match response["segments"].as_array() {
                Some(segments) => {
                    for segment in segments {
                        outln!(
                            "[{:8.2} – {:8.2}]  {}",
                            segment["start"].as_f64().unwrap_or_default(),
                            segment["end"].as_f64().unwrap_or_default(),
                            segment["text"].as_str().unwrap_or_default()
                        );
                    }
                }
                None => outln!("{}", response["transcription"].as_str().unwrap_or_default()),
            }
        }
        (Err(error), false) => print_error(format_args!("{name}: {error:#}")),
    }
}
