//! Names of models: OpenAI's sizes and distil-whisper's, each with the repository that faster-whisper 1.2 uses for it.

use super::repository::Repository;

/// Name, and repository on the hub.
pub const KNOWN: [(&str, &str); 19] = [
    ("tiny.en", "Systran/faster-whisper-tiny.en"),
    ("tiny", "Systran/faster-whisper-tiny"),
    ("base.en", "Systran/faster-whisper-base.en"),
    ("base", "Systran/faster-whisper-base"),
    ("small.en", "Systran/faster-whisper-small.en"),
    ("small", "Systran/faster-whisper-small"),
    ("medium.en", "Systran/faster-whisper-medium.en"),
    ("medium", "Systran/faster-whisper-medium"),
    ("large-v1", "Systran/faster-whisper-large-v1"),
    ("large-v2", "Systran/faster-whisper-large-v2"),
    ("large-v3", "Systran/faster-whisper-large-v3"),
    ("large", "Systran/faster-whisper-large-v3"),
    (
        "large-v3-turbo",
        "mobiuslabsgmbh/faster-whisper-large-v3-turbo",
    ),
    ("turbo", "mobiuslabsgmbh/faster-whisper-large-v3-turbo"),
    ("distil-small.en", "Systran/faster-distil-whisper-small.en"),
    (
        "distil-medium.en",
        "Systran/faster-distil-whisper-medium.en",
    ),
    ("distil-large-v2", "Systran/faster-distil-whisper-large-v2"),
    ("distil-large-v3", "Systran/faster-distil-whisper-large-v3"),
    ("distil-large-v3.5", "distil-whisper/distil-large-v3.5-ct2"),
];

/// The repository of a name.
pub(crate) fn repository(name: &str) -> Option<Repository> {
    let (_, id) = KNOWN.iter().find(|(known, _)| *known == name)?;
    Repository::parse(id)
}

/// The most similar names, the nearest first.
pub(crate) fn near(name: &str) -> Vec<&'static str> {
    /// Lower Jaro-Winkler similarities are common between unrelated names.
    const LIKE: f64 = 0.8;
    let name = name.to_lowercase();
    let mut near: Vec<(f64, &str)> = KNOWN
        .iter()
        .map(|(known, _)| (strsim::jaro_winkler(&name, known), *known))
        .filter(|(likeness, _)| *likeness >= LIKE)
        .collect();
    near.sort_by(|(a, _), (b, _)| b.total_cmp(a));
    near.truncate(3);
    near.into_iter().map(|(_, known)| known).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_has_a_repository() {
        for (name, id) in KNOWN {
            assert_eq!(repository(name).unwrap().to_string(), id);
        }
        assert!(repository("huge").is_none());
    }

    #[test]
    fn near_names_are_offered_the_nearest_first() {
        assert_eq!(near("smal")[0], "small");
        assert_eq!(near("Large-V3")[0], "large-v3");
        assert_eq!(near("tiny-en")[0], "tiny.en");
        assert!(near("qwxz").is_empty());
    }
}
