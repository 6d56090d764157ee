//! Applications: loaded from a manifest, with components composed and unchanged ones reused.

mod compose;
mod load;
mod loaded;
mod reuse;
mod served;

pub use compose::files_of;
pub use load::{Host, HostConfig};
pub use reuse::Reuse;
pub use served::{Application, ComponentReport};
