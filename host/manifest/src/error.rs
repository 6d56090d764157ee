//! Errors in a manifest: where they are, and what to write instead.

use std::ops::Range;
use std::path::{Path, PathBuf};

/// An error in a manifest.
#[derive(Debug, thiserror::Error)]
#[error("{}{}: {message}", path.display(), line.map(|l| format!(":{l}")).unwrap_or_default())]
pub struct ManifestError {
    path: PathBuf,
    line: Option<usize>,
    message: String,
}

/// Fields of Spin's manifest that this host does not need or does not support yet. They are rejected: ignoring a grant or a setting
/// would change what the application does.
const NOT_SUPPORTED: [&str; 7] = [
    "redis",
    "allowed_http_hosts",
    "targets",
    "profile",
    // Fields of a trigger: middleware, and a response without a component.
    "dependencies",
    "components",
    "static_response",
];

impl ManifestError {
    pub(super) fn unreadable(path: &Path, error: &std::io::Error) -> Self {
        Self::whole(
            path,
            format!("cannot be read: {error}; name the manifest with -f FILE"),
        )
    }

    /// An error about the whole file.
    pub(super) fn whole(path: &Path, message: String) -> Self {
        Self {
            path: path.to_path_buf(),
            line: None,
            message,
        }
    }

    /// An error at a location in the file.
    pub(super) fn at(path: &Path, text: &str, span: Range<usize>, message: String) -> Self {
        let line = text.as_bytes()[..span.start.min(text.len())]
            .iter()
            .filter(|b| **b == b'\n')
            .count()
            + 1;
        Self {
            path: path.to_path_buf(),
            line: Some(line),
            message,
        }
    }

    /// An error of the TOML parser or of serde, with the nearest valid name for an unknown field.
    ///
    /// `common` names fields that are valid there in addition to those the error lists.
    pub(super) fn from_toml(
        path: &Path,
        text: &str,
        error: &toml::de::Error,
        common: &[&str],
    ) -> Self {
        let message = readable(error.message(), common);
        match error.span() {
            Some(span) => Self::at(path, text, span, message),
            None => Self::whole(path, message),
        }
    }
}

/// A message of the TOML parser or of serde, with the nearest valid name for an unknown field.
pub(super) fn readable(message: &str, common: &[&str]) -> String {
    let message = without_value(message);
    let mut names = message.split('`').skip(1).step_by(2);
    match (message.starts_with("unknown field"), names.next()) {
        (true, Some(field)) => {
            let valid: Vec<&str> = common.iter().copied().chain(names).collect();
            unknown_field(field, &valid)
        }
        _ => message,
    }
}

/// Returns the field that a serde message reports as unknown.
pub(super) fn unknown(message: &str) -> Option<&str> {
    message.strip_prefix("unknown field `")?.split('`').next()
}

/// The message for a field that is not one of the `valid` ones.
pub(super) fn unknown_field(field: &str, valid: &[&str]) -> String {
    if NOT_SUPPORTED.contains(&field) {
        return format!(
            "field `{field}` of Spin's manifest is not supported by this host: remove it"
        );
    }
    match valid.is_empty() {
        true => format!("unknown field `{field}`; no fields are valid here: remove it"),
        false => format!(
            "unknown field `{field}`{}; valid here: {}",
            did_you_mean(field, valid.iter().copied()),
            valid.join(", ")
        ),
    }
}

/// serde's message. If it is about a value of the wrong type, the value is removed: it may be a secret.
fn without_value(message: &str) -> String {
    let Some((found, expected)) = message
        .strip_prefix("invalid type: ")
        .and_then(|rest| rest.rsplit_once(", expected "))
    else {
        return message.to_owned();
    };
    let kind = found.split(['"', '`']).next().unwrap_or(found).trim();
    format!("found {kind} where {expected} is expected")
}

/// Returns `, did you mean …?` if a valid name is similar enough.
pub(super) fn did_you_mean<'a>(name: &str, valid: impl Iterator<Item = &'a str>) -> String {
    /// Below this similarity (0 to 1, Jaro-Winkler), a suggestion would be more confusing than none.
    const MIN_SIMILARITY: f64 = 0.75;
    valid
        .map(|candidate| (strsim::jaro_winkler(name, candidate), candidate))
        .filter(|(similarity, _)| *similarity >= MIN_SIMILARITY)
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .map(|(_, candidate)| format!(", did you mean `{candidate}`?"))
        .unwrap_or_default()
}
