//! Schedules the windows of many transcriptions on one model: windows are queued, one thread decodes them in batches, and each result
//! is returned as soon as its row is finished.
//!
//! A transcription has at most one window here, because where the next one begins is known only when the previous one is decoded.
//! So first come, first served is fair: a long recording queues again after every window.

mod handle;
mod pace;
mod queue;
mod window;
mod worker;

pub(crate) use handle::Scheduler;
pub(crate) use window::{Decoded, Recipient, Window};
pub(crate) use worker::Worker;
