//! Ids of components.

/// Why this cannot be the id of a component; none if it can. The rules are Spin's.
pub fn invalid_id(id: &str) -> Option<&'static str> {
    let word = |word: &str| {
        let upper = word.starts_with(|c: char| c.is_ascii_uppercase());
        let of_word = |c: char| {
            c.is_ascii_digit()
                || match upper {
                    true => c.is_ascii_uppercase(),
                    false => c.is_ascii_lowercase(),
                }
        };
        word.starts_with(|c: char| c.is_ascii_alphabetic()) && word.chars().all(of_word)
    };
    (!id.split('-').all(word)).then_some(
        "it must be words with `-` between them, each of a letter and then letters and digits, all small or all capital",
    )
}

#[cfg(test)]
mod tests {
    #[test]
    fn ids_are_those_of_spin() {
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
