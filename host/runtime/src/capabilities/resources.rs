//! The host's resources that capabilities use.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::PathBuf;
use std::sync::Arc;

/// The resources that capabilities are created from.
pub struct Resources {
    /// The loaded models, by the id used in `ai_models`. `None`: other hosts have them, and run the components that use one.
    pub models: Option<BTreeMap<String, Arc<inference::Engine>>>,
    /// The store of points.
    pub store: Arc<timeseries::Store>,
    /// The connection to NATS, if there is one.
    pub queue: Option<queue::Connection>,
    /// Environment variables of the host. `SPIN_VARIABLE_API_TOKEN` is the value of the application variable `api_token`.
    pub environment: Vec<(OsString, OsString)>,
    /// PEM files of certificate authorities that outbound requests trust in addition to Mozilla's list.
    pub outbound_authorities: Vec<PathBuf>,
    /// Folder of the copies of components' files.
    pub files: PathBuf,
}
