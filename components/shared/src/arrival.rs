//! Arrival time of a request, from the header `x-request-start` set by the host.

use std::time::Duration;

/// Parses `t=<seconds with decimals>` as the time since 1970; `None` for any other format.
pub fn parse(value: &str) -> Option<Duration> {
    let seconds: f64 = value.trim().strip_prefix("t=")?.parse().ok()?;
    Duration::try_from_secs_f64(seconds).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seconds_with_decimals_are_parsed() {
        assert_eq!(
            parse("t=1700000000.25"),
            Some(Duration::from_millis(1_700_000_000_250))
        );
    }

    #[test]
    fn other_formats_are_none() {
        for value in ["", "1700000000", "t=", "t=-1", "t=nan", "t=soon", "t=1e300"] {
            assert_eq!(parse(value), None, "{value}");
        }
    }
}
