//! When a request arrived, as the host says in the header `x-request-start`.

use std::time::Duration;

/// Time since 1970 from `t=<seconds with decimals>`; none if it has another form.
pub fn parse(value: &str) -> Option<Duration> {
    let seconds: f64 = value.trim().strip_prefix("t=")?.parse().ok()?;
    Duration::try_from_secs_f64(seconds).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seconds_with_decimals_are_read() {
        assert_eq!(
            parse("t=1700000000.25"),
            Some(Duration::from_millis(1_700_000_000_250))
        );
    }

    #[test]
    fn other_forms_are_none() {
        for value in ["", "1700000000", "t=", "t=-1", "t=nan", "t=soon", "t=1e300"] {
            assert_eq!(parse(value), None, "{value}");
        }
    }
}
