//! Why a model is not to be had.

use std::path::PathBuf;

use super::repository::Repository;

/// Why a model is not to be had, and what to do about it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// It is neither a folder, nor a name, nor a repository.
    #[error(
        "there is no model `{wanted}`; {}`whisper-host models list` prints the names, and OWNER/NAME or the path of a folder \
         will do, too", did_you_mean(.near)
    )]
    Unknown {
        /// What was asked for.
        wanted: String,
        /// Names that look like it.
        near: Vec<&'static str>,
    },

    /// It is a path, and nothing is there.
    #[error("there is no folder `{0}`")]
    NoFolder(String),

    /// It is not here, and the network is not to be used.
    #[error(
        "{repository} is not in {}, and HF_HUB_OFFLINE keeps it from being fetched; run `whisper-host models pull \
         {repository}` without HF_HUB_OFFLINE, or name the folder of a model", .cache.display()
    )]
    Offline {
        /// What was to be fetched.
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
        /// What was to be fetched.
        repository: Repository,
        /// The hub.
        endpoint: String,
        /// What the network says.
        cause: String,
    },

    /// The hub asks for a token, or refuses it. It also does so for repositories that do not exist.
    #[error(
        "{endpoint} does not show {repository} ({status}): either there is none of that name, or it is private, or its terms \
         must be accepted first; check the name, and set HF_TOKEN to a token that may read it"
    )]
    Denied {
        /// What was to be fetched.
        repository: Repository,
        /// The hub.
        endpoint: String,
        /// The hub's answer.
        status: u16,
    },

    /// The hub knows no such repository.
    #[error(
        "{endpoint} has no repository {repository}, and there is no folder of that name either; check the name"
    )]
    NoRepository {
        /// What was to be fetched.
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
        /// What was looked into.
        repository: Repository,
    },

    /// The hub lists a file that it then does not have.
    #[error(
        "{repository} lists {file}, but the hub does not have it; try again later, or choose another repository"
    )]
    MissingFile {
        /// The repository.
        repository: Repository,
        /// The path in it.
        file: String,
    },

    /// The hub states no digest, so nothing could be verified.
    #[error(
        "the hub states no digest for {file} of {repository}, so it cannot be verified; check HF_ENDPOINT"
    )]
    NoDigest {
        /// The repository.
        repository: Repository,
        /// The path in it.
        file: String,
    },

    /// What came is not what the hub says it is.
    #[error(
        "{file} of {repository} did not arrive as the hub has it: its digest is {found}, not {stated}; it was thrown away. \
         Run it again; if that does not help, something between here and the hub changes files"
    )]
    WrongDigest {
        /// The repository.
        repository: Repository,
        /// The path in it.
        file: String,
        /// The digest of what came.
        found: String,
        /// The digest that the hub states.
        stated: String,
    },

    /// The connection broke off. What came is kept.
    #[error(
        "the connection broke off after {received} of {size} bytes of {file} of {repository} ({cause}); run it again, and it \
         goes on from there"
    )]
    Interrupted {
        /// The repository.
        repository: Repository,
        /// The path in it.
        file: String,
        /// Bytes that are there.
        received: u64,
        /// Bytes of the whole file.
        size: u64,
        /// What the network says.
        cause: String,
    },

    /// Another answer of the hub's.
    #[error("{endpoint} failed on {repository}: {cause}; try again later")]
    Hub {
        /// What was to be fetched.
        repository: Repository,
        /// The hub.
        endpoint: String,
        /// What it said.
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
        /// What was written.
        path: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },

    /// The cache cannot be read.
    #[error("cannot read {}: {source}", .path.display())]
    Read {
        /// What was read.
        path: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },

    /// A model of the user's own is not the cache's to remove.
    #[error("`{wanted}` lies in {}, which is not the hub's cache; remove the folder yourself", .folder.display())]
    NotInCache {
        /// What was asked for.
        wanted: String,
        /// Where it lies.
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

/// The innermost of an error's causes, which says what happened; those around it say where.
pub(crate) fn root_cause(error: &dyn std::error::Error) -> String {
    let mut innermost = error;
    while let Some(source) = innermost.source() {
        innermost = source;
    }
    innermost.to_string()
}
