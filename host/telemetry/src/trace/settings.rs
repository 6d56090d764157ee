//! The environment variables of OpenTelemetry. Its SDK reads most of them itself, and replaces invalid values by defaults, before
//! there is a log: they are checked here.

use std::time::Duration;

use anyhow::Context as _;
use http::HeaderName;
use reqwest::Url;

/// Prefix of the exporter's variables.
const EXPORTER: &str = "OTEL_EXPORTER_OTLP_";
/// Samplers that the SDK has.
const SAMPLERS: [&str; 6] = [
    "always_on",
    "always_off",
    "traceidratio",
    "parentbased_always_on",
    "parentbased_always_off",
    "parentbased_traceidratio",
];
/// A day.
const MAX_MILLISECONDS: u64 = 24 * 60 * 60 * 1000;
/// Time for one request to the collector, unless the environment sets another.
const TIMEOUT: Duration = Duration::from_secs(10);

/// Settings of the export.
#[derive(Debug, PartialEq)]
pub(super) struct Settings {
    /// Time for one request.
    pub timeout: Duration,
}

impl Settings {
    /// Reads the settings from the environment, in which `variable` looks; `None` if traces are not exported.
    ///
    /// # Errors
    /// When a variable has a value that would have no effect.
    pub fn read(variable: impl Fn(&str) -> Option<String>) -> anyhow::Result<Option<Self>> {
        // The variable for traces takes precedence over that for everything.
        let exporter = |name: &str| {
            [
                format!("{EXPORTER}TRACES_{name}"),
                format!("{EXPORTER}{name}"),
            ]
            .into_iter()
            .find_map(|name| variable(&name).map(|value| (name, value)))
        };
        let Some((name, endpoint)) = exporter("ENDPOINT") else {
            return Ok(None);
        };
        let is = |name, expected| {
            variable(name).is_some_and(|value| value.eq_ignore_ascii_case(expected))
        };
        if is("OTEL_SDK_DISABLED", "true") || is("OTEL_TRACES_EXPORTER", "none") {
            return Ok(None);
        }
        let url = Url::parse(&endpoint);
        let is_http = |url: &Url| matches!(url.scheme(), "http" | "https") && url.has_host();
        anyhow::ensure!(
            url.is_ok_and(|url| is_http(&url)),
            "{name} is \"{endpoint}\"; give a URL like http://localhost:4318"
        );
        let one_of = |setting: Option<(String, String)>, allowed: &[&str]| match setting {
            Some((name, value)) if !allowed.contains(&&*value) => anyhow::bail!(
                "{name} is \"{value}\"; this host supports: {}",
                allowed.join(", ")
            ),
            _ => Ok(()),
        };
        one_of(exporter("PROTOCOL"), &["http/protobuf"])?;
        one_of(exporter("COMPRESSION"), &["gzip", "none"])?;
        let named = |name: &str| variable(name).map(|value| (name.to_owned(), value));
        one_of(named("OTEL_TRACES_EXPORTER"), &["otlp"])?;
        one_of(named("OTEL_TRACES_SAMPLER"), &SAMPLERS)?;
        if let Some((name, ratio)) = named("OTEL_TRACES_SAMPLER_ARG") {
            let is_ratio = ratio
                .parse()
                .is_ok_and(|ratio: f64| (0.0..=1.0).contains(&ratio));
            anyhow::ensure!(
                is_ratio,
                "{name} is \"{ratio}\"; give a number from 0.0 to 1.0"
            );
        }
        // Their values may be secret.
        if let Some((name, headers)) = exporter("HEADERS") {
            let is_header = |pair: &str| {
                let name = pair.split_once('=').map(|(name, _)| name.trim());
                name.is_some_and(|name| HeaderName::try_from(name).is_ok())
            };
            anyhow::ensure!(
                headers.split(',').all(is_header),
                "{name} has a part that is not NAME=VALUE; encode commas in values as %2C"
            );
        }
        for (name, max) in [
            // The SDK allocates the queue at the start.
            ("OTEL_BSP_MAX_QUEUE_SIZE", 1_000_000),
            ("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", 1_000_000),
            ("OTEL_BSP_SCHEDULE_DELAY", MAX_MILLISECONDS),
        ] {
            if let Some((name, value)) = named(name) {
                positive(&name, &value, max)?;
            }
        }
        let timeout = match exporter("TIMEOUT") {
            Some((name, value)) => Duration::from_millis(
                positive(&name, &value, MAX_MILLISECONDS).context("the unit is milliseconds")?,
            ),
            None => TIMEOUT,
        };
        Ok(Some(Self { timeout }))
    }
}

fn positive(name: &str, value: &str, max: u64) -> anyhow::Result<u64> {
    let number = value
        .parse()
        .ok()
        .filter(|number| (1..=max).contains(number));
    number.with_context(|| format!("{name} is \"{value}\"; give a whole number from 1 to {max}"))
}

/// Returns whether the environment names the service.
pub(super) fn names_service(variable: impl Fn(&str) -> Option<String>) -> bool {
    let attributes = variable("OTEL_RESOURCE_ATTRIBUTES").unwrap_or_default();
    let mut names = attributes
        .split(',')
        .filter_map(|pair| pair.split_once('='))
        .map(|(name, _)| name.trim());
    variable("OTEL_SERVICE_NAME").is_some() || names.any(|name| name == "service.name")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(variables: &[(&str, &str)]) -> anyhow::Result<Option<Settings>> {
        Settings::read(|name| {
            let found = variables.iter().find(|(of, _)| *of == name);
            found.map(|(_, value)| (*value).to_owned())
        })
    }

    const ENDPOINT: (&str, &str) = ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://localhost:4318");

    #[test]
    fn an_endpoint_enables_the_export() {
        assert_eq!(read(&[]).unwrap(), None);
        assert_eq!(
            read(&[ENDPOINT]).unwrap(),
            Some(Settings { timeout: TIMEOUT })
        );
        for off in [
            ("OTEL_SDK_DISABLED", "TRUE"),
            ("OTEL_TRACES_EXPORTER", "none"),
        ] {
            assert_eq!(read(&[ENDPOINT, off]).unwrap(), None);
        }
    }

    #[test]
    fn the_variable_for_traces_takes_precedence() {
        let timeouts = [
            ("OTEL_EXPORTER_OTLP_TIMEOUT", "nonsense"),
            ("OTEL_EXPORTER_OTLP_TRACES_TIMEOUT", "1500"),
        ];
        let settings = read(&[ENDPOINT, timeouts[0], timeouts[1]])
            .unwrap()
            .unwrap();
        assert_eq!(settings.timeout, Duration::from_millis(1500));
    }

    #[test]
    fn values_that_would_have_no_effect_are_refused() {
        for (name, value) in [
            ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "localhost:4318"),
            ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "ftp://localhost"),
            ("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc"),
            ("OTEL_EXPORTER_OTLP_COMPRESSION", "br"),
            ("OTEL_EXPORTER_OTLP_TIMEOUT", "10s"),
            ("OTEL_EXPORTER_OTLP_TIMEOUT", "0"),
            ("OTEL_TRACES_EXPORTER", "zipkin"),
            ("OTEL_TRACES_SAMPLER", "sometimes"),
            ("OTEL_TRACES_SAMPLER_ARG", "50%"),
            ("OTEL_BSP_SCHEDULE_DELAY", "0"),
            ("OTEL_BSP_MAX_QUEUE_SIZE", "0"),
            ("OTEL_BSP_MAX_QUEUE_SIZE", "18446744073709551615"),
            ("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", "many"),
        ] {
            let error = format!("{:#}", read(&[ENDPOINT, (name, value)]).unwrap_err());
            assert!(error.contains(name) && error.contains(value), "{error}");
        }
        let headers = (
            "OTEL_EXPORTER_OTLP_HEADERS",
            "authorization=Bearer%20a,secret",
        );
        let error = format!("{:#}", read(&[ENDPOINT, headers]).unwrap_err());
        assert!(
            error.contains(headers.0) && !error.contains("secret"),
            "{error}"
        );
    }

    #[test]
    fn the_service_may_be_named_in_two_ways() {
        let named = |name: &'static str, value: &'static str| {
            names_service(|asked| (asked == name).then(|| value.to_owned()))
        };
        assert!(named("OTEL_SERVICE_NAME", "speech"));
        assert!(named(
            "OTEL_RESOURCE_ATTRIBUTES",
            "a=b, service.name=speech"
        ));
        assert!(!named(
            "OTEL_RESOURCE_ATTRIBUTES",
            "peer.service.name=speech"
        ));
    }
}
