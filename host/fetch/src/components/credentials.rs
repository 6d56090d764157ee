//! Credentials for registries, from Docker's configuration.

use anyhow::Context as _;
use docker_credential::{CredentialRetrievalError, DockerCredential};

/// Name and password for a registry.
pub(super) struct Credentials {
    pub(super) name: String,
    pub(super) password: String,
}

/// The credentials that `docker login` has stored for a registry, if any.
pub(super) async fn credentials(registry: String) -> anyhow::Result<Option<Credentials>> {
    let server = match registry.as_str() {
        // Docker's name for its own registry.
        "index.docker.io" | "docker.io" => "https://index.docker.io/v1/".to_owned(),
        _ => registry.clone(),
    };
    // A credential helper is a process that may take a while.
    let found =
        tokio::task::spawn_blocking(move || docker_credential::get_credential(&server)).await?;
    match found {
        Ok(DockerCredential::UsernamePassword(name, password)) => {
            Ok(Some(Credentials { name, password }))
        }
        Ok(DockerCredential::IdentityToken(_)) => anyhow::bail!(
            "Docker's configuration has an identity token for {registry}, which is not supported; use `docker login` with a name and a password or access token"
        ),
        Err(
            CredentialRetrievalError::ConfigNotFound
            | CredentialRetrievalError::ConfigReadError
            | CredentialRetrievalError::NoCredentialConfigured,
        ) => Ok(None),
        Err(error) => Err(error).with_context(|| {
            format!("Docker's configuration has no usable credentials for {registry}")
        }),
    }
}
