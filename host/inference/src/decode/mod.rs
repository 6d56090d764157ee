//! Whisper's decoding: from a window's encoder states to text, and from text to segments and the next window.
//!
//! The parts are those of OpenAI's reference implementation (`decoding.py`, `transcribe.py`), one file each: [`rules`] says which
//! tokens may follow, [`sampler`] picks tokens from logits, [`search`] finds the likeliest text, [`window`] is the decoding loop of
//! a batch of windows, [`fallback`] decides whether a window's text is accepted, [`seek`] splits a text with timestamps into segments
//! and says where the next window begins.
//!
//! # Long recordings
//!
//! Timestamps are always decoded, even if the caller does not ask for times. The reference cuts a long recording into full windows
//! and uses the timestamps to find where the last complete segment ended. Here, a window followed by more audio ends at the quietest
//! pause of its later half, if that is clearly quieter than the window, so that no sentence is cut in two; within the window,
//! timestamps are used as in the reference.

mod attempt;
pub(crate) mod fallback;
mod row;
pub(crate) mod rules;
pub(crate) mod sampler;
pub(crate) mod search;
pub(crate) mod seek;
pub(crate) mod window;

pub(crate) use attempt::Attempt;
pub(crate) use row::Row;
