//! The digests by which the hub names files: SHA-256 of what lies in its large-file storage, and git's SHA-1 of the rest.

use std::fmt;

use sha2::Digest as _;

/// The digest of a file's content, in hexadecimal. It is also the file's name among the blobs of the cache.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Digest {
    Sha256(String),
    /// SHA-1 of `blob`, a space, the length, a zero byte and the content.
    Git(String),
}

impl Digest {
    /// What an `ETag` of the hub's states. None if it is not a digest.
    pub fn from_etag(etag: &str) -> Option<Self> {
        let digits = etag.trim_start_matches("W/").trim_matches('"');
        let hex = digits
            .bytes()
            .all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
        match digits.len() {
            64 if hex => Some(Self::Sha256(digits.to_owned())),
            40 if hex => Some(Self::Git(digits.to_owned())),
            _ => None,
        }
    }

    pub fn digits(&self) -> &str {
        match self {
            Self::Sha256(digits) | Self::Git(digits) => digits,
        }
    }

    /// Begins to compute a digest of the same kind, over `size` bytes.
    pub fn hasher(&self, size: u64) -> Hasher {
        match self {
            Self::Sha256(_) => Hasher::Sha256(sha2::Sha256::new()),
            Self::Git(_) => Hasher::Git(sha1::Sha1::new().chain_update(format!("blob {size}\0"))),
        }
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Sha256(digits) => write!(f, "sha256:{digits}"),
            Self::Git(digits) => write!(f, "git:{digits}"),
        }
    }
}

/// A digest that is being computed.
pub(crate) enum Hasher {
    Sha256(sha2::Sha256),
    Git(sha1::Sha1),
}

impl Hasher {
    pub fn update(&mut self, bytes: &[u8]) {
        match self {
            Self::Sha256(hasher) => hasher.update(bytes),
            Self::Git(hasher) => hasher.update(bytes),
        }
    }

    pub fn finish(self) -> Digest {
        match self {
            Self::Sha256(hasher) => Digest::Sha256(hex::encode(hasher.finalize())),
            Self::Git(hasher) => Digest::Git(hex::encode(hasher.finalize())),
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
            let stated = Digest::from_etag(etag).unwrap();
            assert_eq!(stated.to_string(), expected);
            let mut hasher = stated.hasher(6);
            hasher.update(b"hel");
            hasher.update(b"lo\n");
            assert_eq!(hasher.finish(), stated);
        }
    }

    #[test]
    fn what_is_no_digest_is_none() {
        for etag in [
            "",
            "\"../../../../etc/passwd\"",
            "\"5f2a-19\"",
            &"g".repeat(40),
        ] {
            assert_eq!(Digest::from_etag(etag), None, "{etag}");
        }
    }
}
