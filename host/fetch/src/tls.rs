//! The implementation of TLS's algorithms.

/// Makes `ring` the process's implementation of TLS's algorithms, which the HTTP libraries take it from.
pub fn use_ring() {
    // Refused where it is set already.
    let _ = rustls::crypto::ring::default_provider().install_default();
}
