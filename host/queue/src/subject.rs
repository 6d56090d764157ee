//! Subjects of messages: tokens with a `.` between them.

use std::fmt;
use std::str::FromStr;

/// Whether a message can be sent to this subject: it has no wildcard, no empty token and no white space.
#[must_use]
pub fn is_subject(text: &str) -> bool {
    tokens(text).is_some_and(|mut tokens| tokens.all(|token| token != "*" && token != ">"))
}

/// Whether a subject controls the server or what it keeps, such as the messages of a stream, or is one of the host's own.
#[must_use]
pub fn is_reserved_subject(text: &str) -> bool {
    text.starts_with('$') || text.starts_with("whisper-")
}

/// Returns the tokens of a subject or pattern, unless one is empty or has white space or control characters.
fn tokens(text: &str) -> Option<impl Iterator<Item = &str>> {
    let is_token = |token: &str| {
        !token.is_empty() && !token.contains(|c: char| c.is_whitespace() || c.is_control())
    };
    text.split('.').all(is_token).then(|| text.split('.'))
}

/// A pattern of subjects: `*` stands for one token, `>` at the end for one or more.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pattern(String);

impl FromStr for Pattern {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let invalid = |why: &str| Err(format!("\"{text}\" is not a subject: {why}"));
        let Some(tokens) = tokens(text) else {
            return invalid("use words with a `.` between them, without white space");
        };
        let tokens: Vec<&str> = tokens.collect();
        if tokens[..tokens.len() - 1].contains(&">") {
            return invalid("`>` stands at the end only");
        }
        Ok(Self(text.to_owned()))
    }
}

impl Pattern {
    /// Returns whether the pattern matches a subject. A wildcard as the first token matches neither reserved subjects nor those to
    /// which others get their answers (`_INBOX`).
    #[must_use]
    pub fn matches(&self, subject: &str) -> bool {
        let mut subject = subject.split('.');
        let mut is_first = true;
        for token in self.0.split('.') {
            let Some(actual) = subject.next() else {
                return false;
            };
            let is_wild = matches!(token, "*" | ">");
            let is_special = is_reserved_subject(actual) || actual.starts_with('_');
            if is_wild && is_first && is_special || !is_wild && token != actual {
                return false;
            }
            if token == ">" {
                return true;
            }
            is_first = false;
        }
        subject.next().is_none()
    }

    /// Returns the pattern.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::{Pattern, is_subject};

    #[test]
    fn wildcards_match_as_in_nats() {
        let matches = |pattern: &str, subject| pattern.parse::<Pattern>().unwrap().matches(subject);
        assert!(matches("a.b", "a.b"));
        assert!(!matches("a.b", "a"));
        assert!(!matches("a", "a.b"));
        assert!(!matches("a.b", "a.B"));
        assert!(matches("a.*", "a.b"));
        assert!(!matches("a.*", "a"));
        assert!(!matches("a.*", "a.b.c"));
        assert!(matches("*.b", "a.b"));
        assert!(matches("a.>", "a.b"));
        assert!(matches("a.>", "a.b.c"));
        assert!(!matches("a.>", "a"));
        assert!(matches(">", "a.b"));
        assert!(!matches(">", "$JS.API.STREAM.DELETE.x"));
        assert!(!matches("*.API.>", "$JS.API.STREAM.DELETE.x"));
        assert!(matches("$SRV.PING", "$SRV.PING"));
    }

    #[test]
    fn malformed_subjects_are_refused() {
        for text in ["", ".", "a.", ".a", "a..b", "a b", "a.\u{1}", "a\n"] {
            assert!(!is_subject(text), "{text:?}");
            assert!(text.parse::<Pattern>().is_err(), "{text:?}");
        }
        for text in ["a.*", ">", "a.>"] {
            assert!(!is_subject(text), "{text:?}");
            assert!(text.parse::<Pattern>().is_ok(), "{text:?}");
        }
        assert!(">.a".parse::<Pattern>().is_err());
        assert!(is_subject("orders.a*b"));
    }
}
