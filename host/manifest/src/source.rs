//! `source` of a component: where to get its bytes.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use schemars::JsonSchema;
use serde::Deserialize;
use sha2::{Digest as _, Sha256};

use super::form::ShortOr;

/// Where to get a component's bytes.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(try_from = "ShortOr<Remote>")]
#[schemars(with = "ShortOr<Remote>")]
pub enum Source {
    /// A `.wasm` file, relative to the manifest's folder.
    Path(PathBuf),
    /// A file on a web server.
    Url {
        /// `https://…`.
        url: String,
        /// The file's digest.
        digest: Digest,
    },
    /// An artifact in an OCI registry: `"oci://registry.example/name:1.0.0"`.
    Oci(Reference),
    /// A package in a registry.
    Package(Package),
}

/// `{ url, digest }` or `{ registry, package, version }`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "RemoteSource")]
struct Remote {
    /// The URL of the file.
    url: Option<String>,
    /// `sha256:` and the file's SHA-256 in hexadecimal.
    digest: Option<String>,
    /// Host name of a package registry.
    registry: Option<String>,
    /// `namespace:name`.
    package: Option<String>,
    /// An exact version.
    version: Option<String>,
}

impl TryFrom<ShortOr<Remote>> for Source {
    type Error = String;

    fn try_from(form: ShortOr<Remote>) -> Result<Self, String> {
        let remote = match form {
            ShortOr::Short(text) if text.starts_with(Reference::SCHEME) => {
                return text.parse().map(Self::Oci);
            }
            ShortOr::Short(text) if text.contains("://") => {
                return Err(format!(
                    "source \"{text}\": write {{ url = \"{text}\", digest = \"sha256:…\" }}, with the SHA-256 of the file"
                ));
            }
            ShortOr::Short(text) => return Ok(Self::Path(text.into())),
            ShortOr::Full(remote) => remote,
        };
        match remote {
            Remote {
                url: Some(url),
                digest,
                registry: None,
                package: None,
                version: None,
            } => {
                if !url.starts_with("https://") && !url.starts_with("http://") {
                    return Err(format!("source: the url \"{url}\" must begin with https:// or http://"));
                }
                let digest = digest.ok_or(
                    "source: a `url` needs `digest = \"sha256:…\"`, the SHA-256 of the file, so that nobody can replace it",
                )?;
                let digest = digest.parse()?;
                Ok(Self::Url { url, digest })
            }
            Remote {
                url: None,
                digest: None,
                registry: Some(registry),
                package: Some(package),
                version: Some(version),
            } => {
                let parts: Vec<&str> = package.split(':').collect();
                if parts.len() != 2 || parts.contains(&"") {
                    return Err(format!("source: package \"{package}\" is not of the form namespace:name"));
                }
                let exact = version.starts_with(|c: char| c.is_ascii_digit())
                    && version.split('.').count() >= 3;
                if !exact {
                    return Err(format!("source: version \"{version}\" is not an exact version like \"1.2.3\""));
                }
                Ok(Self::Package(Package {
                    registry,
                    package,
                    version,
                }))
            }
            _ => Err(
                "source must be a path, \"oci://…\", { url, digest }, or { registry, package, version }"
                    .into(),
            ),
        }
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Path(path) => path.display().fmt(f),
            Self::Url { url, .. } => f.write_str(&without_secrets(url)),
            Self::Oci(reference) => reference.fmt(f),
            Self::Package(package) => write!(
                f,
                "{}@{} from {}",
                package.package, package.version, package.registry
            ),
        }
    }
}

/// Returns a URL without the parts that may be secret: the user name and password, and everything after the path.
fn without_secrets(url: &str) -> String {
    let path = url.split(['?', '#']).next().unwrap_or(url);
    let Some((scheme, rest)) = path.split_once("://") else {
        return path.to_owned();
    };
    let (authority, below) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    let host = authority.rsplit('@').next().unwrap_or(authority);
    format!("{scheme}://{host}{below}")
}

/// A reference to an artifact: `oci://REGISTRY/REPOSITORY:TAG`, or `@sha256:…` instead of the tag.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reference(oci_spec::distribution::Reference);

impl Reference {
    /// The prefix that distinguishes a reference from a path.
    pub const SCHEME: &'static str = "oci://";

    /// Returns the registry, the repository, and the tag or digest.
    #[must_use]
    pub fn oci(&self) -> &oci_spec::distribution::Reference {
        &self.0
    }

    /// Returns whether it may refer to another artifact later.
    #[must_use]
    pub fn may_move(&self) -> bool {
        self.0.digest().is_none()
    }
}

impl FromStr for Reference {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let rest = text.strip_prefix(Self::SCHEME).unwrap_or(text);
        let form = |why: &str| {
            format!(
                "\"{text}\" is not a reference like \"oci://registry.example/name:1.0.0\": {why}"
            )
        };
        // Other tools default to Docker's registry if none is given; here that would be a guess.
        let (registry, _) = rest
            .split_once('/')
            .ok_or_else(|| form("the registry is missing"))?;
        if !registry.contains(['.', ':']) && registry != "localhost" {
            return Err(form("it must begin with the registry's host name"));
        }
        oci_spec::distribution::Reference::try_from(rest)
            .map(Self)
            .map_err(|error| form(&error.to_string()))
    }
}

impl std::fmt::Display for Reference {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}{}", Self::SCHEME, self.0)
    }
}

/// A package in a registry, by name and version: `{ registry, package, version }`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Package {
    /// Host name, with an optional port.
    pub registry: String,
    /// `namespace:name`.
    pub package: String,
    /// An exact version.
    pub version: String,
}

/// A SHA-256 digest, written as `sha256:` and 64 hexadecimal digits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Digest([u8; 32]);

impl Digest {
    const PREFIX: &'static str = "sha256:";

    /// Computes the digest of `bytes`.
    #[must_use]
    pub fn of(bytes: &[u8]) -> Self {
        Self(Sha256::digest(bytes).into())
    }

    /// Returns the hexadecimal digits without the prefix.
    #[must_use]
    pub fn hex(&self) -> String {
        hex::encode(self.0)
    }
}

impl FromStr for Digest {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let form = || {
            format!(
                "digest \"{text}\" is not of the form sha256:… with 64 hexadecimal digits, as `sha256sum` prints them"
            )
        };
        let digits = text.strip_prefix(Self::PREFIX).ok_or_else(form)?;
        if digits.len() != 64 || !digits.bytes().all(|digit| digit.is_ascii_hexdigit()) {
            return Err(form());
        }
        let mut bytes = [0; 32];
        for (byte, at) in bytes.iter_mut().zip((0..64).step_by(2)) {
            *byte = u8::from_str_radix(&digits[at..at + 2], 16).map_err(|_| form())?;
        }
        Ok(Self(bytes))
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", Self::PREFIX, self.hex())
    }
}

#[cfg(test)]
mod tests {
    use super::{Digest, Reference, without_secrets};

    #[test]
    fn digests_match_the_example_of_fips_180_4() {
        // The standard's example: the message "abc".
        let text = "sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert_eq!(Digest::of(b"abc").to_string(), text);
        assert_eq!(text.parse(), Ok(Digest::of(b"abc")));
        assert!(text.to_uppercase().parse::<Digest>().is_err());
        assert!(text[..70].parse::<Digest>().is_err());
        assert!(
            format!("sha256:{}", "+a".repeat(32))
                .parse::<Digest>()
                .is_err()
        );
    }

    #[test]
    fn a_url_is_shown_without_its_secrets() {
        for (url, shown) in [
            ("https://a.example/b.wasm", "https://a.example/b.wasm"),
            (
                "https://me:secret@a.example:1/b?signature=x#y",
                "https://a.example:1/b",
            ),
            ("http://a.example?x=@", "http://a.example"),
        ] {
            assert_eq!(without_secrets(url), shown);
        }
    }

    #[test]
    fn references_name_a_registry_a_repository_and_a_tag_or_digest() {
        let digest = format!("sha256:{}", "a".repeat(64));
        for (text, moves) in [
            ("oci://registry.example/name:1.0.0".to_owned(), true),
            ("oci://localhost:5000/a/b:latest".to_owned(), true),
            (format!("oci://registry.example/name@{digest}"), false),
        ] {
            let reference: Reference = text.parse().unwrap();
            assert_eq!(reference.to_string(), text);
            assert_eq!(reference.may_move(), moves, "{text}");
        }
        for text in [
            "oci://name",
            "oci://library/name:1",
            "oci://registry.example/UPPER:1",
        ] {
            assert!(text.parse::<Reference>().is_err(), "{text}");
        }
    }
}
