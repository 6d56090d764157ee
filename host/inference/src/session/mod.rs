//! The model's ONNX sessions: frames to encoder states, tokens and states to logits.
//!
//! Two kinds of graphs: [`built`] here from a checkpoint's weights, and [`onnx`] files as they are published. Only this module
//! and its children name ONNX Runtime types, others hold what they give without looking inside. On CUDA the encoder's states and
//! the key-value cache stay in device memory.

mod built;
mod load;
mod onnx;
mod rows;
#[cfg(test)]
mod shapes;
mod slots;
#[cfg(test)]
mod tests;

pub(crate) use load::load;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use half::f16;
use memmap2::Mmap;
use ort::memory::MemoryInfo;
use ort::session::IoBinding;
use ort::value::{DynValue, Outlet, Tensor, TensorElementType, ValueType};

use self::slots::Slots;
use crate::features::normalise;
use crate::model::Sizes;
use crate::{Error, LoadError};

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

/// What the encoder makes of a batch, where the decoder will read it: its states, `[batch, positions, width]`, or the keys and
/// values that every layer of the decoder makes of them, `[batch, heads, positions, head_dim]` each, or packed.
pub(crate) struct States {
    values: Vec<DynValue>,
    /// The window of each row of the tensors, in ascending order.
    windows: Vec<usize>,
}

/// What the decoder keeps of one batch from step to step.
pub(crate) struct Cache<'a> {
    states: &'a mut States,
    /// A row of states for each of the cache's, where a graph needs them so and rows have been selected.
    selected: Option<DynValue>,
    /// The window of each row.
    windows: Vec<usize>,
    /// Keys and values, `[rows, heads, tokens, head_dim]` each, where they go in and out of the graph.
    tensors: Vec<DynValue>,
    /// Where they are, if the graph keeps them.
    slots: Slots,
    /// Reads of windows that were not needed any more, since the last compaction.
    idle: usize,
}

/// Logits of one step, of every row at some positions, in host memory.
pub(crate) struct Logits {
    value: DynValue,
    positions: Vec<usize>,
}

impl States {
    fn new(values: Vec<DynValue>, batch: usize) -> Self {
        Self {
            values,
            windows: (0..batch).collect(),
        }
    }

    /// How many windows there are.
    pub fn batch(&self) -> usize {
        self.windows.len()
    }

    /// Leave out all but these windows. `take` gives rows of a tensor.
    fn retain(
        &mut self,
        windows: &[usize],
        mut take: impl FnMut(&DynValue, &[usize]) -> ort::Result<DynValue>,
    ) -> Result<(), Error> {
        let rows: Vec<usize> = (0..self.windows.len())
            .filter(|&row| windows.contains(&self.windows[row]))
            .collect();
        if rows.len() != windows.len() {
            return Err(Error::Internal(
                "states of a window are not there any more".into(),
            ));
        }
        if rows.len() < self.windows.len() {
            // One by one: they are large, and so only one is in memory twice at a time.
            for value in &mut self.values {
                *value = take(value, &rows)?;
            }
            self.windows = rows.iter().map(|&row| self.windows[row]).collect();
        }
        Ok(())
    }
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

impl Logits {
    /// `value` is `[rows * positions, vocabulary]`, whatever dimensions these are.
    fn new(value: DynValue, positions: Vec<usize>) -> Self {
        Self { value, positions }
    }

    /// Copy the logits of `row` at `position` into `out`, as f32.
    pub fn read(&self, row: usize, position: usize, out: &mut Vec<f32>) -> Result<(), Error> {
        out.clear();
        if let Ok((shape, data)) = self.value.try_extract_tensor::<f32>() {
            out.extend_from_slice(&data[self.place(shape, row, position)?]);
        } else {
            let (shape, data) = self.value.try_extract_tensor::<f16>()?;
            let place = self.place(shape, row, position)?;
            out.extend(data[place].iter().map(|value| value.to_f32()));
        }
        Ok(())
    }

    fn place(
        &self,
        shape: &[i64],
        row: usize,
        position: usize,
    ) -> Result<std::ops::Range<usize>, Error> {
        let vocabulary = shape.last().map_or(0, |&size| size as usize);
        let count: i64 = shape.iter().product();
        let missing = || {
            Error::Internal(format!(
                "the logits have the shape {shape:?}, without row {row} at position {position}"
            ))
        };
        let index = self
            .positions
            .iter()
            .position(|&other| other == position)
            .ok_or_else(missing)?;
        let start = (row * self.positions.len() + index) * vocabulary;
        if start + vocabulary > count as usize {
            return Err(missing());
        }
        Ok(start..start + vocabulary)
    }
}

/// Makes the encoder's input.
struct Frames {
    n_mels: usize,
    window: usize,
}

impl Frames {
    fn new(sizes: &Sizes) -> Self {
        Self {
            n_mels: sizes.n_mels,
            window: sizes.window,
        }
    }

    /// `[batch, n_mels, window]`, f32 or f16.
    fn tensor(&self, windows: &[&[f32]], element: TensorElementType) -> Result<DynValue, Error> {
        match element {
            TensorElementType::Float16 => self.of(windows, f16::ZERO, f16::from_f32),
            _ => self.of(windows, 0f32, |x| x),
        }
    }

    /// Normalised straight into place.
    fn of<T>(
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

/// One ONNX session and the binding of its inputs and outputs, made once and used for every run.
struct Session {
    session: ort::session::Session,
    binding: IoBinding,
    file: PathBuf,
    /// Files that its weights lie in. Declared last, so that they are unmapped after the session has ended.
    _maps: Vec<Arc<Mmap>>,
}

impl Session {
    fn new(
        session: ort::session::Session,
        file: &Path,
        maps: Vec<Arc<Mmap>>,
    ) -> Result<Self, LoadError> {
        Ok(Self {
            binding: session.create_binding().map_err(load::failed(file))?,
            session,
            file: file.to_owned(),
            _maps: maps,
        })
    }

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

    /// Run with inputs and outputs as they are bound, outputs into tensors of the caller's.
    fn run_bound(&mut self) -> ort::Result<()> {
        self.session.run_binding(&self.binding)?;
        Ok(())
    }
}

impl From<ort::Error> for Error {
    fn from(error: ort::Error) -> Self {
        Error::Internal(format!("ONNX Runtime: {error}"))
    }
}
