//! Which part of the work a host does.

/// Which part of the work a host does, when several share it through NATS.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Role {
    /// All of it.
    #[default]
    All,
    /// Handles HTTP requests. Those to components that use a model go to workers.
    Http,
    /// Runs jobs, messages and schedules, and the requests that hosts of the role `Http` hand over.
    Worker,
}
