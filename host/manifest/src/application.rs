//! `[application]`: what the application is called, and what holds for all of it.

use schemars::JsonSchema;
use serde::Deserialize;

/// What the application is called.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Application {
    /// Its name.
    pub name: String,
    /// Its version, if stated.
    pub version: Option<String>,
    /// One sentence on it.
    pub description: Option<String>,
    /// Who wrote it.
    #[serde(default)]
    pub authors: Vec<String>,
    /// What holds for all triggers of a kind. Nothing of it is configurable here.
    #[serde(default)]
    pub trigger: ApplicationTriggers,
    /// Settings that Spin leaves to others.
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
    /// The path that all routes are below: `/`, the only one that Spin 3 has.
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

/// `[application.tool]`: tables of other tools are ignored.
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
