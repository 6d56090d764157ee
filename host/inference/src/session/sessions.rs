//! The sessions of a model, for either kind of graphs.

use std::time::{Duration, Instant};

use super::batch::{Cache, Logits, States};
use super::{built, onnx};
use crate::Error;

/// The sessions of one model.
pub(crate) struct Sessions {
    pub encoder: Encoder,
    pub decoder: Decoder,
}

/// The encoder.
pub(crate) enum Encoder {
    Built(built::Encoder),
    Onnx(onnx::Encoder),
}

/// The decoder.
pub(crate) enum Decoder {
    Built(Box<built::Decoder>),
    Onnx(Box<onnx::Decoder>),
}

impl Encoder {
    /// Encodes windows, each `[frames, n_mels]` log10 mel power with at most a window's frames. Also returns the time taken.
    pub fn encode(&mut self, windows: &[&[f32]]) -> Result<(States, Duration), Error> {
        let begun = Instant::now();
        let states = match self {
            Encoder::Built(encoder) => encoder.encode(windows),
            Encoder::Onnx(encoder) => encoder.encode(windows),
        }?;
        Ok((states, begun.elapsed()))
    }
}

impl Decoder {
    /// Runs the first step: `tokens` is `[batch, length]`, with the same length for every window. Returns logits at the `wanted`
    /// positions of each row, which are in ascending order.
    pub fn first<'a>(
        &mut self,
        tokens: Vec<i64>,
        states: &'a mut States,
        wanted: &[usize],
    ) -> Result<(Logits, Cache<'a>), Error> {
        match self {
            Decoder::Built(decoder) => decoder.first(tokens, states, wanted),
            Decoder::Onnx(decoder) => decoder.first(tokens, states),
        }
    }

    /// Continues with these rows of the previous step, in this order; rows may be repeated or left out.
    pub fn select(&mut self, cache: &mut Cache, rows: &[usize]) -> Result<(), Error> {
        match self {
            Decoder::Built(decoder) => decoder.select(cache, rows),
            Decoder::Onnx(decoder) => decoder.select(cache, rows),
        }
    }

    /// Keeps only the states of these windows, in ascending order, and renumbers them from 0.
    pub fn keep(&mut self, states: &mut States, windows: &[usize]) -> Result<(), Error> {
        match self {
            Decoder::Built(decoder) => decoder.retain(states, windows),
            Decoder::Onnx(decoder) => decoder.retain(states, windows),
        }?;
        states.windows = (0..windows.len()).collect();
        Ok(())
    }

    /// Removes the states of windows that are not `needed`, if that makes the following steps faster.
    pub fn compact(&mut self, cache: &mut Cache, needed: &[usize]) -> Result<(), Error> {
        match self {
            Decoder::Built(decoder) => decoder.compact(cache, needed),
            Decoder::Onnx(_) => Ok(()), // each row has its own states
        }
    }

    /// Runs a following step: one token per row. Returns logits for one position.
    pub fn next(&mut self, tokens: Vec<i64>, cache: &mut Cache) -> Result<Logits, Error> {
        match self {
            Decoder::Built(decoder) => decoder.next(tokens, cache),
            Decoder::Onnx(decoder) => decoder.next(tokens, cache),
        }
    }

    /// Releases the tensors of a finished batch.
    pub fn release(&mut self) {
        match self {
            Decoder::Built(decoder) => decoder.release(),
            Decoder::Onnx(decoder) => decoder.release(),
        }
    }
}
