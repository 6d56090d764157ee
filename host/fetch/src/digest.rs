//! Digests that files are verified against: SHA-256, and git's SHA-1 of small files on the Hugging Face hub.

use std::fmt;
use std::io::{self, Read};

use sha2::Digest as _;

/// The digest of a file's content, in hexadecimal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Digest {
    Sha256(String),
    /// SHA-1 of `blob`, a space, the size in bytes, a zero byte and the content.
    Git {
        digits: String,
        size: u64,
    },
}

impl Digest {
    /// The digest in an `ETag` of the hub, for a file of `size` bytes. None if the tag is not a digest.
    pub fn from_etag(etag: &str, size: u64) -> Option<Self> {
        let digits = etag.trim_start_matches("W/").trim_matches('"');
        let hex = digits
            .bytes()
            .all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
        let digits = digits.to_owned();
        match digits.len() {
            64 if hex => Some(Self::Sha256(digits)),
            40 if hex => Some(Self::Git { digits, size }),
            _ => None,
        }
    }

    pub fn digits(&self) -> &str {
        match self {
            Self::Sha256(digits) | Self::Git { digits, .. } => digits,
        }
    }

    /// A hasher for a digest of the same kind.
    pub fn hasher(&self) -> Hasher {
        match self {
            Self::Sha256(_) => Hasher::Sha256(sha2::Sha256::new()),
            Self::Git { size, .. } => {
                let hasher = sha1::Sha1::new().chain_update(format!("blob {size}\0"));
                Hasher::Git(hasher, *size)
            }
        }
    }
}

impl From<&manifest::Digest> for Digest {
    fn from(digest: &manifest::Digest) -> Self {
        Self::Sha256(digest.hex())
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Sha256(digits) => write!(f, "sha256:{digits}"),
            Self::Git { digits, .. } => write!(f, "git:{digits}"),
        }
    }
}

/// Computes a [`Digest`] piece by piece.
#[derive(Clone)]
pub(crate) enum Hasher {
    Sha256(sha2::Sha256),
    /// With the size that the digest begins with.
    Git(sha1::Sha1, u64),
}

impl Hasher {
    pub fn update(&mut self, bytes: &[u8]) {
        match self {
            Self::Sha256(hasher) => hasher.update(bytes),
            Self::Git(hasher, _) => hasher.update(bytes),
        }
    }

    /// Reads to the end, and returns how many bytes there were.
    pub fn read(&mut self, reader: &mut impl Read) -> io::Result<u64> {
        let mut buffer = vec![0; 1 << 20];
        let mut total = 0;
        loop {
            match reader.read(&mut buffer)? {
                0 => return Ok(total),
                read => {
                    self.update(&buffer[..read]);
                    total += read as u64;
                }
            }
        }
    }

    pub fn finish(self) -> Digest {
        match self {
            Self::Sha256(hasher) => Digest::Sha256(hex::encode(hasher.finalize())),
            Self::Git(hasher, size) => Digest::Git {
                digits: hex::encode(hasher.finalize()),
                size,
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Digest;

    /// The expected values are those of `git hash-object` and `sha256sum`.
    #[test]
    fn digests_are_those_of_git_and_of_sha256sum() {
        for (etag, expected) in [
            (
                "\"ce013625030ba8dba906f756967f9e9ca394464a\"",
                "git:ce013625030ba8dba906f756967f9e9ca394464a",
            ),
            (
                "W/\"5891b5b522d5df086d0ff0b110fbd9d21bb4fc7163af34d08286a2e846f6be03\"",
                "sha256:5891b5b522d5df086d0ff0b110fbd9d21bb4fc7163af34d08286a2e846f6be03",
            ),
        ] {
            let stated = Digest::from_etag(etag, 6).unwrap();
            assert_eq!(stated.to_string(), expected);
            let mut hasher = stated.hasher();
            hasher.update(b"hel");
            hasher.update(b"lo\n");
            assert_eq!(hasher.finish(), stated);
        }
    }

    #[test]
    fn what_is_not_a_digest_is_none() {
        for etag in [
            "",
            "\"../../../../etc/passwd\"",
            "\"5f2a-19\"",
            &"g".repeat(40),
        ] {
            assert_eq!(Digest::from_etag(etag, 6), None, "{etag}");
        }
    }
}
