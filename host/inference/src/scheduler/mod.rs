//! From many transcriptions to one model: windows queue up, one thread decodes them in batches, and each answer goes
//! back the moment its row ends.
//!
//! A transcription has at most one window here, because where the next one begins is known only when the one before is
//! decoded. With first come, first served this is fair: a long recording waits its turn anew after every window.

mod handle;
mod pace;
mod queue;
mod window;
mod worker;

pub(crate) use handle::Scheduler;
pub(crate) use window::{Decoded, Recipient, Window};
pub(crate) use worker::Worker;
