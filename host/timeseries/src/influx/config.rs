//! Where the bucket is, and how it is used.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use reqwest::header::HeaderValue;
use reqwest::{Client, Url};

/// A bucket of an InfluxDB 2 server: `influxdb://HOST:8086?org=NAME&bucket=NAME`, or `influxdbs://` for TLS.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Location {
    pub(super) url: Url,
    pub(super) org: String,
    pub(super) bucket: String,
}

const FORM: &str = "write influxdb://HOST:8086?org=NAME&bucket=NAME, or influxdbs:// for TLS";

impl FromStr for Location {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (scheme, rest) = text
            .split_once("://")
            .ok_or_else(|| format!("not a URL; {FORM}"))?;
        let http = match scheme {
            "influxdb" => "http",
            "influxdbs" => "https",
            _ => return Err(format!("the scheme is `{scheme}`; {FORM}")),
        };
        let mut url =
            Url::parse(&format!("{http}://{rest}")).map_err(|error| format!("{error}; {FORM}"))?;
        if !url.username().is_empty() || url.password().is_some() {
            return Err("the URL has a user or password; InfluxDB 2 takes a token, from the environment variable INFLUX_TOKEN or a file".into());
        }
        let (mut org, mut bucket) = (None, None);
        for (name, value) in url.query_pairs() {
            let slot = match &*name {
                "org" => &mut org,
                "bucket" => &mut bucket,
                "token" => {
                    return Err("the URL has a token, which others could see; give it in the environment variable INFLUX_TOKEN or a file".into());
                }
                _ => return Err(format!("there is no parameter `{name}`; {FORM}")),
            };
            if value.is_empty() || slot.replace(value.into_owned()).is_some() {
                return Err(format!("`{name}` is empty or given twice; {FORM}"));
            }
        }
        let missing = |name| format!("there is no `{name}`; {FORM}");
        let org = org.ok_or_else(|| missing("org"))?;
        let bucket = bucket.ok_or_else(|| missing("bucket"))?;
        url.set_query(None);
        url.set_fragment(None);
        Ok(Self { url, org, bucket })
    }
}

impl fmt::Display for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let url = self.url.as_str().trim_end_matches('/');
        write!(f, "{url}, bucket `{}` of `{}`", self.bucket, self.org)
    }
}

/// Settings of a store in InfluxDB.
pub struct Config {
    /// The bucket.
    pub location: Location,
    pub(super) authorization: HeaderValue,
    /// For errors, which must not have it.
    pub(super) token: String,
    /// How long a bucket that the store creates keeps points. `None`: for ever.
    pub retention: Option<Duration>,
    /// The file with the points that are not delivered yet. Its folder must exist.
    pub spool: PathBuf,
    /// Maximum size of the spool in bytes: the oldest points are dropped.
    pub max_bytes: u64,
    /// Maximum time of a point in the spool: after it, it is dropped.
    pub max_age: Duration,
    pub(super) client: Client,
}

impl Config {
    /// Settings with their defaults: 1 GiB and seven days of points in the spool.
    ///
    /// # Errors
    /// When the token has characters that a header cannot have, or TLS cannot be set up.
    pub fn new(location: Location, token: &str, spool: PathBuf) -> Result<Self, String> {
        let mut authorization = HeaderValue::try_from(format!("Token {token}"))
            .map_err(|_| "the token of InfluxDB has characters that a header cannot have; check for line breaks in it")?;
        authorization.set_sensitive(true);
        let client = Client::builder()
            .connect_timeout(Duration::from_secs(5))
            .timeout(REQUEST_TIMEOUT)
            .redirect(reqwest::redirect::Policy::none())
            .referer(false)
            .build()
            .map_err(|error| format!("cannot set up TLS: {error}"))?;
        Ok(Self {
            location,
            authorization,
            token: token.to_owned(),
            retention: None,
            spool,
            max_bytes: 1 << 30,
            max_age: Duration::from_secs(7 * 24 * 60 * 60),
            client,
        })
    }
}

/// Maximum time of a request: InfluxDB answers a write of 5,000 lines within a second.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(30);

#[cfg(test)]
mod tests {
    use super::Location;

    #[test]
    fn a_location_has_a_server_an_organization_and_a_bucket() {
        let location: Location = "influxdbs://db.example:8086/influx?org=a%20b&bucket=calls"
            .parse()
            .unwrap();
        assert_eq!(location.url.as_str(), "https://db.example:8086/influx");
        assert_eq!((&*location.org, &*location.bucket), ("a b", "calls"));
        let shown = location.to_string();
        assert_eq!(
            shown,
            "https://db.example:8086/influx, bucket `calls` of `a b`"
        );
    }

    #[test]
    fn what_is_wrong_in_a_location_is_named() {
        for (text, message) in [
            ("calls", "not a URL"),
            ("http://h:1?org=a&bucket=b", "the scheme is `http`"),
            ("influxdb://h:1?org=a", "there is no `bucket`"),
            ("influxdb://h:1?bucket=a", "there is no `org`"),
            ("influxdb://h:1?org=&bucket=b", "`org` is empty"),
            (
                "influxdb://h:1?org=a&org=a&bucket=b",
                "`org` is empty or given twice",
            ),
            ("influxdb://h:1?org=a&bucket=b&x=y", "no parameter `x`"),
            ("influxdb://h:1?org=a&bucket=b&token=y", "INFLUX_TOKEN"),
            ("influxdb://u:p@h:1?org=a&bucket=b", "INFLUX_TOKEN"),
            ("influxdb://h:99999?org=a&bucket=b", "invalid port"),
        ] {
            let error = text.parse::<Location>().unwrap_err();
            assert!(error.contains(message), "{text}: {error}");
        }
    }
}
