//! Verified downloads: [`components`] from web servers and OCI registries, and [`models`] by name from the Hugging Face hub.
//!
//! Whatever is fetched has a digest, and counts only once its bytes have it.

pub mod components;
mod loopback;
pub mod models;
mod progress;
mod tls;

pub use loopback::is_loopback;
pub use progress::Progress;
pub use tls::use_ring;
