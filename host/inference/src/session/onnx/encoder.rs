//! The encoder: normalised windows of frames to states.

use ort::memory::MemoryInfo;
use ort::value::TensorElementType;

use crate::model::Dimensions;
use crate::session::batch::States;
use crate::session::bound::Session;
use crate::session::frames::Frames;
use crate::{Error, LoadError};

const INPUT: &str = "input_features";
const OUTPUT: &str = "last_hidden_state";

/// The encoder's session.
pub(crate) struct Encoder {
    session: Session,
    memory: MemoryInfo<'static>,
    element: TensorElementType,
    frames: Frames,
}

impl Encoder {
    pub(in crate::session) fn new(
        session: Session,
        memory: MemoryInfo<'static>,
        dimensions: &Dimensions,
    ) -> Result<Self, LoadError> {
        let input = session.require(session.input(INPUT), "input", INPUT)?;
        session.check_shape(
            input,
            &[None, Some(dimensions.n_mels), Some(dimensions.window)],
        )?;
        let element = input.dtype().tensor_type();
        let element = match element {
            Some(element @ (TensorElementType::Float32 | TensorElementType::Float16)) => element,
            _ => {
                return Err(
                    session.error(format!("input `{INPUT}`"), "is neither float32 nor float16")
                );
            }
        };
        let output = session.require(session.output(OUTPUT), "output", OUTPUT)?;
        session.check_shape(
            output,
            &[
                None,
                Some(dimensions.positions),
                Some(dimensions.heads * dimensions.head_dim),
            ],
        )?;
        Ok(Self {
            session,
            memory,
            element,
            frames: Frames::new(dimensions),
        })
    }

    /// Encodes windows, each `[frames, n_mels]` log10 mel power with at most a window's frames.
    pub fn encode(&mut self, windows: &[&[f32]]) -> Result<States, Error> {
        let input = self.frames.tensor(windows, self.element)?;
        self.session.binding.bind_input(INPUT, &input)?;
        let values = self.session.run(&[(OUTPUT, &self.memory)])?;
        self.session.binding.clear_inputs();
        Ok(States::new(values, windows.len()))
    }
}
