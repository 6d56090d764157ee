//! Verified downloads: [`components`] from web servers and OCI registries, and [`models`] by name from the Hugging Face hub.
//!
//! Every file that is fetched has a digest, and is used only after it is verified.

pub mod components;
mod digest;
mod download;
mod loopback;
pub mod models;
mod progress;
mod secrets;
mod tls;

pub use loopback::is_loopback;
pub use progress::Progress;
pub use secrets::without_secrets;
pub use tls::use_ring;
