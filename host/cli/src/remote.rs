//! The commands that speak to a running host, through its admin interface.

use std::io::BufRead as _;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, UNIX_EPOCH};

use anyhow::Context as _;
use runtime::http::is_loopback;
use runtime::manifest::Source;
use runtime::sources::{Reference, Sources};
use serde_json::Value;

use crate::args::{Deploy, Logs, Named, Remote, Rollback};
use crate::say::say;
use crate::{progress, setup};

/// Deploys a file.
///
/// # Errors
/// What the host says, or that it cannot be reached. The same holds for the other commands.
pub fn deploy(options: &Deploy) -> anyhow::Result<ExitCode> {
    let (name, wasm) = component(&options.source)?;
    let id = options
        .id
        .clone()
        .or(name)
        .context("the file's name is no id; choose one with --id")?;
    let mut query = vec![("route", options.route.clone())];
    query.extend(
        options
            .allow_host
            .iter()
            .map(|host| ("allow_host", host.clone())),
    );
    query.extend(
        options
            .ai_model
            .iter()
            .map(|model| ("ai_model", model.clone())),
    );
    query.extend(options.env.iter().map(|pair| ("env", pair.clone())));
    query.extend(
        options
            .dependency
            .iter()
            .map(|pair| ("dependency", pair.clone())),
    );
    query.extend(options.health.iter().map(|path| ("health", path.clone())));
    if options.timeseries {
        query.push(("timeseries", "true".into()));
    }
    let remote = &options.remote;
    let waiting = progress::waiting(format!("{id}: the host compiles and checks it"));
    let answer = remote.call(http::Method::PUT, &format!("/{id}"), &query, wasm);
    waiting.finish_and_clear();
    let answer = answer?;
    remote.print(&answer, |answer| {
        say!(
            "{id}: revision {} serves {}",
            answer["revision"],
            options.route
        );
    });
    Ok(ExitCode::SUCCESS)
}

/// A component's name and bytes, from a file or a registry.
fn component(source: &str) -> anyhow::Result<(Option<String>, Vec<u8>)> {
    let mut path = PathBuf::from(source);
    let mut name = path.file_stem();
    // What is fetched is kept by the running host; here only for the moment.
    let folder = tempfile::tempdir().context("cannot make a temporary folder")?;
    if source.starts_with(Reference::SCHEME) {
        let reference: Reference = source.parse().map_err(|why: String| anyhow::anyhow!(why))?;
        let sources = Sources::new(&folder.path().join("fetched"), progress::bytes())?;
        path = setup::runtime()?
            .block_on(sources.fetch(&Source::Oci(reference)))
            .with_context(|| format!("cannot fetch {source}"))?;
        let repository = source
            .split(['@'])
            .next()
            .and_then(|s| s.rsplit('/').next());
        name = repository
            .and_then(|s| s.split(':').next())
            .map(AsRef::as_ref);
    }
    let name = name.and_then(|name| name.to_str()).map(str::to_owned);
    let wasm = std::fs::read(&path).with_context(|| format!("cannot read {}", path.display()))?;
    Ok((name, wasm))
}

/// Lists all components.
pub fn list(remote: &Remote) -> anyhow::Result<ExitCode> {
    let answer = remote.call(http::Method::GET, "", &[], Vec::new())?;
    remote.print(&answer, |answer| {
        say!(
            "{:20} {:>8} {:>9} {:>7} {:>7} {:>6} {:>8} {:>7} {:>9} {:>9} {:>10}  ROUTES",
            "COMPONENT",
            "REVISION",
            "REQUESTS",
            "RUNNING",
            "WAITING",
            "TRAPS",
            "TIMEOUTS",
            "REFUSED",
            "RAN",
            "QUEUED",
            "MEMORY"
        );
        for component in answer["components"].as_array().into_iter().flatten() {
            let figures = &component["figures"];
            say!(
                "{:20} {:>8} {:>9} {:>7} {:>7} {:>6} {:>8} {:>7} {:>7.1} s {:>7.1} s {:>6} KiB  {}",
                text(&component["id"]),
                component["revision"]
                    .as_u64()
                    .map_or("-".to_owned(), |revision| revision.to_string()),
                number(&figures["requests"]),
                number(&figures["running"]),
                number(&figures["waiting"]),
                number(&figures["traps"]),
                number(&figures["timeouts"]),
                number(&figures["refused"]),
                figures["instance_seconds"].as_f64().unwrap_or_default(),
                figures["queue_seconds"].as_f64().unwrap_or_default(),
                figures["memory_high_water"].as_u64().unwrap_or_default() >> 10,
                texts(&component["routes"]),
            );
        }
    });
    Ok(ExitCode::SUCCESS)
}

/// Shows one component.
pub fn show(options: &Named) -> anyhow::Result<ExitCode> {
    let answer = options.call(http::Method::GET, "", &[])?;
    options.remote.print(&answer, |answer| {
        say!("{}", text(&answer["id"]));
        say!("  handles   {}", text(&answer["handler"]));
        say!("  routes    {}", texts(&answer["routes"]));
        say!("  may use   {}", texts(&answer["grants"]));
        for revision in answer["revisions"].as_array().into_iter().flatten() {
            let mark = if revision["revision"] == answer["revision"] {
                " (serving)"
            } else {
                ""
            };
            say!(
                "  revision  {} sha256:{} {}{mark}",
                revision["revision"],
                &text(&revision["digest"]).get(..12).unwrap_or_default(),
                text(&revision["settings"]["route"]),
            );
        }
    });
    Ok(ExitCode::SUCCESS)
}

/// Serves an earlier revision.
pub fn rollback(options: &Rollback) -> anyhow::Result<ExitCode> {
    let named = &options.named;
    let query: Vec<_> = options
        .revision
        .iter()
        .map(|revision| ("revision", revision.to_string()))
        .collect();
    let answer = named.call(http::Method::POST, "/rollback", &query)?;
    named.remote.print(&answer, |answer| {
        say!("{}: revision {}", named.id, answer["revision"])
    });
    Ok(ExitCode::SUCCESS)
}

/// Takes a component out.
pub fn remove(options: &Named) -> anyhow::Result<ExitCode> {
    let answer = options.call(http::Method::DELETE, "", &[])?;
    options
        .remote
        .print(&answer, |_| say!("{}: removed", options.id));
    Ok(ExitCode::SUCCESS)
}

/// Prints what a component printed, and what the host says of its requests.
pub fn logs(options: &Logs) -> anyhow::Result<ExitCode> {
    let named = &options.named;
    let query: Vec<_> = options
        .follow
        .then(|| ("follow", "true".to_owned()))
        .into_iter()
        .collect();
    let answer = named.remote.send(
        http::Method::GET,
        &format!("/{}/logs", named.id),
        &query,
        Vec::new(),
    )?;
    for line in std::io::BufReader::new(answer.into_body().into_reader()).lines() {
        let line = line.context("the host has closed the connection")?;
        if named.remote.json {
            say!("{line}");
            continue;
        }
        let line: Value = serde_json::from_str(&line).context("the host's answer is not JSON")?;
        say!(
            "{} {} {:6} {}",
            time(&line["time"]),
            line["request_id"].as_str().unwrap_or("-"),
            text(&line["stream"]),
            text(&line["text"])
        );
    }
    Ok(ExitCode::SUCCESS)
}

impl Named {
    fn call(
        &self,
        method: http::Method,
        below: &str,
        query: &[(&str, String)],
    ) -> anyhow::Result<Value> {
        self.remote
            .call(method, &format!("/{}{below}", self.id), query, Vec::new())
    }
}

impl Remote {
    fn call(
        &self,
        method: http::Method,
        path: &str,
        query: &[(&str, String)],
        body: Vec<u8>,
    ) -> anyhow::Result<Value> {
        let mut answer = self.send(method, path, query, body)?;
        answer
            .body_mut()
            .read_json()
            .context("the host's answer is not JSON")
    }

    /// Sends a request below `/v1/components`; an error of the host's is an error here.
    fn send(
        &self,
        method: http::Method,
        path: &str,
        query: &[(&str, String)],
        body: Vec<u8>,
    ) -> anyhow::Result<http::Response<ureq::Body>> {
        let mut url = format!("{}/v1/components{path}", self.admin.trim_end_matches('/'));
        if !query.is_empty() {
            let pairs = form_urlencoded::Serializer::new(String::new())
                .extend_pairs(query)
                .finish();
            url = format!("{url}?{pairs}");
        }
        let mut request = http::Request::builder().method(method).uri(&url);
        if let Some(token) = &self.admin_token {
            request = request.header(http::header::AUTHORIZATION, format!("Bearer {token}"));
        }
        let request = request
            .body(body)
            .with_context(|| format!("{url} is not a URL"))?;
        // A proxy of the environment leads to other machines, and is not to see the token on its way to this one.
        let mut config = ureq::config::Config::builder().http_status_as_error(false);
        if request.uri().host().is_some_and(is_loopback) {
            config = config.proxy(None);
        }
        let agent = ureq::Agent::new_with_config(config.build());
        let mut answer = agent.run(request).with_context(|| {
            format!("cannot reach a host at {}; start one with `whisper-host up`, or name it with --admin", self.admin)
        })?;
        if answer.status().is_success() {
            return Ok(answer);
        }
        let error: Value = answer.body_mut().read_json().unwrap_or_default();
        match error["error"]["message"].as_str() {
            Some(message) => anyhow::bail!("{message}"),
            None => anyhow::bail!("{url} answered {}", answer.status()),
        }
    }

    fn print(&self, answer: &Value, for_people: impl FnOnce(&Value)) {
        if self.json {
            say!("{answer}");
        } else {
            for_people(answer);
        }
    }
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

/// Seconds since 1970, as the log has them.
fn time(seconds: &Value) -> String {
    let since = Duration::try_from_secs_f64(seconds.as_f64().unwrap_or_default());
    humantime::format_rfc3339_millis(UNIX_EPOCH + since.unwrap_or_default()).to_string()
}

fn number(value: &Value) -> u64 {
    value.as_u64().unwrap_or_default()
}

fn texts(value: &Value) -> String {
    value
        .as_array()
        .into_iter()
        .flatten()
        .map(text)
        .collect::<Vec<_>>()
        .join(", ")
}
