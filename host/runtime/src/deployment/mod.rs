//! Deployment: components that are handed to the running host, beside those of the manifest.
//!
//! A change is made aside: validated, composed, compiled, instantiated once and, where asked for, probed. Only then is it
//! written to disk and swapped in, as one value; a change that fails at any step changes nothing. Requests under way finish
//! on the revision they began with, which is freed after the last of them. Changes are made one after another.

mod deployments;
mod folder;
mod record;
mod version1;

pub use deployments::{DeployError, Deployments};
pub use record::{Deployed, MAX_REVISIONS, Record, Revision};
