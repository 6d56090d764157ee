//! The sessions of a model, whichever kind of graphs it has.

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
    /// Encode windows, each `[frames, n_mels]` log10 mel power with at most a window's frames. Says how long it took.
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
    /// The first step: `tokens` is `[batch, length]`, the same length for every window. Gives logits at the `wanted` positions of each
    /// row, in ascending order.
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

    /// Go on with these rows of the step before, in this order; a row may be taken several times, or not at all.
    pub fn select(&mut self, cache: &mut Cache, rows: &[usize]) -> Result<(), Error> {
        match self {
            Decoder::Built(decoder) => decoder.select(cache, rows),
            Decoder::Onnx(decoder) => decoder.select(cache, rows),
        }
    }

    /// Keep the states of these windows alone, in ascending order. From then on they are counted from 0.
    pub fn keep(&mut self, states: &mut States, windows: &[usize]) -> Result<(), Error> {
        match self {
            Decoder::Built(decoder) => decoder.retain(states, windows),
            Decoder::Onnx(decoder) => decoder.retain(states, windows),
        }?;
        states.windows = (0..windows.len()).collect();
        Ok(())
    }

    /// Leave out the states of windows that are not among the `needed` ones, where that makes the following steps faster.
    pub fn compact(&mut self, cache: &mut Cache, needed: &[usize]) -> Result<(), Error> {
        match self {
            Decoder::Built(decoder) => decoder.compact(cache, needed),
            Decoder::Onnx(_) => Ok(()), // a row has states of its own
        }
    }

    /// A following step: one token per row. Logits for one position.
    pub fn next(&mut self, tokens: Vec<i64>, cache: &mut Cache) -> Result<Logits, Error> {
        match self {
            Decoder::Built(decoder) => decoder.next(tokens, cache),
            Decoder::Onnx(decoder) => decoder.next(tokens, cache),
        }
    }

    /// Let go of the tensors of a batch that has ended.
    pub fn release(&mut self) {
        match self {
            Decoder::Built(decoder) => decoder.release(),
            Decoder::Onnx(decoder) => decoder.release(),
        }
    }
}
