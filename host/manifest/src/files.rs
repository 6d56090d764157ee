//! `files` of a component: which files of the manifest's folder it sees, and at which paths.

use std::path::{Component, Path, PathBuf};

use schemars::JsonSchema;
use serde::Deserialize;

use super::form::ShortOr;

/// An entry of `files`: a path or a pattern like `"assets/**/*"`, whose files keep their paths, or a [`Placement`].
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(try_from = "ShortOr<Placement>")]
#[schemars(with = "ShortOr<Placement>")]
pub enum Files {
    /// A file, a folder with everything in it, or a glob pattern; relative to the manifest's folder, and mounted at the
    /// same path below `/`.
    Pattern(Pattern),
    /// A file or a folder mounted at another path.
    Placement(Placement),
}

/// `{ source = "static", destination = "/public" }`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Placement {
    /// A file or a folder, relative to the manifest's folder.
    pub source: PathBuf,
    /// The absolute path at which the component sees it.
    pub destination: PathBuf,
}

/// A glob pattern, relative to the manifest's folder: `*` and `?` within a name, `**` for any number of folders, `[a-z]`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(try_from = "String")]
#[schemars(with = "String")]
pub struct Pattern(glob::Pattern);

/// Why an entry of `files` or `exclude_files` cannot be used.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum FilesError {
    /// The path is outside the manifest's folder.
    #[error(
        "\"{0}\" must be a path inside the manifest's folder, without a leading `/` and without `..`"
    )]
    Outside(String),
    /// The destination is not an absolute path.
    #[error("destination \"{0}\" must start with `/` and must not contain `..`")]
    Destination(String),
    /// Not a glob pattern.
    #[error("\"{0}\" is not a pattern: {1}")]
    Pattern(String, &'static str),
}

impl TryFrom<ShortOr<Placement>> for Files {
    type Error = FilesError;

    fn try_from(entry: ShortOr<Placement>) -> Result<Self, FilesError> {
        match entry {
            ShortOr::Short(pattern) => Pattern::try_from(pattern).map(Files::Pattern),
            ShortOr::Full(mut placement) => {
                if !is_inside(&placement.source) {
                    return Err(FilesError::Outside(placement.source.display().to_string()));
                }
                placement.source = normalised(&placement.source);
                match placement.destination.strip_prefix("/") {
                    Ok(relative) if is_inside(relative) => Ok(Files::Placement(placement)),
                    _ => Err(FilesError::Destination(
                        placement.destination.display().to_string(),
                    )),
                }
            }
        }
    }
}

impl TryFrom<String> for Pattern {
    type Error = FilesError;

    fn try_from(text: String) -> Result<Self, FilesError> {
        if !is_inside(Path::new(&text)) {
            return Err(FilesError::Outside(text));
        }
        let text = normalised(Path::new(&text)).display().to_string();
        match glob::Pattern::new(&text) {
            Ok(pattern) => Ok(Self(pattern)),
            Err(error) => Err(FilesError::Pattern(text, error.msg)),
        }
    }
}

impl Pattern {
    /// The pattern, normalised.
    #[must_use]
    pub fn as_str(&self) -> &str {
        self.0.as_str()
    }

    /// Returns whether it matches a path. `*` and `?` do not match `/`.
    #[must_use]
    pub fn matches(&self, path: &Path) -> bool {
        /// As in a shell, except that a leading dot need not be matched explicitly.
        const OPTIONS: glob::MatchOptions = glob::MatchOptions {
            case_sensitive: true,
            require_literal_separator: true,
            require_literal_leading_dot: false,
        };
        self.0.matches_path_with(path, OPTIONS)
    }
}

/// Returns whether a relative path stays inside its folder.
fn is_inside(path: &Path) -> bool {
    path.components()
        .all(|part| matches!(part, Component::Normal(_) | Component::CurDir))
}

/// Normalises a path: removes `.` and repeated `/`, so that a pattern matches it however it is written.
fn normalised(path: &Path) -> PathBuf {
    path.components()
        .filter(|part| matches!(part, Component::Normal(_)))
        .collect()
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::Pattern;

    #[test]
    fn patterns_match_like_in_a_shell() {
        let matches = |pattern: &str, path: &str| {
            Pattern::try_from(pattern.to_owned())
                .unwrap()
                .matches(Path::new(path))
        };
        assert!(matches("a/*.txt", "a/b.txt"));
        assert!(!matches("a/*.txt", "a/b/c.txt"));
        assert!(matches("./a//*.txt", "a/b.txt"));
        assert!(matches("a/**/*.txt", "a/b/c.txt"));
        assert!(matches("a/**/*.txt", "a/c.txt"));
        assert!(matches("**/*", "a/.hidden"));
    }

    #[test]
    fn patterns_outside_the_folder_are_refused() {
        for pattern in ["/etc/*", "../*", "a/../../b"] {
            assert!(Pattern::try_from(pattern.to_owned()).is_err(), "{pattern}");
        }
    }
}
