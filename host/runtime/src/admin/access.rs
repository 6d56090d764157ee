//! Access control of the admin interface.

use fetch::is_loopback;
use http::header::{AUTHORIZATION, HOST, ORIGIN};
use http::request::Parts;
use sha2::{Digest as _, Sha256};

use crate::error::{Code, Failure};

/// The SHA-256 of the token that every request needs, if there is one. Digests are compared, so that timing reveals nothing
/// about the token.
pub(super) struct Access(Option<[u8; 32]>);

impl Access {
    pub(super) fn new(token: Option<&str>) -> Self {
        Self(token.map(|token| Sha256::digest(token).into()))
    }

    /// Checks that a request is allowed.
    ///
    /// # Errors
    /// [`Failure`] says what the request lacks.
    pub(super) fn check(&self, request: &Parts) -> Result<(), Failure> {
        let Some(expected) = self.0 else {
            return check_local(request);
        };
        let given = request
            .headers
            .get(AUTHORIZATION)
            .and_then(|value| value.to_str().ok())
            .and_then(|value| value.split_once(' '))
            .filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"))
            .map(|(_, token)| token);
        match given {
            Some(token) if <[u8; 32]>::from(Sha256::digest(token.trim())) == expected => Ok(()),
            Some(_) => Err(Failure::new(Code::Forbidden, "the token is wrong".into())),
            None => Err(Failure::new(
                Code::Unauthorized,
                "send the admin token: `Authorization: Bearer TOKEN`, or set WHISPER_HOST_ADMIN_TOKEN for the command line".into(),
            )),
        }
    }
}

/// Checks a request where there is no token: local processes may do everything, web pages in a local browser may not. `Origin`
/// names the page; under DNS rebinding, `Host` does. Pages of this server itself are allowed.
fn check_local(request: &Parts) -> Result<(), Failure> {
    let host = request
        .headers
        .get(HOST)
        .and_then(|host| host.to_str().ok()?.parse::<http::uri::Authority>().ok());
    let is_local = host
        .as_ref()
        .is_some_and(|host| is_loopback(&host.host().to_ascii_lowercase()));
    let own_page = match (request.headers.get(ORIGIN), host) {
        (None, _) => true,
        (Some(origin), Some(host)) => origin.as_bytes() == format!("http://{host}").as_bytes(),
        (Some(_), None) => false,
    };
    if is_local && own_page {
        return Ok(());
    }
    Err(Failure::new(
        Code::Forbidden,
        "without a token, the admin interface answers only requests to localhost, and none from web pages; set WHISPER_HOST_ADMIN_TOKEN"
            .into(),
    ))
}
