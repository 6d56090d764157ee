//! Whisper's decoding: from one window's states to text, and from text to segments and the next window.
//!
//! The parts are those of OpenAI's reference implementation (`decoding.py`, `transcribe.py`), one file each:
//! [`rules`] which token may follow, [`sampler`] which one does, [`window`] the loop over a batch of windows,
//! [`fallback`] whether a window's text can be believed, [`seek`] what a text with time stamps says about segments and
//! where the next window begins.
//!
//! # Long recordings without time stamps
//!
//! With `timestamps: none` the model is not asked for time stamps. A recording longer than one window is then cut at
//! the quietest pause in the later half of each window, and what follows the pause is left to the next window. With
//! the bundled model this gives far fewer errors than windows that follow the model's time stamps; the figures are in
//! the crate's documentation. `timestamps: segment` follows the reference.

pub(crate) mod fallback;
pub(crate) mod rules;
pub(crate) mod sampler;
pub(crate) mod seek;
pub(crate) mod window;
