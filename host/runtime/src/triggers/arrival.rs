//! When the host received a request or a message, for components that record latency.

use std::time::SystemTime;

/// The header with that time: `t=<seconds since 1970>`. Only the host sets it.
pub(super) const HEADER: &str = "x-request-start";

/// Returns the current time as the header's value; `None` if the clock is before 1970.
pub(super) fn now() -> Option<String> {
    let time = SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .ok()?;
    Some(format!("t={}.{:06}", time.as_secs(), time.subsec_micros()))
}

/// Sets the header of a message.
pub(super) fn add(headers: &mut Vec<(String, String)>) {
    headers.retain(|(name, _)| !name.eq_ignore_ascii_case(HEADER));
    headers.extend(now().map(|now| (HEADER.to_owned(), now)));
}
