//! The section `[[trigger.nats]]` of a manifest.

use schemars::JsonSchema;
use serde::Deserialize;

use crate::subject::Subjects;

/// `[[trigger.nats]]`: messages on the subject go to the component.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "NatsTrigger")]
pub(super) struct Config {
    /// The subject: words with a `.` between them. `*` stands for one word, `>` at the end for one or more.
    pub(super) subject: Subjects,
    /// Of all hosts with a trigger in the same group, one gets each message. Default: the component's id.
    pub(super) queue_group: Option<Group>,
}

/// The name of a queue group.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(try_from = "String")]
#[schemars(with = "String")]
pub(super) struct Group(pub(super) String);

impl TryFrom<String> for Group {
    type Error = String;

    fn try_from(name: String) -> Result<Self, String> {
        match queue::is_subject(&name) {
            true => Ok(Self(name)),
            false => Err(format!(
                "\"{name}\" is not the name of a queue group: use a word without white space"
            )),
        }
    }
}
