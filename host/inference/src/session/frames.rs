//! The encoder's input.

use half::f16;
use ort::value::{DynValue, Tensor, TensorElementType};

use crate::Error;
use crate::features::normalise;
use crate::model::Dimensions;

/// Builds the encoder's input.
pub(in crate::session) struct Frames {
    n_mels: usize,
    window: usize,
}

impl Frames {
    pub(in crate::session) fn new(dimensions: &Dimensions) -> Self {
        Self {
            n_mels: dimensions.n_mels,
            window: dimensions.window,
        }
    }

    /// Returns the input, `[batch, n_mels, window]`, f32 or f16.
    pub(in crate::session) fn tensor(
        &self,
        windows: &[&[f32]],
        element: TensorElementType,
    ) -> Result<DynValue, Error> {
        match element {
            TensorElementType::Float16 => self.typed(windows, f16::ZERO, f16::from_f32),
            _ => self.typed(windows, 0f32, |x| x),
        }
    }

    /// Normalises the windows directly into the tensor.
    fn typed<T>(
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
