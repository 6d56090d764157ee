//! The HTTP API of InfluxDB 2.7, as far as the store uses it.
//!
//! The facts are from the [API reference] and these pages of the documentation:
//!
//! | request | documented in |
//! |---|---|
//! | `GET /health`: 200 and `{"status":"pass"}`, or 503 | API reference, `GetHealth` |
//! | `GET /api/v2/orgs?org=NAME` | API reference, `GetOrgs` |
//! | `GET /api/v2/buckets?org=NAME&name=NAME`: 200 with a list, or 404 | API reference, `GetBuckets` |
//! | `POST /api/v2/buckets`: 201 | API reference, `PostBuckets` |
//! | `POST /api/v2/write?org=NAME&bucket=NAME&precision=ns`: 204 | API reference, `PostWrite` |
//! | `POST /api/v2/query?org=NAME`: 200 with CSV | API reference, `PostQuery`; [annotated CSV] |
//! | `Authorization: Token TOKEN` | API reference, "Authentication" |
//! | `{"code":…,"message":…}` for errors | API reference, "Error handling" |
//! | the meaning of 400, 401, 404, 413, 422, 429, 500 and 503 for writes, `Retry-After` | [troubleshoot writes] |
//!
//! Bodies have the types of the crate `influxdb2`. Its client is not used: it compresses no requests by default and streams them
//! uncounted, drops `Retry-After`, returns errors as text, panics on some failures of the network, and has a version of reqwest of
//! its own.
//!
//! [API reference]: https://docs.influxdata.com/influxdb/v2/api/
//! [annotated CSV]: https://docs.influxdata.com/influxdb/v2/reference/syntax/annotated-csv/
//! [troubleshoot writes]: https://docs.influxdata.com/influxdb/v2/write-data/troubleshoot/

use std::io::Write as _;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use flate2::Compression;
use flate2::write::GzEncoder;
use influxdb2::models::{
    Buckets, HealthCheck, Organizations, PostBucketRequest, RetentionRule, health, retention_rule,
};
use reqwest::header::{
    ACCEPT, AUTHORIZATION, CONTENT_ENCODING, CONTENT_TYPE, HeaderValue, RETRY_AFTER,
};
use reqwest::{Method, RequestBuilder, Response, StatusCode};
use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::config::{Config, Location};

/// Maximum size of an answer that is not the result of a query.
const MAX_ANSWER: usize = 1 << 20;

/// Maximum size of the result of a query: a million numbers.
const MAX_RESULT: usize = 64 << 20;
/// Maximum length of the message of an error.
const MAX_MESSAGE: usize = 1 << 10;

/// A request that was not successful.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum Failure {
    /// There was no complete answer. The server may have carried out the request.
    #[error("{0}")]
    NoAnswer(String),
    /// The server answered with an error.
    #[error("{status}: {message}")]
    Status {
        status: StatusCode,
        message: String,
        /// How long the server asks to wait.
        retry_after: Option<Duration>,
        /// Whether the answer has the form of InfluxDB's errors.
        is_own: bool,
    },
}

impl Failure {
    /// The failure in words that say what to do.
    pub fn explain(&self, location: &Location) -> String {
        let Location { org, bucket, .. } = location;
        let advice = match self {
            Self::NoAnswer(_) => "start it, or check its address".into(),
            Self::Status { status, .. } => match *status {
                StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => format!(
                    "give a token that may read and write bucket `{bucket}` of organization `{org}`"
                ),
                StatusCode::NOT_FOUND => {
                    format!("create organization `{org}` and bucket `{bucket}`, or choose others")
                }
                StatusCode::TOO_MANY_REQUESTS => "it limits requests".into(),
                status if status.is_server_error() => "see its log".into(),
                _ => "it refuses the request".into(),
            },
        };
        format!("InfluxDB at {location}: {self}; {advice}")
    }
}

/// The body of an error. Proxies have other forms.
#[derive(Deserialize)]
struct ErrorBody {
    #[serde(rename = "code")]
    _code: String,
    message: String,
}

/// A bucket of a server.
pub(super) struct Api(Arc<Config>);

impl Api {
    pub fn new(config: Arc<Config>) -> Self {
        Self(config)
    }

    fn request(&self, method: Method, path: &str, parameters: &[(&str, &str)]) -> RequestBuilder {
        let config = &self.0;
        let mut url = config.location.url.clone();
        let below = url.path().trim_end_matches('/').to_owned();
        url.set_path(&format!("{below}{path}"));
        config
            .client
            .request(method, url)
            .query(parameters)
            .header(AUTHORIZATION, config.authorization.clone())
    }

    /// Whether the server is ready for queries and writes.
    pub async fn check_health(&self) -> Result<(), Failure> {
        let check: HealthCheck = self.json(self.request(Method::GET, "/health", &[])).await?;
        match check.status {
            health::Status::Pass => Ok(()),
            health::Status::Fail => Err(Failure::NoAnswer(
                check
                    .message
                    .unwrap_or_else(|| "the server is not healthy".into()),
            )),
        }
    }

    /// Whether the bucket exists and the token may read it.
    pub async fn has_bucket(&self) -> Result<bool, Failure> {
        let Location { org, bucket, .. } = &self.0.location;
        let parameters = [("org", &**org), ("name", &**bucket)];
        let request = self.request(Method::GET, "/api/v2/buckets", &parameters);
        match self.json::<Buckets>(request).await {
            Ok(list) => Ok(list.buckets.iter().any(|found| found.name == *bucket)),
            Err(Failure::Status {
                status: StatusCode::NOT_FOUND,
                ..
            }) => Ok(false),
            Err(failure) => Err(failure),
        }
    }

    /// Creates the bucket. `None` keeps points for ever.
    pub async fn create_bucket(&self, retention: Option<Duration>) -> Result<(), Failure> {
        let Location { org, bucket, .. } = &self.0.location;
        let request = self.request(Method::GET, "/api/v2/orgs", &[("org", org)]);
        let list: Organizations = self.json(request).await?;
        let id = list
            .orgs
            .into_iter()
            .find(|found| found.name == *org)
            .and_then(|found| found.id)
            .ok_or_else(|| Failure::Status {
                status: StatusCode::NOT_FOUND,
                message: format!("organization \"{org}\" not found"),
                retry_after: None,
                is_own: true,
            })?;
        let mut bucket = PostBucketRequest::new(id, bucket.clone());
        bucket.retention_rules = retention
            .map(|retention| {
                // A fraction of a second is rounded up: 0 would be for ever.
                let seconds = retention.as_secs_f64().ceil() as i32;
                RetentionRule::new(retention_rule::Type::Expire, seconds)
            })
            .into_iter()
            .collect();
        let body = serde_json::to_vec(&bucket).expect("a bucket has a JSON form");
        let request = self
            .request(Method::POST, "/api/v2/buckets", &[])
            .header(CONTENT_TYPE, "application/json")
            .body(body);
        self.send(request).await.map(drop)
    }

    /// Writes lines of line protocol.
    pub async fn write(&self, lines: &[u8]) -> Result<(), Failure> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
        let body = encoder
            .write_all(lines)
            .and_then(|()| encoder.finish())
            .expect("writing to memory does not fail");
        let Location { org, bucket, .. } = &self.0.location;
        let parameters = [("org", &**org), ("bucket", bucket), ("precision", "ns")];
        let request = self
            .request(Method::POST, "/api/v2/write", &parameters)
            .header(CONTENT_TYPE, "text/plain; charset=utf-8")
            .header(CONTENT_ENCODING, "gzip")
            .body(body);
        let response = self.send(request).await?;
        match response.status() {
            StatusCode::NO_CONTENT => Ok(()),
            // A proxy, or another server.
            status => Err(Failure::NoAnswer(format!(
                "the server answered {status} instead of 204"
            ))),
        }
    }

    /// Runs a script of Flux, and returns its result as CSV with a header before each table.
    pub async fn query(&self, script: String, max_result: usize) -> Result<Vec<u8>, Failure> {
        let mut query = influxdb2::models::Query::new(script);
        query.dialect = Some(influxdb2::models::ast::Dialect {
            header: Some(true),
            ..Default::default()
        });
        let body = serde_json::to_vec(&query).expect("a query has a JSON form");
        let request = self
            .request(
                Method::POST,
                "/api/v2/query",
                &[("org", &self.0.location.org)],
            )
            .header(CONTENT_TYPE, "application/json")
            .header(ACCEPT, "application/csv")
            .body(body);
        read(self.send(request).await?, max_result.min(MAX_RESULT)).await
    }

    async fn json<T: DeserializeOwned>(&self, request: RequestBuilder) -> Result<T, Failure> {
        let body = read(self.send(request).await?, MAX_ANSWER).await?;
        serde_json::from_slice(&body)
            .map_err(|error| Failure::NoAnswer(format!("the answer is not InfluxDB's: {error}")))
    }

    /// Sends a request. The response has a status of success.
    async fn send(&self, request: RequestBuilder) -> Result<Response, Failure> {
        let response = request.send().await.map_err(no_answer)?;
        let status = response.status();
        if status.is_success() {
            return Ok(response);
        }
        let retry_after = response.headers().get(RETRY_AFTER).and_then(parse_wait);
        // The status says enough if its body does not arrive.
        let body = read(response, MAX_ANSWER).await.unwrap_or_default();
        let (message, is_own) = match serde_json::from_slice::<ErrorBody>(&body) {
            Ok(error) => (error.message, true),
            Err(_) => (String::from_utf8_lossy(&body).into_owned(), false),
        };
        let message = message.replace(&self.0.token, "…");
        Err(Failure::Status {
            status,
            message: message[..message.floor_char_boundary(MAX_MESSAGE)].to_owned(),
            retry_after,
            is_own,
        })
    }
}

/// Seconds, or a date.
fn parse_wait(value: &HeaderValue) -> Option<Duration> {
    let text = value.to_str().ok()?;
    if let Ok(seconds) = text.parse() {
        return Some(Duration::from_secs(seconds));
    }
    let date = httpdate::parse_http_date(text).ok()?;
    date.duration_since(SystemTime::now()).ok()
}

async fn read(mut response: Response, limit: usize) -> Result<Vec<u8>, Failure> {
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(no_answer)? {
        body.extend_from_slice(&chunk);
        if body.len() > limit {
            return Err(Failure::NoAnswer("the answer is too long".into()));
        }
    }
    Ok(body)
}

/// The error with its causes, without the URL.
fn no_answer(error: reqwest::Error) -> Failure {
    let error = anyhow::Error::from(error.without_url());
    Failure::NoAnswer(format!("{error:#}"))
}
