//! The encoder: normalised windows of frames to states.

use std::time::{Duration, Instant};

use half::f16;
use ort::memory::MemoryInfo;
use ort::value::{DynValue, Tensor, TensorElementType};

use super::Graph;
use crate::features::normalise;
use crate::model::Sizes;
use crate::{Error, LoadError};

const INPUT: &str = "input_features";
const OUTPUT: &str = "last_hidden_state";

/// Encoder states of a batch, `[batch, positions, width]`, where the decoder will read them.
pub(crate) struct States {
    pub(super) value: DynValue,
    /// Windows in the batch.
    pub batch: usize,
}

/// The encoder's session.
pub(crate) struct Encoder {
    graph: Graph,
    memory: MemoryInfo<'static>,
    element: TensorElementType,
    n_mels: usize,
    window: usize,
}

impl Encoder {
    pub(super) fn new(
        graph: Graph,
        memory: MemoryInfo<'static>,
        sizes: &Sizes,
    ) -> Result<Self, LoadError> {
        let input = graph.require(graph.input(INPUT), "input", INPUT)?;
        graph.check_shape(input, &[None, Some(sizes.n_mels), Some(sizes.window)])?;
        let element = input.dtype().tensor_type();
        let element = match element {
            Some(element @ (TensorElementType::Float32 | TensorElementType::Float16)) => element,
            _ => {
                return Err(
                    graph.error(format!("input `{INPUT}`"), "is neither float32 nor float16")
                );
            }
        };
        let output = graph.require(graph.output(OUTPUT), "output", OUTPUT)?;
        graph.check_shape(
            output,
            &[
                None,
                Some(sizes.positions),
                Some(sizes.heads * sizes.head_dim),
            ],
        )?;
        Ok(Self {
            graph,
            memory,
            element,
            n_mels: sizes.n_mels,
            window: sizes.window,
        })
    }

    /// Encode windows, each `[frames, n_mels]` log10 mel power with at most a window's frames.
    pub fn encode(&mut self, windows: &[&[f32]]) -> Result<(States, Duration), Error> {
        let begun = Instant::now();
        let input = if self.element == TensorElementType::Float16 {
            self.tensor(windows, f16::ZERO, f16::from_f32)?
        } else {
            self.tensor(windows, 0f32, |x| x)?
        };
        self.graph.binding.bind_input(INPUT, &input)?;
        let mut values = self.graph.run(&[(OUTPUT, &self.memory)])?;
        self.graph.binding.clear_inputs();
        let value = values.remove(0);
        Ok((
            States {
                value,
                batch: windows.len(),
            },
            begun.elapsed(),
        ))
    }

    /// `[batch, n_mels, window]`, normalised straight into place.
    fn tensor<T>(
        &self,
        windows: &[&[f32]],
        zero: T,
        convert: impl Fn(f32) -> T,
    ) -> Result<DynValue, Error>
    where
        T: ort::value::PrimitiveTensorElementType + Copy + std::fmt::Debug + 'static,
    {
        let size = self.n_mels * self.window;
        let mut data = vec![zero; windows.len() * size];
        for (frames, out) in windows.iter().zip(data.chunks_exact_mut(size)) {
            normalise(frames, self.n_mels, out, &convert);
        }
        let shape = [windows.len(), self.n_mels, self.window];
        Ok(Tensor::from_array((shape, data))?.into_dyn())
    }
}
