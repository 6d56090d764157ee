//! One ONNX session with its bound tensors.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use memmap2::Mmap;
use ort::memory::MemoryInfo;
use ort::session::IoBinding;
use ort::value::{DynValue, Outlet, ValueType};

use super::settings::failed;
use crate::LoadError;

/// One ONNX session and the binding of its inputs and outputs, created once and used for every run.
pub(in crate::session) struct Session {
    pub(in crate::session) session: ort::session::Session,
    pub(in crate::session) binding: IoBinding,
    pub(in crate::session) file: PathBuf,
    /// Mapped files with its weights. Declared last, so that they are unmapped after the session is dropped.
    pub(in crate::session) _maps: Vec<Arc<Mmap>>,
}

impl Session {
    pub(in crate::session) fn new(
        session: ort::session::Session,
        file: &Path,
        maps: Vec<Arc<Mmap>>,
    ) -> Result<Self, LoadError> {
        Ok(Self {
            binding: session.create_binding().map_err(failed(file))?,
            session,
            file: file.to_owned(),
            _maps: maps,
        })
    }

    pub(in crate::session) fn input(&self, name: &str) -> Option<&Outlet> {
        self.session
            .inputs()
            .iter()
            .find(|input| input.name() == name)
    }

    pub(in crate::session) fn output(&self, name: &str) -> Option<&Outlet> {
        self.session
            .outputs()
            .iter()
            .find(|output| output.name() == name)
    }

    pub(in crate::session) fn error(&self, field: String, problem: impl Into<String>) -> LoadError {
        LoadError::Field {
            file: self.file.clone(),
            field,
            problem: problem.into(),
        }
    }

    /// Returns the outlet, or an error that the file lacks it.
    pub(in crate::session) fn require<'a>(
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

    /// Checks the fixed dimensions of `outlet` against `expected`; `None` means any.
    pub(in crate::session) fn check_shape(
        &self,
        outlet: &Outlet,
        expected: &[Option<usize>],
    ) -> Result<(), LoadError> {
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

    /// Runs with the bound inputs, and the named outputs in the given memory. Returns the outputs in the order of `outputs`.
    pub(in crate::session) fn run(
        &mut self,
        outputs: &[(&str, &MemoryInfo)],
    ) -> ort::Result<Vec<DynValue>> {
        // A bound output keeps the tensor of the previous run, whose shape no longer fits, so outputs are bound again.
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
                values.remove(name).ok_or_else(|| {
                    ort::Error::new(format!("the graph returned no output `{name}`"))
                })
            })
            .collect()
    }

    /// Runs with the bound inputs and outputs; the outputs are tensors of the caller.
    pub(in crate::session) fn run_bound(&mut self) -> ort::Result<()> {
        self.session.run_binding(&self.binding)?;
        Ok(())
    }
}
