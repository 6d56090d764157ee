//! `whisper-host deploy`: hands a component to a running host.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context as _;
use clap::Args;
use fetch::components::Sources;
use manifest::{Reference, Source};
use reqwest::Method;
use reqwest::multipart::{Form, Part};
use runtime::admin::api::{COMPONENT, MANIFEST, Serving};
use serde_json::{Map, Value, json};

use crate::admin::Remote;
use crate::say::say;
use crate::{progress, scheduler};

#[derive(Args)]
pub struct Deploy {
    #[command(flatten)]
    remote: Remote,

    /// The component: a file, or a reference like `oci://registry.example/name:1.0.0`. With --manifest, that of the manifest.
    #[arg(value_name = "FILE.wasm", required_unless_present = "manifest")]
    source: Option<String>,

    /// A manifest with one `[component.ID]` and its triggers, in the form of spin.toml: limits, variables, files, several routes. The
    /// options below are for what needs none.
    #[arg(
        long,
        value_name = "FILE",
        conflicts_with_all = ["route", "id", "allow_host", "ai_model", "env", "timeseries", "dependency"]
    )]
    manifest: Option<PathBuf>,

    /// Path to serve: segments may be `:name`, and `/...` at the end stands for everything below. May be given again.
    #[arg(long, value_name = "ROUTE", required_unless_present = "manifest")]
    route: Vec<String>,

    /// The component's id. Without it, the name of the file or of the repository.
    #[arg(long)]
    id: Option<String>,

    /// A server it may send requests to, as `scheme://host:port`. May be given again.
    #[arg(long, value_name = "HOST")]
    allow_host: Vec<String>,

    /// A model it may use, e.g. `whisper`. May be given again.
    #[arg(long, value_name = "MODEL")]
    ai_model: Vec<String>,

    /// An environment variable. May be given again.
    #[arg(long, value_name = "NAME=VALUE")]
    env: Vec<String>,

    /// Grant the time-series store.
    #[arg(long)]
    timeseries: bool,

    /// Which component of the application answers an import: `speech:pipeline/features=audio`. May be given again.
    #[arg(long, value_name = "IMPORT=ID")]
    dependency: Vec<String>,

    /// A path that must answer with a status below 500 before the component is served.
    #[arg(long, value_name = "PATH")]
    health: Option<String>,
}

/// Deploys a component.
///
/// # Errors
/// What the host says, or that it cannot be reached.
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
                .context("the file's name is no id; choose one with --id")?;
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
    let waiting = progress::waiting(format!("{id}: the host compiles and checks it"));
    let path = [id.as_str()];
    let answer = options.remote.call(Method::PUT, &path, |request| {
        request.query(&query).multipart(form)
    });
    let answer = answer.await;
    waiting.finish_and_clear();
    let (json, Serving { id, revision }) = answer?;
    match options.remote.json {
        true => say!("{json}"),
        false => say!("{id}: revision {revision} serves {}", routes(&manifest)),
    }
    Ok(ExitCode::SUCCESS)
}

fn routes(manifest: &Value) -> String {
    let triggers = manifest["trigger"]["http"].as_array();
    let routes = triggers.into_iter().flatten();
    let routes = routes.filter_map(|trigger| trigger["route"].as_str());
    routes.collect::<Vec<_>>().join(", ")
}

/// The manifest of a component that is described by options.
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
    if options.timeseries {
        component.insert("tool".into(), json!({"whisper-host": {"timeseries": true}}));
    }
    let triggers = options.route.iter();
    let triggers: Vec<Value> = triggers
        .map(|route| json!({"route": route, "component": id}))
        .collect();
    Ok(json!({"trigger": {"http": triggers}, "component": {id: component}}))
}

/// Names and values of `NAME=VALUE`.
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

/// The id, the manifest without its source, and the bytes of a component that a file describes.
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
    let stated = component.as_object_mut().and_then(|of| of.remove("source"));
    let wasm = match (source, stated) {
        (Some(source), _) => bytes(&source_of(source)?).await?,
        (None, Some(stated)) => {
            let stated = serde_json::from_value(stated);
            let stated: Source = stated.with_context(|| format!("{shown}: [component.{id}]"))?;
            let folder = path.parent().unwrap_or(Path::new(""));
            match stated {
                Source::Path(path) => bytes(&Source::Path(folder.join(path))).await?,
                elsewhere => bytes(&elsewhere).await?,
            }
        }
        (None, None) => anyhow::bail!(
            "{shown}: [component.{id}] has no `source`; write it, or name the component's file on the command line"
        ),
    };
    Ok((id, manifest, wasm))
}

/// A component's name and bytes, from a file or a registry.
async fn component(source: &str) -> anyhow::Result<(Option<String>, Vec<u8>)> {
    let wanted = source_of(source)?;
    let name = match &wanted {
        Source::Path(path) => path.file_stem().and_then(|name| name.to_str()),
        _ => {
            let repository = source.split('@').next();
            let name = repository.and_then(|text| text.rsplit('/').next());
            name.and_then(|text| text.split(':').next())
        }
    };
    let name = name.map(str::to_owned);
    Ok((name, bytes(&wanted).await?))
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
    // What is fetched is kept by the running host; here only for the moment.
    let folder = tempfile::tempdir().context("cannot make a temporary folder")?;
    let sources = Sources::new(&folder.path().join("fetched"), progress::bytes())?;
    let path = sources
        .fetch(source)
        .await
        .with_context(|| format!("cannot fetch {source}"))?;
    std::fs::read(&path).with_context(|| format!("cannot read {}", path.display()))
}
