//! Deployment: components that are added to the running host, besides those of the manifest.
//!
//! A change is prepared apart from what is served: validated, composed, compiled, instantiated once and, on request, probed.
//! Only then is it written to disk and swapped in, as one value; a change that fails at any step changes nothing. Requests in
//! flight finish on the revision they started with, which is freed after the last of them. Changes are serialised.

mod deployments;
mod folder;
mod record;
mod space;
mod version1;

pub use deployments::{DeployError, Deployments};
pub use record::{Deployed, MAX_REVISIONS, Record, Revision};
