//! Errors of models.

use std::path::PathBuf;

use super::repository::Repository;
use crate::secrets::without_queries;

/// Why a model is not available, and what to do about it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Neither a folder, nor a name, nor a repository.
    #[error(
        "there is no model `{wanted}`; {}`whisper-host models list` prints the names, and OWNER/NAME or the path of a folder \
         works, too", did_you_mean(.near)
    )]
    Unknown {
        /// What was asked for.
        wanted: String,
        /// Similar names.
        near: Vec<&'static str>,
    },

    /// A path at which there is no folder.
    #[error("there is no folder `{0}`")]
    NoFolder(String),

    /// The model is not in the cache, and the network must not be used.
    #[error(
        "{repository} is not in {}, and HF_HUB_OFFLINE keeps it from being fetched; run `whisper-host models pull \
         {repository}` without HF_HUB_OFFLINE, or name the folder of a model", .cache.display()
    )]
    Offline {
        /// The repository.
        repository: Repository,
        /// The cache.
        cache: PathBuf,
    },

    /// The hub cannot be reached.
    #[error(
        "{endpoint} cannot be reached to fetch {repository} ({cause}); run `whisper-host models pull {repository}` where \
         there is a network, or name the folder of a model"
    )]
    Unreachable {
        /// The repository.
        repository: Repository,
        /// The hub.
        endpoint: String,
        /// The network error.
        cause: String,
    },

    /// The hub requires a token, or refuses it. It also does so for repositories that do not exist.
    #[error(
        "{endpoint} gives no access to {repository} ({status}): it does not exist, it is private, or its terms must be accepted \
         first; check the name, and set HF_TOKEN to a token that may read it"
    )]
    Denied {
        /// The repository.
        repository: Repository,
        /// The hub.
        endpoint: String,
        /// HTTP status of the answer.
        status: u16,
    },

    /// The hub has no such repository.
    #[error(
        "{endpoint} has no repository {repository}, and there is no folder of that name either; check the name"
    )]
    NoRepository {
        /// The repository.
        repository: Repository,
        /// The hub.
        endpoint: String,
    },

    /// The repository holds no model of a known form.
    #[error(
        "{repository} holds no Whisper model that the host can load: that takes `config.json`, `tokenizer.json` and \
         `model.bin`, `model.safetensors` or `onnx/encoder_model*.onnx` with its decoder; choose another repository"
    )]
    NotAModel {
        /// The repository.
        repository: Repository,
    },

    /// The hub lists a file that it does not have.
    #[error(
        "{repository} lists {file}, but the hub does not have it; try again later, or choose another repository"
    )]
    MissingFile {
        /// The repository.
        repository: Repository,
        /// Path in the repository.
        file: String,
    },

    /// The hub states no digest to verify a file against.
    #[error(
        "the hub states no digest for {file} of {repository}, so it cannot be verified; check HF_ENDPOINT"
    )]
    NoDigest {
        /// The repository.
        repository: Repository,
        /// Path in the repository.
        file: String,
    },

    /// A file has another digest than the hub states.
    #[error(
        "{file} of {repository} was changed on its way: its digest is {found}, not {stated}; it was removed. Run it again; if \
         that does not help, something between here and the hub changes files"
    )]
    WrongDigest {
        /// The repository.
        repository: Repository,
        /// Path in the repository.
        file: String,
        /// The digest of the file.
        found: String,
        /// The digest that the hub states.
        stated: String,
    },

    /// The connection broke off. What has arrived is kept.
    #[error(
        "the connection broke off after {received} of {size} bytes of {file} of {repository} ({cause}); run it again to resume"
    )]
    Interrupted {
        /// The repository.
        repository: Repository,
        /// Path in the repository.
        file: String,
        /// Bytes that have arrived.
        received: u64,
        /// Bytes of the file.
        size: u64,
        /// The network error.
        cause: String,
    },

    /// The hub failed in another way.
    #[error("{endpoint} failed on {repository}: {cause}; try again later")]
    Hub {
        /// The repository.
        repository: Repository,
        /// The hub.
        endpoint: String,
        /// What the hub answered.
        cause: String,
    },

    /// The client cannot be set up.
    #[error("cannot set up the client of the hub: {0}; check HF_ENDPOINT and HF_TOKEN")]
    Client(String),

    /// The cache cannot be written.
    #[error(
        "cannot write {}: {source}; make room or grant access there, or set HF_HUB_CACHE to another folder, and run it again: \
         what has arrived is kept", .path.display()
    )]
    Write {
        /// The path.
        path: PathBuf,
        /// The system's error.
        source: std::io::Error,
    },

    /// The cache cannot be read.
    #[error("cannot read {}: {source}", .path.display())]
    Read {
        /// The path.
        path: PathBuf,
        /// The system's error.
        source: std::io::Error,
    },

    /// A model that is not in the cache is not removed.
    #[error("`{wanted}` is in {}, which is not the hub's cache; remove the folder yourself", .folder.display())]
    NotInCache {
        /// What was asked for.
        wanted: String,
        /// The model's folder.
        folder: PathBuf,
    },
}

impl Error {
    /// For [`Error::Write`].
    pub(crate) fn write(path: &std::path::Path) -> impl FnOnce(std::io::Error) -> Self {
        |source| Self::Write {
            path: path.to_owned(),
            source,
        }
    }

    /// For [`Error::Read`].
    pub(crate) fn read(path: &std::path::Path) -> impl FnOnce(std::io::Error) -> Self {
        |source| Self::Read {
            path: path.to_owned(),
            source,
        }
    }
}

fn did_you_mean(near: &[&str]) -> String {
    match near {
        [] => String::new(),
        near => format!("did you mean {}? ", near.join(" or ")),
    }
}

/// The innermost cause of an error, which says what happened, without secrets.
pub(crate) fn root_cause(error: &dyn std::error::Error) -> String {
    let mut innermost = error;
    while let Some(source) = innermost.source() {
        innermost = source;
    }
    without_queries(&innermost.to_string())
}
