//! The model's ONNX sessions: frames to encoder states, tokens and states to logits.
//!
//! Only this module and its children name ONNX Runtime types, others hold what they give without looking
//! inside. On CUDA the encoder's states and the key-value cache stay in device memory.

mod decoder;
mod encoder;
mod load;
mod rows;

pub(crate) use decoder::{Decoder, Logits};
pub(crate) use encoder::{Encoder, States};
pub(crate) use load::load;

use ort::memory::MemoryInfo;
use ort::session::{IoBinding, Session};
use ort::value::{DynValue, Outlet, ValueType};

use crate::{Error, LoadError};

/// The sessions of one model.
pub(crate) struct Sessions {
    pub encoder: Encoder,
    pub decoder: Decoder,
}

/// One ONNX graph and the binding of its inputs and outputs, made once and used for every run.
struct Graph {
    session: Session,
    binding: IoBinding,
    file: std::path::PathBuf,
}

impl Graph {
    fn input(&self, name: &str) -> Option<&Outlet> {
        self.session
            .inputs()
            .iter()
            .find(|input| input.name() == name)
    }

    fn output(&self, name: &str) -> Option<&Outlet> {
        self.session
            .outputs()
            .iter()
            .find(|output| output.name() == name)
    }

    fn error(&self, field: String, problem: impl Into<String>) -> LoadError {
        LoadError::Field {
            file: self.file.clone(),
            field,
            problem: problem.into(),
        }
    }

    /// The outlet, or an error that the file lacks it.
    fn require<'a>(
        &self,
        outlet: Option<&'a Outlet>,
        kind: &str,
        name: &str,
    ) -> Result<&'a Outlet, LoadError> {
        outlet.ok_or_else(|| {
            self.error(
                format!("{kind} `{name}`"),
                "is missing; export the model with its key-value cache, as `optimum` does for \
                 automatic-speech-recognition-with-past",
            )
        })
    }

    /// Check the fixed dimensions of `outlet` against `expected`; none means any.
    fn check_shape(&self, outlet: &Outlet, expected: &[Option<usize>]) -> Result<(), LoadError> {
        let ValueType::Tensor { shape, .. } = outlet.dtype() else {
            return Err(self.error(format!("tensor `{}`", outlet.name()), "is not a tensor"));
        };
        let fits = shape.len() == expected.len()
            && shape.iter().zip(expected).all(|(&actual, expected)| {
                actual < 0 || expected.is_none_or(|expected| actual == expected as i64)
            });
        if fits {
            return Ok(());
        }
        let expected: Vec<String> = expected
            .iter()
            .map(|size| size.map_or("any".into(), |size| size.to_string()))
            .collect();
        Err(self.error(
            format!("tensor `{}`", outlet.name()),
            format!(
                "has the shape {shape:?}, but the model's JSON files give [{}]; take all files from the same model",
                expected.join(", ")
            ),
        ))
    }

    /// Run with the inputs bound, and the named outputs bound to the memory given. Values come in the order asked.
    fn run(&mut self, outputs: &[(&str, &MemoryInfo)]) -> ort::Result<Vec<DynValue>> {
        // A bound output keeps the tensor of the run before, whose shape no longer fits, so outputs are bound anew.
        self.binding.clear_outputs();
        for (name, memory) in outputs {
            self.binding.bind_output_to_device(*name, memory)?;
        }
        self.binding.synchronize_inputs()?;
        let mut values = self.session.run_binding(&self.binding)?;
        self.binding.synchronize_outputs()?;
        outputs
            .iter()
            .map(|(name, _)| {
                values
                    .remove(name)
                    .ok_or_else(|| ort::Error::new(format!("the graph gave no output `{name}`")))
            })
            .collect()
    }
}

impl From<ort::Error> for Error {
    fn from(error: ort::Error) -> Self {
        Error::Internal(format!("ONNX Runtime: {error}"))
    }
}
