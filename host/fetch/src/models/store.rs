//! The models that there are: folders of the user's own, models in a folder by their name, and repositories in the hub's cache.

use std::path::{Path, PathBuf};

use super::cache::{self, CachedRepository};
use super::download::Download;
use super::error::Error;
use super::hub::{self, Hub, REVISION};
use super::names::{self, KNOWN};
use super::repository::Repository;
use super::selection::{Precision, select};
use crate::progress::Progress;

/// Where models come from.
pub struct Store {
    folder: PathBuf,
}

/// What a model's name led to.
#[derive(Debug, PartialEq, Eq)]
pub enum Located {
    /// A folder that holds it.
    Here(PathBuf),
    /// The repository that it can be fetched from.
    Absent(Repository),
}

/// A model that can be named, or that is in the cache.
#[derive(Debug, PartialEq, Eq)]
pub struct Listed {
    /// Its name, where it has one.
    pub name: Option<String>,
    /// Its repository, unless it only lies in the folder of models.
    pub repository: Option<String>,
    /// Where its files lie, and how many bytes they have; none where it has to be fetched.
    pub here: Option<(PathBuf, u64)>,
}

impl Store {
    /// A model called NAME is looked for in `folder/NAME` before anything else.
    pub fn new(folder: impl Into<PathBuf>) -> Self {
        Self {
            folder: folder.into(),
        }
    }

    /// Finds what the user named: a folder, a name, or a repository. Asks nobody.
    ///
    /// # Errors
    /// When it is none of these.
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

    /// Fetches what of a repository's model is not in the cache, and returns the folder of its files.
    ///
    /// # Errors
    /// When the hub does not give it, or the cache cannot be written. What has arrived stays, and does not count until the rest
    /// is there.
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
            // What a revision holds never changes.
            if folder.join(file).is_file() {
                continue;
            }
            let download = Download {
                hub: &hub,
                cached: &cached,
                repository,
                commit: &revision.commit,
                file,
                progress,
            };
            download.run().await?;
        }
        cached.use_revision(&revision.commit)?;
        Ok(folder)
    }

    /// Removes a model from the cache, and returns its repository and the bytes that this frees; none where it was not there.
    ///
    /// # Errors
    /// When it lies elsewhere, or cannot be removed.
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

    /// Every name, and every model that is here: in the folder of models, or in the cache.
    ///
    /// # Errors
    /// When the cache cannot be read.
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

    /// What lies in the folder of models goes before what is in the cache.
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
            // A name that is not UTF-8 cannot be given to `--model` either.
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

    /// The user's own folder: the path itself, or that name's in the folder of models.
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
/// When it is neither.
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

/// The folder of a repository's files in the cache, where a model is complete in it.
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

/// Whether the configuration is that of a Whisper model: as transformers writes it, or as CTranslate2 does.
fn is_whisper(folder: &Path) -> bool {
    let config: serde_json::Value = match std::fs::read(folder.join("config.json")) {
        Ok(text) => serde_json::from_slice(&text).unwrap_or_default(),
        Err(_) => return false,
    };
    config["model_type"] == "whisper" || config["suppress_ids"].is_array()
}
