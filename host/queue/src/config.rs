//! How to connect to NATS.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use anyhow::Context as _;
use async_nats::{ConnectOptions, ServerAddr};
use percent_encoding::percent_decode_str;

/// How to connect to NATS.
#[derive(Clone, Debug)]
pub struct Config {
    /// Servers of one cluster. The host connects to one of them, and to another if that fails.
    pub servers: Vec<Server>,
    /// Who the host is. `None`: whoever the address of the first server names, if it names anyone.
    pub identity: Option<Identity>,
    /// PEM files of the certificate authorities to trust instead of the system's.
    pub authorities: Vec<PathBuf>,
    /// PEM files of the host's certificate and its key, for servers that verify clients.
    pub certificate: Option<(PathBuf, PathBuf)>,
}

/// How the host proves who it is.
#[derive(Clone)]
pub enum Identity {
    /// A file with a JWT and its seed, as `nsc` writes it.
    Credentials(PathBuf),
    /// A file with the seed of an nkey.
    Nkey(PathBuf),
    /// A user and a password.
    User(String, String),
    /// A token.
    Token(String),
}

impl fmt::Debug for Identity {
    /// Writes no secret.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Credentials(file) => f.debug_tuple("Credentials").field(file).finish(),
            Self::Nkey(file) => f.debug_tuple("Nkey").field(file).finish(),
            Self::User(name, _) => f.debug_tuple("User").field(name).finish_non_exhaustive(),
            Self::Token(_) => f.debug_tuple("Token").finish_non_exhaustive(),
        }
    }
}

/// The address of a server, `nats://HOST:PORT` or `tls://HOST:PORT`, with or without `USER:PASSWORD@` or `TOKEN@`.
#[derive(Clone, PartialEq, Eq)]
pub struct Server(ServerAddr);

impl FromStr for Server {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        // The text may have a password, so no error shows it.
        let invalid = "is not an address of a NATS server: write it like nats://localhost:4222";
        let server: ServerAddr = text.parse().map_err(|_| invalid)?;
        if server.host().is_empty() {
            return Err(invalid.into());
        }
        if !matches!(server.scheme(), "nats" | "tls") {
            return Err(format!(
                "{}:// is not supported: use nats:// or tls://",
                server.scheme()
            ));
        }
        Ok(Self(server))
    }
}

impl Server {
    /// Returns whom the address names. The client itself ignores it.
    fn identity(&self) -> Option<Identity> {
        let decode = |text: &str| percent_decode_str(text).decode_utf8_lossy().into_owned();
        let name = decode(self.0.username()?);
        Some(match self.0.password() {
            Some(password) => Identity::User(name, decode(password)),
            None => Identity::Token(name),
        })
    }
}

impl fmt::Display for Server {
    /// Writes the address without the password.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(server) = self;
        write!(
            f,
            "{}://{}:{}",
            server.scheme(),
            server.host(),
            server.port()
        )
    }
}

impl fmt::Debug for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Config {
    pub(crate) fn addresses(&self) -> Vec<ServerAddr> {
        self.servers
            .iter()
            .map(|Server(server)| server.clone())
            .collect()
    }

    /// Returns the options of the client.
    ///
    /// # Errors
    /// When the file of the identity cannot be read.
    pub(crate) async fn options(&self) -> anyhow::Result<ConnectOptions> {
        let named = self.servers.first().and_then(Server::identity);
        let mut options = match self.identity.as_ref().or(named.as_ref()) {
            None => ConnectOptions::new(),
            Some(Identity::Credentials(file)) => {
                let read = ConnectOptions::with_credentials_file(file).await;
                read.with_context(|| {
                    format!(
                        "cannot read the credentials of NATS from {}",
                        file.display()
                    )
                })?
            }
            Some(Identity::Nkey(file)) => {
                let seed = std::fs::read_to_string(file).with_context(|| {
                    format!("cannot read the nkey of NATS from {}", file.display())
                })?;
                ConnectOptions::with_nkey(seed.trim().to_owned())
            }
            Some(Identity::User(name, password)) => {
                ConnectOptions::with_user_and_password(name.clone(), password.clone())
            }
            Some(Identity::Token(token)) => ConnectOptions::with_token(token.clone()),
        };
        for authority in &self.authorities {
            options = options.add_root_certificates(authority.clone());
        }
        if let Some((certificate, key)) = &self.certificate {
            options = options.add_client_certificate(certificate.clone(), key.clone());
        }
        Ok(options)
    }
}

#[cfg(test)]
mod tests {
    use super::{Identity, Server};

    #[test]
    fn the_address_of_a_server_is_shown_without_its_password() {
        let server: Server = "tls://me:secret@nats.example:4333".parse().unwrap();
        assert_eq!(server.to_string(), "tls://nats.example:4333");
        assert_eq!(format!("{server:?}"), "tls://nats.example:4333");
        let server: Server = "localhost".parse().unwrap();
        assert_eq!(server.to_string(), "nats://localhost:4222");
        for text in ["http://me:secret@localhost", "nats://me:secret@:x", ""] {
            let error = text.parse::<Server>().unwrap_err();
            assert!(!error.contains("secret"), "{error}");
        }
        let identity = |text: &str| {
            let identity = text.parse::<Server>().unwrap().identity();
            identity.map(|identity| match identity {
                Identity::User(name, password) => format!("{name} {password}"),
                Identity::Token(token) => token,
                other => format!("{other:?}"),
            })
        };
        assert_eq!(identity("nats://me:p%40ss@a").unwrap(), "me p@ss");
        assert_eq!(identity("nats://token@a").unwrap(), "token");
        assert_eq!(identity("nats://a"), None);
        let identity = Identity::User("me".into(), "secret".into());
        assert_eq!(format!("{identity:?}"), "User(\"me\", ..)");
    }
}
