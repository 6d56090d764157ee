//! The cryptography that TLS uses.

/// Makes `ring` the process-wide default crypto provider of rustls, which the HTTP clients use.
pub fn use_ring() {
    // Fails if a default is already installed.
    let _ = rustls::crypto::ring::default_provider().install_default();
}
