//! `whisper-host deploy`: deploys a component to a running host.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context as _;
use clap::Args;
use fetch::components::{Sources, read_component};
use manifest::{Reference, Source};
use reqwest::Method;
use reqwest::multipart::{Form, Part};
use runtime::admin::api::{COMPONENT, MANIFEST, Serving};
use serde_json::{Map, Value, json};

use crate::admin::Remote;
use crate::output::outln;
use crate::{progress, scheduler};

#[derive(Args)]
pub struct Deploy {
    #[command(flatten)]
    remote: Remote,

    /// The component: a file, or a reference like `oci://registry.example/name:1.0.0`. Default with --manifest: the manifest's `source`.
    #[arg(value_name = "FILE.wasm", required_unless_present = "manifest")]
    source: Option<String>,

    /// A manifest with one `[component.ID]` and its triggers, in the form of spin.toml: for limits, variables, files or several
    /// routes. The options below suffice for simple components.
    #[arg(
        long,
        value_name = "FILE",
        conflicts_with_all = ["route", "subject", "id", "allow_host", "ai_model", "env", "timeseries", "messaging", "dependency"]
    )]
    manifest: Option<PathBuf>,

    /// Path to serve: segments may be `:name`, and `/...` at the end matches everything below. May be repeated.
    #[arg(long, value_name = "ROUTE", required_unless_present_any = ["manifest", "subject"])]
    route: Vec<String>,

    /// Subject of NATS whose messages the component handles: `*` stands for one word, `>` at the end for one or more. May be repeated.
    #[arg(long, value_name = "SUBJECT")]
    subject: Vec<String>,

    /// The component's id. Default: the name of the file or of the repository.
    #[arg(long)]
    id: Option<String>,

    /// A server that it may send requests to, as `scheme://host:port`. May be repeated.
    #[arg(long, value_name = "HOST")]
    allow_host: Vec<String>,

    /// A model that it may use, e.g. `whisper`. May be repeated.
    #[arg(long, value_name = "MODEL")]
    ai_model: Vec<String>,

    /// An environment variable. May be repeated.
    #[arg(long, value_name = "NAME=VALUE")]
    env: Vec<String>,

    /// Grant the time-series store.
    #[arg(long)]
    timeseries: bool,

    /// Subjects of NATS that it may send messages to, such as `orders.>`. May be repeated.
    #[arg(long, value_name = "SUBJECT")]
    messaging: Vec<String>,

    /// The component of the application that satisfies an import: `speech:pipeline/features=audio`. May be repeated.
    #[arg(long, value_name = "IMPORT=ID")]
    dependency: Vec<String>,

    /// A path that must respond with a status below 500 before the component is served.
    #[arg(long, value_name = "PATH")]
    health: Option<String>,
}

/// Deploys a component.
///
/// # Errors
/// When the host cannot be reached, or responds with an error.
pub fn run(options: &Deploy) -> anyhow::Result<ExitCode> {
    scheduler::start()?.block_on(deploy(options))
}

async fn deploy(options: &Deploy) -> anyhow::Result<ExitCode> {
    let (id, manifest, wasm) = match &options.manifest {
        Some(path) => from_manifest(path, options.source.as_deref()).await?,
        None => {
            let source = options.source.as_deref().unwrap_or_default();
            let (name, wasm) = component(source).await?;
            let id = options
                .id
                .clone()
                .or(name)
                .context("the file's name is not a valid id; choose one with --id")?;
            let manifest = fragment(&id, options)?;
            (id, manifest, wasm)
        }
    };
    let form = Form::new()
        .part(
            MANIFEST,
            Part::text(manifest.to_string()).mime_str("application/json")?,
        )
        .part(COMPONENT, Part::bytes(wasm).mime_str("application/wasm")?);
    let query: Vec<_> = options.health.iter().map(|path| ("health", path)).collect();
    let waiting = progress::waiting(format!("{id}: compiling and checking"));
    let path = [id.as_str()];
    let call = options.remote.call(Method::PUT, &path, |request| {
        request.query(&query).multipart(form)
    });
    let result = call.await;
    waiting.finish_and_clear();
    let (json, Serving { id, revision }) = result?;
    match options.remote.json {
        true => outln!("{json}"),
        false => outln!("{id}: revision {revision} serves {}", events(&manifest)),
    }
    Ok(ExitCode::SUCCESS)
}

/// Returns the routes and subjects of the component.
fn events(manifest: &Value) -> String {
    let named = |kind: &str, field: &str, prefix: &str| -> Vec<String> {
        let triggers = manifest["trigger"][kind].as_array();
        let triggers = triggers.into_iter().flatten();
        let values = triggers.filter_map(|trigger| trigger[field].as_str());
        values.map(|value| format!("{prefix}{value}")).collect()
    };
    [
        named("http", "route", ""),
        named("nats", "subject", "nats:"),
    ]
    .concat()
    .join(", ")
}

/// Creates the manifest of a component from the options.
fn fragment(id: &str, options: &Deploy) -> anyhow::Result<Value> {
    let mut component = Map::new();
    if !options.env.is_empty() {
        component.insert("environment".into(), pairs("env", &options.env)?.into());
    }
    if !options.allow_host.is_empty() {
        component.insert("allowed_outbound_hosts".into(), json!(options.allow_host));
    }
    if !options.ai_model.is_empty() {
        component.insert("ai_models".into(), json!(options.ai_model));
    }
    if !options.dependency.is_empty() {
        let dependencies: Map<String, Value> = pairs("dependency", &options.dependency)?
            .into_iter()
            .map(|(import, id)| {
                (
                    import,
                    json!({"component": id, "inherit_configuration": true}),
                )
            })
            .collect();
        component.insert("dependencies".into(), dependencies.into());
    }
    let mut own = Map::new();
    if options.timeseries {
        own.insert("timeseries".into(), true.into());
    }
    if !options.messaging.is_empty() {
        own.insert("messaging".into(), json!(options.messaging));
    }
    if !own.is_empty() {
        component.insert("tool".into(), json!({"whisper-host": own}));
    }
    let mut triggers = Map::new();
    for (kind, field, values) in [
        ("http", "route", &options.route),
        ("nats", "subject", &options.subject),
    ] {
        if !values.is_empty() {
            let entries = values
                .iter()
                .map(|value| json!({field: value, "component": id}));
            triggers.insert(kind.into(), entries.collect());
        }
    }
    Ok(json!({"trigger": triggers, "component": {id: component}}))
}

/// Parses options of the form `NAME=VALUE`.
fn pairs(option: &str, given: &[String]) -> anyhow::Result<Map<String, Value>> {
    let mut pairs = Map::new();
    for text in given {
        let (name, value) = text
            .split_once('=')
            .with_context(|| format!("--{option}: \"{text}\" is not of the form NAME=VALUE"))?;
        anyhow::ensure!(
            pairs.insert(name.to_owned(), value.into()).is_none(),
            "--{option} {name} is given twice"
        );
    }
    Ok(pairs)
}

/// Reads a manifest. Returns the component's id, the manifest without `source`, and the component's bytes.
async fn from_manifest(
    path: &Path,
    source: Option<&str>,
) -> anyhow::Result<(String, Value, Vec<u8>)> {
    let shown = path.display();
    let text = std::fs::read_to_string(path).with_context(|| format!("cannot read {shown}"))?;
    let mut manifest: Value =
        toml::from_str(&text).with_context(|| format!("{shown} is not TOML"))?;
    let components = manifest["component"].as_object_mut();
    let mut components: Vec<_> = components.into_iter().flatten().collect();
    let (Some((id, component)), true) = (components.pop(), components.is_empty()) else {
        anyhow::bail!("{shown} must have one [component.ID]");
    };
    let id = id.clone();
    let own = component
        .as_object_mut()
        .and_then(|fields| fields.remove("source"));
    let wasm = match (source, own) {
        (Some(source), _) => bytes(&source_of(source)?).await?,
        (None, Some(own)) => {
            let own = serde_json::from_value(own);
            let own: Source = own.with_context(|| format!("{shown}: [component.{id}]"))?;
            let folder = path.parent().unwrap_or(Path::new(""));
            match own {
                Source::Path(path) => bytes(&Source::Path(folder.join(path))).await?,
                remote => bytes(&remote).await?,
            }
        }
        (None, None) => anyhow::bail!(
            "{shown}: [component.{id}] has no `source`; add it, or name the component's file on the command line"
        ),
    };
    Ok((id, manifest, wasm))
}

/// Returns a component's name and bytes, from a file or a registry.
async fn component(source: &str) -> anyhow::Result<(Option<String>, Vec<u8>)> {
    let parsed = source_of(source)?;
    let name = match &parsed {
        Source::Path(path) => path.file_stem().and_then(|name| name.to_str()),
        _ => {
            let repository = source.split('@').next();
            let name = repository.and_then(|text| text.rsplit('/').next());
            name.and_then(|text| text.split(':').next())
        }
    };
    let name = name.map(str::to_owned);
    Ok((name, bytes(&parsed).await?))
}

fn source_of(text: &str) -> anyhow::Result<Source> {
    match text.starts_with(Reference::SCHEME) {
        true => {
            let reference = text.parse();
            Ok(Source::Oci(
                reference.map_err(|why: String| anyhow::anyhow!(why))?,
            ))
        }
        false => Ok(Source::Path(text.into())),
    }
}

async fn bytes(source: &Source) -> anyhow::Result<Vec<u8>> {
    // Temporary: the running host stores the component.
    let folder = tempfile::tempdir().context("cannot create a temporary folder")?;
    let sources = Sources::new(&folder.path().join("fetched"), progress::bytes())?;
    let path = sources
        .fetch(source)
        .await
        .with_context(|| format!("cannot fetch {source}"))?;
    read_component(&path)
}
