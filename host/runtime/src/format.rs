//! Manifest fields that this host adds to Spin's.

use manifest::Format;

use crate::capabilities::Capabilities;
use crate::triggers;

/// Returns the manifest sections of this host's triggers and capabilities.
#[must_use]
pub fn format() -> Format {
    Format {
        triggers: triggers::sections(),
        grants: Capabilities::sections(),
    }
}
