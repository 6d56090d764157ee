//! Metrics of the HTTP server, with the names and labels of OpenTelemetry's semantic conventions as Prometheus writes them.

use std::sync::Arc;
use std::time::Duration;

use http::{Method, StatusCode};
use metrics::{Gauge, Label, SharedString, describe_gauge, describe_histogram, gauge, histogram};

/// Histogram: time from a request's arrival to its response, in seconds.
const REQUEST_DURATION: &str = "http_server_request_duration_seconds";
/// Gauge: requests that have not been responded to.
const ACTIVE_REQUESTS: &str = "http_server_active_requests";

/// Metrics of the server.
pub(super) struct Metrics {
    pub(super) active: Gauge,
}

/// Where a request was routed to.
pub(super) struct Routed {
    pub(super) route: Arc<str>,
    pub(super) component: Arc<str>,
}

impl Metrics {
    pub(super) fn new() -> Self {
        describe_histogram!(
            REQUEST_DURATION,
            "Time from the arrival of HTTP requests to their response, in seconds."
        );
        describe_gauge!(
            ACTIVE_REQUESTS,
            "HTTP requests that have not been responded to."
        );
        Self {
            active: gauge!(ACTIVE_REQUESTS),
        }
    }

    /// Records a request. `status` is `None` if the client left before the response.
    pub(super) fn record(
        &self,
        method: &Method,
        routed: Option<&Routed>,
        status: Option<StatusCode>,
        duration: Duration,
    ) {
        let mut labels = Vec::with_capacity(4);
        labels.push(Label::new("http_request_method", known(method)));
        if let Some(Routed { route, component }) = routed {
            labels.push(Label::new(
                "http_route",
                SharedString::from(Arc::clone(route)),
            ));
            let component = SharedString::from(Arc::clone(component));
            labels.push(Label::new("component", component));
        }
        labels.push(match status {
            Some(status) => Label::new("http_response_status_code", status.as_str().to_owned()),
            None => Label::new("error_type", "client_left"),
        });
        histogram!(REQUEST_DURATION, labels).record(duration);
    }
}

/// The method, if it is a known one: clients may send any.
fn known(method: &Method) -> &'static str {
    match *method {
        Method::GET => "GET",
        Method::HEAD => "HEAD",
        Method::POST => "POST",
        Method::PUT => "PUT",
        Method::DELETE => "DELETE",
        Method::CONNECT => "CONNECT",
        Method::OPTIONS => "OPTIONS",
        Method::TRACE => "TRACE",
        Method::PATCH => "PATCH",
        _ => "_OTHER",
    }
}
