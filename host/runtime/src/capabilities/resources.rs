//! What the host has for capabilities to lend.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::PathBuf;
use std::sync::Arc;

/// What the capabilities are made of.
pub struct Resources {
    /// The loaded models, by the id that `ai_models` grants them under.
    pub models: BTreeMap<String, Arc<inference::Engine>>,
    /// The store of points.
    pub store: Arc<timeseries::Store>,
    /// Environment variables of the host. `SPIN_VARIABLE_API_TOKEN` is the value of the application variable `api_token`.
    pub environment: Vec<(OsString, OsString)>,
    /// PEM files of certificate authorities that outbound requests trust beside those of Mozilla's list.
    pub outbound_authorities: Vec<PathBuf>,
    /// Folder for copies of components' files.
    pub files: PathBuf,
}
