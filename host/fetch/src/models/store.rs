//! Finds, pulls, lists and removes models: in the user's own folders, in the folder of models, and in the hub's cache.

use std::path::{Path, PathBuf};

use super::cache::{self, CachedRepository};
use super::error::Error;
use super::hub::{self, Hub, REVISION};
use super::names::{self, KNOWN};
use super::pull::Pull;
use super::repository::Repository;
use super::selection::{Precision, select};
use crate::progress::Progress;

/// The folder of models, and the hub with its cache.
pub struct Store {
    folder: PathBuf,
}

/// Where a model is.
#[derive(Debug, PartialEq, Eq)]
pub enum Located {
    /// In this folder.
    Here(PathBuf),
    /// Only in this repository, from which it can be pulled.
    Absent(Repository),
}

/// A model that has a name or is available.
#[derive(Debug, PartialEq, Eq)]
pub struct Listed {
    /// The name, where it has one.
    pub name: Option<String>,
    /// The repository, unless it is only in the folder of models.
    pub repository: Option<String>,
    /// The folder of its files, and their size in bytes. None if it has to be pulled.
    pub here: Option<(PathBuf, u64)>,
}

impl Store {
    /// A store whose folder of models is `folder`: a model called NAME is looked up in `folder/NAME` first.
    pub fn new(folder: impl Into<PathBuf>) -> Self {
        Self {
            folder: folder.into(),
        }
    }

    /// Finds a model by a folder, a name, or a repository. Sends no request.
    ///
    /// # Errors
    /// If `wanted` is none of these.
    pub async fn locate(&self, wanted: &str, precision: Precision) -> Result<Located, Error> {
        if let Some(folder) = self.folder_of(wanted) {
            return Ok(Located::Here(folder));
        }
        let repository = repository_of(wanted)?;
        let hub = Hub::new()?;
        Ok(match complete(&hub, &repository, precision).await? {
            Some(folder) => Located::Here(folder),
            None => Located::Absent(repository),
        })
    }

    /// Pulls a repository's model into the cache, as far as it is not there, and returns the folder of its files.
    ///
    /// # Errors
    /// If the hub does not send it, or the cache cannot be written. What has arrived is kept, and is not used until the model is
    /// complete.
    pub async fn pull(
        &self,
        repository: &Repository,
        precision: Precision,
        progress: &Progress,
    ) -> Result<PathBuf, Error> {
        let hub = Hub::new()?;
        if hub::is_offline() {
            return match complete(&hub, repository, precision).await? {
                Some(folder) => Ok(folder),
                None => Err(Error::Offline {
                    repository: repository.clone(),
                    cache: hub.cache().to_owned(),
                }),
            };
        }
        let revision = hub.revision(repository).await?;
        let names: Vec<&str> = revision.files.iter().map(String::as_str).collect();
        let selected = select(&names, precision).ok_or_else(|| Error::NotAModel {
            repository: repository.clone(),
        })?;
        let cached = CachedRepository::new(hub.cache(), repository);
        let folder = cached.snapshot(&revision.commit);
        for file in selected {
            // The files of a revision never change.
            if folder.join(file).is_file() {
                continue;
            }
            let pull = Pull {
                hub: &hub,
                cached: &cached,
                repository,
                commit: &revision.commit,
                file,
                progress,
            };
            pull.run().await?;
        }
        cached.use_revision(&revision.commit)?;
        Ok(folder)
    }

    /// Removes a model from the cache, and returns its repository and its size in bytes; None if it was not in the cache.
    ///
    /// # Errors
    /// If the model is elsewhere, or cannot be removed.
    pub fn remove(&self, wanted: &str) -> Result<(Repository, Option<u64>), Error> {
        let repository = match (repository_of(wanted), self.folder_of(wanted)) {
            (Ok(repository), None) => repository,
            (_, Some(folder)) => {
                return Err(Error::NotInCache {
                    wanted: wanted.to_owned(),
                    folder,
                });
            }
            (Err(error), None) => return Err(error),
        };
        let freed = CachedRepository::new(Hub::new()?.cache(), &repository).remove()?;
        Ok((repository, freed))
    }

    /// Lists every name, and every model in the folder of models or in the cache.
    ///
    /// # Errors
    /// If the cache cannot be read.
    pub async fn list(&self) -> Result<Vec<Listed>, Error> {
        let mut listed: Vec<Listed> = KNOWN
            .iter()
            .map(|(name, repository)| Listed {
                name: Some((*name).to_owned()),
                repository: Some((*repository).to_owned()),
                here: None,
            })
            .collect();
        for found in Hub::new()?.scan().await?.repos {
            let revision = found.revisions.into_iter().find(|revision| {
                revision.refs.iter().any(|name| name == REVISION)
                    && is_whisper(&revision.snapshot_path)
            });
            let Some(revision) = revision.filter(|_| found.repo_type == "model") else {
                continue;
            };
            let names: Vec<&str> = revision
                .files
                .iter()
                .map(|file| file.file_name.as_str())
                .collect();
            if ANY
                .iter()
                .all(|precision| select(&names, *precision).is_none())
            {
                continue;
            }
            let here = Some((revision.snapshot_path, revision.size_on_disk));
            let mut named = false;
            for known in &mut listed {
                if known.repository.as_deref() == Some(&found.repo_id) {
                    known.here.clone_from(&here);
                    named = true;
                }
            }
            if !named {
                listed.push(Listed {
                    name: None,
                    repository: Some(found.repo_id),
                    here,
                });
            }
        }
        self.list_folder(&mut listed)?;
        Ok(listed)
    }

    /// Adds the models in the folder of models, which take precedence over the cache.
    fn list_folder(&self, listed: &mut Vec<Listed>) -> Result<(), Error> {
        let entries = match std::fs::read_dir(&self.folder) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
            entries => entries.map_err(Error::read(&self.folder))?,
        };
        let mut folders = Vec::new();
        for entry in entries {
            folders.push(entry.map_err(Error::read(&self.folder))?.path());
        }
        folders.sort_unstable();
        for folder in folders {
            // `--model` does not take a name that is not UTF-8 either.
            let Some(name) = folder.file_name().and_then(|name| name.to_str()) else {
                continue;
            };
            if !folder.is_dir() {
                continue;
            }
            let name = name.to_owned();
            let size = cache::size(&folder).map_err(Error::read(&folder))?;
            let here = Some((folder, size));
            match listed
                .iter_mut()
                .find(|known| known.name.as_ref() == Some(&name))
            {
                Some(known) => known.here = here,
                None => listed.push(Listed {
                    name: Some(name),
                    repository: None,
                    here,
                }),
            }
        }
        Ok(())
    }

    /// The folder at the path `wanted`, or of that name in the folder of models.
    fn folder_of(&self, wanted: &str) -> Option<PathBuf> {
        let path = PathBuf::from(wanted);
        let named = (!wanted.contains('/')).then(|| self.folder.join(wanted));
        [Some(path), named]
            .into_iter()
            .flatten()
            .find(|folder| !wanted.is_empty() && folder.is_dir())
    }
}

/// Every choice of ONNX files.
const ANY: [Precision; 3] = [Precision::Fp32, Precision::Fp16, Precision::Int8];

/// The repository that a name or an id stands for.
///
/// # Errors
/// If `wanted` is neither.
pub fn repository_of(wanted: &str) -> Result<Repository, Error> {
    if let Some(repository) = names::repository(wanted).or_else(|| Repository::parse(wanted)) {
        Ok(repository)
    } else if wanted.contains('/') {
        Err(Error::NoFolder(wanted.to_owned()))
    } else {
        Err(Error::Unknown {
            wanted: wanted.to_owned(),
            near: names::near(wanted),
        })
    }
}

/// The folder of a repository's files in the cache, if the model is complete.
async fn complete(
    hub: &Hub,
    repository: &Repository,
    precision: Precision,
) -> Result<Option<PathBuf>, Error> {
    let Some(folder) = hub.cached(repository).await else {
        return Ok(None);
    };
    let files = cache::files(&folder).map_err(Error::read(&folder))?;
    let names: Vec<&str> = files.iter().map(String::as_str).collect();
    Ok(select(&names, precision).map(|_| folder))
}

/// Returns whether the configuration is of a Whisper model, as transformers or CTranslate2 writes it.
fn is_whisper(folder: &Path) -> bool {
    let config: serde_json::Value = match std::fs::read(folder.join("config.json")) {
        Ok(text) => serde_json::from_slice(&text).unwrap_or_default(),
        Err(_) => return false,
    };
    config["model_type"] == "whisper" || config["suppress_ids"].is_array()
}
