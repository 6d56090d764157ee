//! What this host adds to Spin's manifest.

use manifest::Format;

use crate::capabilities::Capabilities;
use crate::triggers;

/// What this host's triggers and capabilities have in a manifest.
#[must_use]
pub fn format() -> Format {
    Format {
        triggers: triggers::sections(),
        grants: Capabilities::sections(),
    }
}
