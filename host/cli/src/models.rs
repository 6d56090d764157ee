//! `whisper-host models`: the names of models, and what of them is here; and how a model that is named gets here.

use std::path::PathBuf;
use std::process::ExitCode;

use fetch::{Listed, Located, Store};
use indicatif::HumanBytes;

use crate::args::{Device, LogFormat, Models, ModelsCommand, Precision};
use crate::say::say;
use crate::{progress, setup};

/// # Errors
/// When there is no such model, or it cannot be fetched or removed.
pub fn run(options: &Models) -> anyhow::Result<ExitCode> {
    crate::log::start("warn", LogFormat::Text)?;
    let store = Store::new(&options.models.folder);
    let any = precision(Precision::Auto, Device::Auto);
    setup::runtime()?.block_on(async {
        match &options.command {
            ModelsCommand::List { json } => {
                let listed = store.list().await?;
                if *json {
                    let listed: Vec<_> = listed.iter().map(self::json).collect();
                    say!("{}", serde_json::Value::from(listed));
                } else {
                    table(&listed);
                }
            }
            ModelsCommand::Pull {
                wanted,
                precision: chosen,
            } => {
                let precision = precision(*chosen, Device::Auto);
                let repository = fetch::repository_of(wanted)?;
                let folder = store
                    .pull(&repository, precision, &*progress::bytes())
                    .await?;
                say!("{}", folder.display());
            }
            ModelsCommand::Remove { wanted } => {
                let (repository, freed) = store.remove(wanted)?;
                match freed {
                    Some(bytes) => say!("removed {repository}: {} freed", HumanBytes(bytes)),
                    None => say!("{repository} is not in the cache"),
                }
            }
            ModelsCommand::Path { wanted } => match store.locate(wanted, any).await? {
                Located::Here(folder) => say!("{}", folder.display()),
                Located::Absent(repository) => anyhow::bail!(
                    "{repository} is not here; run `whisper-host models pull {wanted}`"
                ),
            },
        }
        Ok(ExitCode::SUCCESS)
    })
}

/// The folder of a model that the host is to run, fetched if need be.
///
/// # Errors
/// When there is no such model, or it cannot be fetched.
pub async fn here(
    store: &Store,
    wanted: &str,
    precision: fetch::Precision,
) -> anyhow::Result<PathBuf> {
    match store.locate(wanted, precision).await? {
        Located::Here(folder) => Ok(folder),
        Located::Absent(repository) => {
            tracing::info!(
                "fetching {repository}, which is not here yet; `whisper-host models pull {wanted}` does so beforehand"
            );
            let folder = store
                .pull(&repository, precision, &*progress::bytes())
                .await?;
            tracing::info!("fetched {repository} into {}", folder.display());
            Ok(folder)
        }
    }
}

/// Which ONNX files suit the settings. Whether there is a GPU shows only once the model is loaded, so `auto` counts on none.
pub fn precision(precision: Precision, device: Device) -> fetch::Precision {
    match precision {
        Precision::Auto => fetch::Precision::Auto {
            gpu: matches!(device, Device::Cuda),
        },
        Precision::Fp32 => fetch::Precision::Fp32,
        Precision::Fp16 => fetch::Precision::Fp16,
        Precision::Int8 => fetch::Precision::Int8,
    }
}

fn table(listed: &[Listed]) {
    let width = |column: fn(&Listed) -> &Option<String>| {
        let cells = listed.iter().filter_map(|listed| column(listed).as_ref());
        cells.map(String::len).max().unwrap_or(0)
    };
    let (names, repositories) = (
        width(|listed| &listed.name),
        width(|listed| &listed.repository),
    );
    for listed in listed {
        let line = format!(
            "{:names$}  {:repositories$}  {}",
            listed.name.as_deref().unwrap_or("-"),
            listed.repository.as_deref().unwrap_or("-"),
            match &listed.here {
                Some((folder, bytes)) => format!(
                    "{:>10}  {}",
                    HumanBytes(*bytes).to_string(),
                    folder.display()
                ),
                None => String::new(),
            }
        );
        say!("{}", line.trim_end());
    }
}

fn json(listed: &Listed) -> serde_json::Value {
    let (path, bytes) = listed.here.clone().unzip();
    serde_json::json!({
        "name": listed.name,
        "repository": listed.repository,
        "path": path,
        "bytes": bytes,
    })
}
