//! Subjects of messages in a manifest.

use queue::Pattern;
use schemars::JsonSchema;
use serde::Deserialize;

/// Subjects of messages: words with a `.` between them. `*` stands for one word, `>` at the end for one or more.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(try_from = "String")]
#[schemars(with = "String")]
pub(crate) struct Subjects(pub(crate) Pattern);

impl TryFrom<String> for Subjects {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse().map(Self)
    }
}
