//! A model repository of the hub.

use std::fmt;

/// `owner/name`, in the characters that the hub allows. It is also safe in a URL and in a file name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Repository {
    pub(crate) owner: String,
    pub(crate) name: String,
}

impl Repository {
    /// Parses `owner/name`.
    pub fn parse(id: &str) -> Option<Self> {
        let (owner, name) = id.split_once('/')?;
        let fits = |part: &str| {
            !part.is_empty()
                && !part.starts_with(['-', '.'])
                && !part.ends_with(['-', '.'])
                && !part.contains("--")
                && !part.contains("..")
                && part
                    .chars()
                    .all(|c| c.is_ascii_alphanumeric() || "-_.".contains(c))
        };
        (fits(owner) && fits(name)).then(|| Self {
            owner: owner.to_owned(),
            name: name.to_owned(),
        })
    }
}

impl fmt::Display for Repository {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.owner, self.name)
    }
}

#[cfg(test)]
mod tests {
    use super::Repository;

    #[test]
    fn an_id_is_an_owner_and_a_name() {
        for id in [
            "openai/whisper-small",
            "Systran/faster-whisper-tiny.en",
            "a/b_c",
        ] {
            assert_eq!(Repository::parse(id).unwrap().to_string(), id);
        }
        for id in [
            "base", "/a", "a/", "a/b/c", "../a", "a/..", "a/.b", "a/b c", "a--b/c", "a/b?c",
        ] {
            assert_eq!(Repository::parse(id), None, "{id}");
        }
    }
}
