//! `whisper-host logs`: prints the output of a component.

use std::process::ExitCode;

use std::time::{Duration, UNIX_EPOCH};

use anyhow::Context as _;
use clap::Args;
use futures::TryStreamExt as _;
use reqwest::Method;
use runtime::Line;
use tokio::io::AsyncBufReadExt as _;
use tokio_util::io::StreamReader;

use crate::admin::Remote;
use crate::output::outln;
use crate::scheduler;

#[derive(Args)]
pub struct Logs {
    #[command(flatten)]
    remote: Remote,

    /// The component's id.
    id: String,

    /// Keep printing new lines.
    #[arg(long)]
    follow: bool,
}

/// Prints what a component printed, and what the host reported about its requests.
///
/// # Errors
/// When the host cannot be reached, or responds with an error.
pub fn run(options: &Logs) -> anyhow::Result<ExitCode> {
    scheduler::start()?.block_on(async {
        let path = [options.id.as_str(), "logs"];
        let query: &[(&str, &str)] = match options.follow {
            true => &[("follow", "true")],
            false => &[],
        };
        let response = options
            .remote
            .send(Method::GET, &path, |request| request.query(query));
        let bytes = response
            .await?
            .bytes_stream()
            .map_err(std::io::Error::other);
        let mut lines = StreamReader::new(bytes).lines();
        while let Some(line) = lines
            .next_line()
            .await
            .context("the host closed the connection")?
        {
            print(options, &line)?;
        }
        Ok(ExitCode::SUCCESS)
    })
}

fn print(options: &Logs, line: &str) -> anyhow::Result<()> {
    if options.remote.json {
        outln!("{line}");
        return Ok(());
    }
    let line: Line = serde_json::from_str(line).context("the host's response is not JSON")?;
    outln!(
        "{} {} {:6} {}",
        time(line.time),
        line.request_id.as_deref().unwrap_or("-"),
        line.stream,
        line.text
    );
    Ok(())
}

/// Formats seconds since 1970, as in the log.
fn time(seconds: f64) -> String {
    let since = Duration::try_from_secs_f64(seconds);
    humantime::format_rfc3339_millis(UNIX_EPOCH + since.unwrap_or_default()).to_string()
}
