//! Applications: loading them from a manifest, composing their components, and taking over what has not changed.

mod compose;
mod load;
mod loaded;
mod reuse;
mod served;

pub use compose::files_of;
pub use load::Host;
pub use reuse::Reuse;
pub use served::{Application, ComponentReport};
