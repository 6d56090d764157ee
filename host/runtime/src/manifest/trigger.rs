//! `[[trigger.http]]`.

use schemars::JsonSchema;
use serde::Deserialize;
use toml::Spanned;

use super::component::Component;
use super::form::ShortOr;

/// Requests whose path matches `route` go to `component`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HttpTrigger {
    /// A path; a segment may be `:name`, and a trailing `/...` matches everything below.
    pub route: Spanned<String>,
    /// The component's id.
    pub component: Spanned<String>,
}

/// `[[trigger.http]]`: requests whose path matches the route go to the component.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "HttpTrigger")]
pub(super) struct HttpTriggerForm {
    /// What the trigger is called. Read by Spin, not by this host.
    #[serde(rename = "id")]
    pub(super) _id: Option<String>,
    /// A path; a segment may be `:name`, and a trailing `/...` matches everything below. `{ private = true }`: no
    /// request comes through this trigger.
    #[schemars(with = "ShortOr<PrivateRoute>")]
    pub(super) route: Spanned<ShortOr<PrivateRoute>>,
    /// The component's id, or the component itself, in the form of `[component.ID]`.
    #[schemars(with = "ShortOr<Component>")]
    pub(super) component: Spanned<ShortOr<Box<Component>>>,
    /// How the component is called.
    pub(super) executor: Option<Executor>,
}

/// `route = { private = true }`.
#[derive(Debug, Clone, Copy, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct PrivateRoute {
    /// Must be true.
    pub(super) private: bool,
}

/// `executor = { type = "http" }`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Executor {
    /// `http`, the default, or `spin`, which means the same: through `wasi:http`.
    #[serde(rename = "type")]
    #[schemars(with = "String")]
    pub(super) kind: Spanned<String>,
}

impl Executor {
    /// Why the executor cannot be used; none if it can.
    pub(super) fn refused(&self) -> Option<String> {
        match self.kind.get_ref().as_str() {
            "http" | "spin" => None,
            "wagi" => Some(
                "executor \"wagi\" is not supported: build the component for `wasi:http` (target wasm32-wasip2), and remove `executor`"
                    .into(),
            ),
            other => Some(format!(
                "there is no executor \"{other}\"; remove `executor`, or write {{ type = \"http\" }}"
            )),
        }
    }
}
