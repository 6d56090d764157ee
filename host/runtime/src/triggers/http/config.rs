//! The section `[[trigger.http]]` of a manifest.

use manifest::{ShortOr, Trigger};
use schemars::JsonSchema;
use serde::Deserialize;

/// `[[trigger.http]]`: requests whose path matches the route go to the component.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "HttpTrigger")]
pub(super) struct Config {
    /// A path; a segment may be `:name`, and a trailing `/...` matches everything below. `{ private = true }`: no
    /// request comes through this trigger.
    #[schemars(with = "ShortOr<PrivateRoute>")]
    route: Route,
    /// A path for requests to the route that wait in NATS for a worker: `POST` answers at once, with the path of the job, where the
    /// answer to the request is kept. For routes without `:name` and `...`.
    jobs: Option<String>,
    /// How the component is called.
    #[serde(rename = "executor")]
    _executor: Option<Executor>,
}

/// A route as written in the manifest.
#[derive(Debug, Deserialize)]
#[serde(try_from = "ShortOr<PrivateRoute>")]
enum Route {
    Path(String),
    Private,
}

/// `route = { private = true }`.
#[derive(Debug, Clone, Copy, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct PrivateRoute {
    /// Must be true.
    private: bool,
}

impl TryFrom<ShortOr<PrivateRoute>> for Route {
    type Error = String;

    fn try_from(form: ShortOr<PrivateRoute>) -> Result<Self, String> {
        match form {
            ShortOr::Short(path) if path.starts_with('/') => Ok(Self::Path(path)),
            ShortOr::Short(path) => Err(format!(
                "route \"{path}\" must start with `/`: write \"/{path}\""
            )),
            ShortOr::Full(form) if form.private => Ok(Self::Private),
            ShortOr::Full(_) => {
                Err("`private = false` is not a route: write a path like \"/hello\"".into())
            }
        }
    }
}

/// `executor = { type = "http" }`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Executor {
    /// `http`, the default, or `spin`, which means the same: through `wasi:http`.
    #[serde(rename = "type")]
    #[schemars(with = "String")]
    _kind: Kind,
}

/// A supported kind of executor.
#[derive(Debug, Deserialize)]
#[serde(try_from = "String")]
struct Kind;

impl TryFrom<String> for Kind {
    type Error = String;

    fn try_from(kind: String) -> Result<Self, String> {
        match kind.as_str() {
            "http" | "spin" => Ok(Self),
            "wagi" => Err(
                "executor \"wagi\" is not supported: build the component for `wasi:http` (target wasm32-wasip2), and remove `executor`"
                    .into(),
            ),
            other => Err(format!(
                "there is no executor \"{other}\"; remove `executor`, or write {{ type = \"http\" }}"
            )),
        }
    }
}

/// The paths of a trigger.
pub(super) struct Paths {
    /// Its route.
    pub(super) route: String,
    /// The path of its jobs.
    pub(super) jobs: Option<String>,
}

/// Returns the paths of a trigger; `None` if its route is private.
///
/// # Errors
/// When the entry is malformed, which is checked when the manifest is read.
pub(super) fn paths(trigger: &Trigger) -> anyhow::Result<Option<Paths>> {
    let config: Config = trigger.config.clone().try_into()?;
    Ok(match config.route {
        Route::Path(route) => Some(Paths {
            route,
            jobs: config.jobs,
        }),
        Route::Private => None,
    })
}
