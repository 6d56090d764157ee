//! Whisper's decoding: from one window's states to text, and from text to segments and the next window.
//!
//! The parts are those of OpenAI's reference implementation (`decoding.py`, `transcribe.py`), one file each:
//! [`rules`] which token may follow, [`sampler`] which ones are likely, [`search`] which text is the likeliest,
//! [`window`] the loop over a batch of windows, [`fallback`] whether a window's text can be believed, [`seek`] what a text
//! with time stamps says about segments and where the next window begins.
//!
//! # Long recordings
//!
//! Time stamps are always decoded, whether the caller asks for times or not. The reference cuts a long recording every full
//! window and relies on them to tell where the last whole segment ended. Here a window that is followed by more audio ends at
//! the quietest pause of its later half, if that is clearly quieter than the window, so that no sentence is cut through;
//! inside the window, time stamps count as in the reference.

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
