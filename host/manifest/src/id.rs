//! Ids of components.

/// Returns why `id` is not a valid component id, or `None` if it is valid. The rules are Spin's.
pub fn invalid_id(id: &str) -> Option<&'static str> {
    let word = |word: &str| {
        let upper = word.starts_with(|c: char| c.is_ascii_uppercase());
        let allowed = |c: char| {
            c.is_ascii_digit()
                || match upper {
                    true => c.is_ascii_uppercase(),
                    false => c.is_ascii_lowercase(),
                }
        };
        word.starts_with(|c: char| c.is_ascii_alphabetic()) && word.chars().all(allowed)
    };
    (!id.split('-').all(word)).then_some(
        "it must be words joined by `-`, each a letter followed by letters and digits, all lower-case or all upper-case",
    )
}

#[cfg(test)]
mod tests {
    #[test]
    fn ids_follow_the_rules_of_spin() {
        for id in ["a", "my-comp", "a1-b2", "HTTP-server", "x-Y-z9"] {
            assert_eq!(super::invalid_id(id), None, "{id}");
        }
        for id in [
            "", "-", "a-", "a--b", "my_comp", "1-2-3", "a-1", "Ab", "aB", "é", "a.b",
        ] {
            assert!(super::invalid_id(id).is_some(), "{id}");
        }
    }
}
