//! `whisper-host models`: lists, fetches and removes models.

use std::process::ExitCode;

use clap::{Args, Subcommand};
use fetch::models::{self, Listed, Located, Store};
use indicatif::HumanBytes;

use crate::fetching::precision;
use crate::options::{Device, ModelsFolder, Precision};
use crate::output::outln;
use crate::{progress, scheduler};

#[derive(Args)]
pub struct Models {
    #[command(flatten)]
    pub models: ModelsFolder,

    #[command(subcommand)]
    pub command: ModelsCommand,
}

#[derive(Subcommand)]
pub enum ModelsCommand {
    /// List the known names, and the models that are here.
    List {
        /// Print one JSON array instead of text.
        #[arg(long)]
        json: bool,
    },
    /// Fetch a model into the hub's cache, or update it.
    ///
    /// HF_ENDPOINT sets another hub, HF_TOKEN a token, HF_HUB_CACHE another folder for the cache.
    Pull {
        /// A name, or a repository of the hub.
        #[arg(value_name = "MODEL")]
        wanted: String,

        /// Which of a repository's ONNX files to fetch. auto: int8, if available.
        #[arg(long, value_enum, default_value_t = Precision::Auto)]
        precision: Precision,
    },
    /// Remove a model from the hub's cache.
    Remove {
        /// A name, or a repository of the hub.
        #[arg(value_name = "MODEL")]
        wanted: String,
    },
    /// Print the folder of a fetched model.
    Path {
        /// A name, or a repository of the hub.
        #[arg(value_name = "MODEL")]
        wanted: String,
    },
}

/// Lists, fetches or removes models.
///
/// # Errors
/// When the model does not exist, or cannot be fetched or removed.
pub fn run(options: &Models) -> anyhow::Result<ExitCode> {
    telemetry::log::start("warn", telemetry::log::Format::of_standard_error(), None)?;
    let store = Store::new(&options.models.folder);
    let any = precision(Precision::Auto, Device::Auto);
    scheduler::start()?.block_on(async {
        match &options.command {
            ModelsCommand::List { json } => {
                let listed = store.list().await?;
                if *json {
                    let listed: Vec<_> = listed.iter().map(self::json).collect();
                    outln!("{}", serde_json::Value::from(listed));
                } else {
                    table(&listed);
                }
            }
            ModelsCommand::Pull {
                wanted,
                precision: chosen,
            } => {
                let precision = precision(*chosen, Device::Auto);
                let repository = models::repository_of(wanted)?;
                let folder = store
                    .pull(&repository, precision, &*progress::bytes())
                    .await?;
                outln!("{}", folder.display());
            }
            ModelsCommand::Remove { wanted } => {
                let (repository, freed) = store.remove(wanted)?;
                match freed {
                    Some(bytes) => outln!("removed {repository}: {} freed", HumanBytes(bytes)),
                    None => outln!("{repository} is not in the cache"),
                }
            }
            ModelsCommand::Path { wanted } => match store.locate(wanted, any).await? {
                Located::Here(folder) => outln!("{}", folder.display()),
                Located::Absent(repository) => anyhow::bail!(
                    "{repository} is not here; run `whisper-host models pull {wanted}`"
                ),
            },
        }
        Ok(ExitCode::SUCCESS)
    })
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
        outln!("{}", line.trim_end());
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
