//! Webhooks, signed as [Standard Webhooks](https://www.standardwebhooks.com) has it.

use anyhow::Context as _;
use http::header::{CONTENT_TYPE, USER_AGENT};
use http::{Method, Request};
use serde::Serialize;
use standardwebhooks::{
    HEADER_WEBHOOK_ID, HEADER_WEBHOOK_SIGNATURE, HEADER_WEBHOOK_TIMESTAMP, Webhook,
};

/// Minimum length of a secret, in bytes.
const MIN_SECRET: usize = 24;

/// Signs webhooks with a secret of the host.
pub struct Webhooks(Webhook);

/// The body of a webhook.
#[derive(Serialize)]
struct Body<T> {
    r#type: String,
    /// When it is sent.
    timestamp: String,
    data: T,
}

impl Webhooks {
    /// Returns what signs with a secret, `whsec_` and at least 24 bytes in base 64.
    ///
    /// # Errors
    /// When the secret is malformed.
    pub fn new(secret: &str) -> anyhow::Result<Self> {
        let form = || {
            format!(
                "a webhook secret is `whsec_` and at least {MIN_SECRET} bytes in base 64, such as `whsec_$(openssl rand -base64 32)`"
            )
        };
        let webhook = Webhook::new(secret).ok().with_context(form)?;
        let encoded = secret.strip_prefix("whsec_").unwrap_or(secret);
        anyhow::ensure!(encoded.len() >= MIN_SECRET / 3 * 4, form());
        Ok(Self(webhook))
    }

    /// Returns the request that tells of an event. `id` is the same in each attempt.
    ///
    /// # Errors
    /// When `url` is malformed.
    pub(crate) fn request(
        &self,
        url: &str,
        id: &str,
        r#type: String,
        data: impl Serialize,
    ) -> anyhow::Result<Request<String>> {
        let now = jiff::Timestamp::now();
        let body = serde_json::to_string(&Body {
            r#type,
            timestamp: now.to_string(),
            data,
        })?;
        let signature = self.0.sign(id, now.as_second(), body.as_bytes())?;
        let agent = concat!("whisper-host/", env!("CARGO_PKG_VERSION"));
        let request = Request::builder()
            .method(Method::POST)
            .uri(url)
            .header(CONTENT_TYPE, "application/json")
            .header(USER_AGENT, agent)
            .header(HEADER_WEBHOOK_ID, id)
            .header(HEADER_WEBHOOK_TIMESTAMP, now.as_second())
            .header(HEADER_WEBHOOK_SIGNATURE, signature);
        Ok(request.body(body)?)
    }
}

#[cfg(test)]
mod tests {
    use super::Webhooks;

    #[test]
    fn short_and_malformed_secrets_are_refused() {
        assert!(Webhooks::new("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw").is_ok());
        assert!(Webhooks::new("MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw").is_ok());
        for secret in [
            "",
            "whsec_",
            "whsec_MfKQ",
            "whsec_not base 64 at all, but it is long enough",
        ] {
            assert!(Webhooks::new(secret).is_err(), "{secret}");
        }
    }
}
