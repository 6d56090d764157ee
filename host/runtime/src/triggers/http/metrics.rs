//! Metrics of the HTTP server, with the names and labels of OpenTelemetry's semantic conventions as Prometheus writes them.

use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use http::{Method, StatusCode};
use metrics::{Gauge, Histogram, Label, SharedString, describe_gauge, describe_histogram};

/// Histogram: time from a request's arrival to its response, in seconds.
const REQUEST_DURATION: &str = "http_server_request_duration_seconds";
/// Gauge: requests that have not been responded to.
const ACTIVE_REQUESTS: &str = "http_server_active_requests";

/// Label with the status of the response.
const STATUS: &str = "http_response_status_code";
/// Error of a request whose client left before the response, or which the host's end cut off.
pub(super) const CLIENT_LEFT: &str = "client_left";

/// Metrics of the server.
pub(super) struct Metrics {
    pub(super) active: Gauge,
    /// Requests that no route matches.
    pub(super) unmatched: Arc<RequestDurations>,
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
            active: metrics::gauge!(ACTIVE_REQUESTS),
            unmatched: Arc::default(),
        }
    }
}

/// Durations of the requests of one route.
///
/// It keeps the histograms that it has recorded: looking them up by their labels for each request costs 3 % of a request.
#[derive(Default)]
pub(super) struct RequestDurations {
    route: Option<Route>,
    histograms: RwLock<Vec<(Outcome, Histogram)>>,
}

/// A route.
pub(super) struct Route {
    pub(super) path: Arc<str>,
    /// Id of the component that it leads to.
    pub(super) component: Arc<str>,
}

/// Method and end of a request.
type Outcome = (&'static str, End);

#[derive(Clone, Copy, PartialEq, Eq)]
enum End {
    Response(StatusCode),
    ClientLeft,
    /// A response with one of too many different statuses: a component may let its clients choose them.
    Other,
}

/// Maximum number of outcomes of a route that are told apart.
const MAX_OUTCOMES: usize = 100;
/// What [`known`] returns for unknown methods, and the label of [`End::Other`].
const OTHER: &str = "_OTHER";

impl RequestDurations {
    pub(super) fn new(path: &str, component: &Arc<str>) -> Self {
        Self {
            route: Some(Route {
                path: Arc::from(path),
                component: Arc::clone(component),
            }),
            histograms: RwLock::default(),
        }
    }

    /// Returns the route; `None` for requests that no route matches.
    pub(super) fn route(&self) -> Option<&Route> {
        self.route.as_ref()
    }

    /// Records a request. `status` is `None` if the client left before the response.
    pub(super) fn record(&self, method: &Method, status: Option<StatusCode>, duration: Duration) {
        let outcome = (known(method), status.map_or(End::ClientLeft, End::Response));
        let histograms = self.histograms.read();
        let histograms = histograms.unwrap_or_else(PoisonError::into_inner);
        if let Some((_, histogram)) = histograms.iter().find(|(of, _)| *of == outcome) {
            histogram.record(duration);
            return;
        }
        let is_full = histograms.len() >= MAX_OUTCOMES;
        drop(histograms);
        if is_full {
            self.histogram((OTHER, End::Other)).record(duration);
            return;
        }
        let histogram = self.histogram(outcome);
        histogram.record(duration);
        let histograms = self.histograms.write();
        let mut histograms = histograms.unwrap_or_else(PoisonError::into_inner);
        // Another request may have added it.
        if !histograms.iter().any(|(of, _)| *of == outcome) {
            histograms.push((outcome, histogram));
        }
    }

    fn histogram(&self, (method, end): Outcome) -> Histogram {
        let mut labels = vec![Label::new("http_request_method", method)];
        if let Some(Route { path, component }) = &self.route {
            let shared = |text| SharedString::from(Arc::clone(text));
            labels.push(Label::new("http_route", shared(path)));
            labels.push(Label::new("component", shared(component)));
        }
        labels.push(match end {
            End::Response(status) => Label::new(STATUS, status.as_str().to_owned()),
            End::ClientLeft => Label::new("error_type", CLIENT_LEFT),
            End::Other => Label::new(STATUS, OTHER),
        });
        metrics::histogram!(REQUEST_DURATION, labels)
    }
}

/// The method, if it is a known one: clients may send any.
pub(super) fn known(method: &Method) -> &'static str {
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
        _ => OTHER,
    }
}
