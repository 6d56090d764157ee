//! Who may use the admin interface.

use fetch::is_loopback;
use http::header::{AUTHORIZATION, HOST, ORIGIN};
use http::request::Parts;
use sha2::{Digest as _, Sha256};

use crate::error::{Code, Failure};

/// The token that every request needs, if there is one. Digests are compared, so the time it takes tells nothing of the token.
pub(super) struct Access(Option<[u8; 32]>);

impl Access {
    pub(super) fn new(token: Option<&str>) -> Self {
        Self(token.map(|token| Sha256::digest(token).into()))
    }

    /// Checks that a request may be answered.
    ///
    /// # Errors
    /// What it lacks.
    pub(super) fn check(&self, request: &Parts) -> Result<(), Failure> {
        let Some(expected) = self.0 else {
            return from_this_machine(request);
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
            Some(_) => Err(Failure::new(Code::Forbidden, "the token is not the right one".into())),
            None => Err(Failure::new(
                Code::Unauthorized,
                "send the admin token: `Authorization: Bearer TOKEN`, or set WHISPER_HOST_ADMIN_TOKEN for the command line".into(),
            )),
        }
    }
}

/// Without a token, whoever can connect from this machine may do everything; but a browser connects for any web page. It
/// tells of the page in `Origin`, or, where the page's name was made to lead here, in `Host`. A page of this very server may.
fn from_this_machine(request: &Parts) -> Result<(), Failure> {
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
        "without a token, the admin interface answers requests to localhost that no web page makes; set WHISPER_HOST_ADMIN_TOKEN"
            .into(),
    ))
}
