//! `[application]`: the application's name and its application-wide settings.

use schemars::JsonSchema;
use serde::Deserialize;

/// The application's metadata and settings.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Application {
    /// Its name.
    pub name: String,
    /// Its version, if stated.
    pub version: Option<String>,
    /// A one-sentence description.
    pub description: Option<String>,
    /// Its authors.
    #[serde(default)]
    pub authors: Vec<String>,
    /// Settings for all triggers of a kind. None are configurable here.
    #[serde(default)]
    pub trigger: ApplicationTriggers,
    /// Settings of tools other than Spin.
    #[serde(default)]
    pub tool: ApplicationTools,
}

/// `[application.trigger]`.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ApplicationTriggers {
    /// `[application.trigger.http]`.
    #[serde(default)]
    pub http: ApplicationHttp,
}

/// `[application.trigger.http]`.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ApplicationHttp {
    /// The base path of all routes: `/`, the only one that Spin 3 supports.
    #[serde(default)]
    #[schemars(with = "Option<String>")]
    pub base: Option<Base>,
}

/// `base = "/"`.
#[derive(Debug, Clone, Deserialize)]
#[serde(try_from = "String")]
pub struct Base;

impl TryFrom<String> for Base {
    type Error = String;

    fn try_from(base: String) -> Result<Self, String> {
        match base.as_str() {
            "/" => Ok(Self),
            _ => Err(format!(
                "base \"{base}\" is not supported, as in Spin since version 3: write it in front of each route"
            )),
        }
    }
}

/// `[application.tool]`. Tables of other tools are ignored.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
pub struct ApplicationTools {
    /// `[application.tool.whisper-host]`.
    #[serde(default, rename = "whisper-host")]
    pub whisper_host: ApplicationSettings,
}

/// `[application.tool.whisper-host]`: there are no such settings yet.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ApplicationSettings {}
