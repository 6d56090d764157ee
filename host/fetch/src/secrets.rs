//! Secrets in texts for people.

use reqwest::Url;

/// A URL for messages: without user and password, and without the query, which may have signatures and tokens.
#[must_use]
pub fn without_secrets(url: Url) -> Url {
    let mut url = without_user(url);
    url.set_query(None);
    url.set_fragment(None);
    url
}

pub(crate) fn without_user(mut url: Url) -> Url {
    // Both fail for a URL that cannot have them.
    let _ = url.set_username("");
    let _ = url.set_password(None);
    url
}

/// A text without the queries of the URLs in it, which may have signatures.
pub(crate) fn without_queries(text: &str) -> String {
    let words = text.split_inclusive(char::is_whitespace);
    words
        .map(|word| match word.split_once('?') {
            // What follows the URL is not part of it: `(url=https://server/file?signature)`.
            Some((url, query)) if url.contains("://") => {
                let end = query
                    .trim_end()
                    .trim_end_matches([')', ',', '.', ':', ';', '"', '`']);
                format!("{url}{}", &query[end.len()..])
            }
            _ => word.to_owned(),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::without_queries;

    #[test]
    fn queries_of_urls_are_removed() {
        for (text, shown) in [
            ("is it? no", "is it? no"),
            (
                "500 (url=https://a.example/b?c=d)",
                "500 (url=https://a.example/b)",
            ),
            (
                "403 (url=https://a.example/b?c=d,e)&f=(g), id=h) at https://a.example/?i",
                "403 (url=https://a.example/b), id=h) at https://a.example/",
            ),
        ] {
            assert_eq!(without_queries(text), shown);
        }
    }
}
