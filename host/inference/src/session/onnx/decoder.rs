//! The decoder: tokens and encoder states to logits, with the key-value cache kept where ONNX Runtime allocated it.
//!
//! A cache tensor is `[batch, heads, tokens, head_dim]`. The outputs of one step are bound as the inputs of the next, so no cache
//! passes through a host vector; those made from the encoder's states are outputs of the first step. Rows are selected from them when
//! a beam search continues with other rows, or windows are finished.

use ort::memory::{Allocator, MemoryInfo};
use ort::value::{DynTensor, DynValue, Tensor, TensorElementType};

use crate::model::Dimensions;
use crate::session::batch::{Cache, Logits, States};
use crate::session::bound::Session;
use crate::session::rows::Rows;
use crate::session::slots::Slots;
use crate::{Error, LoadError};

const TOKENS: &str = "input_ids";
const STATES: &str = "encoder_hidden_states";
const BRANCH: &str = "use_cache_branch";
const LOGITS: &str = "logits";
const PAST: &str = "past_key_values";
const PRESENT: &str = "present";

/// The decoder's sessions.
pub(crate) struct Decoder {
    graphs: Graphs,
    caches: Vec<CacheName>,
    /// Memory of the caches.
    memory: MemoryInfo<'static>,
    /// Memory of the logits.
    host: MemoryInfo<'static>,
    /// Selects rows of all growing caches at once.
    growing: Rows,
    /// Selects rows of one constant cache.
    constant: Rows,
    /// Selects rows of the encoder's states.
    states: Rows,
    heads: usize,
    head_dim: usize,
}

/// The decoder's graph or graphs.
pub(in crate::session) struct Graphs {
    /// The first step, and in a merged decoder also the following ones.
    pub first: Session,
    /// The following steps of a split decoder.
    pub next: Option<Session>,
}

/// The input and output names of a cache tensor.
struct CacheName {
    past: String,
    present: String,
    element: TensorElementType,
    /// Whether it is made from the encoder's states, and so the same in every step.
    constant: bool,
}

impl Decoder {
    pub(in crate::session) fn new(
        graphs: Graphs,
        memory: MemoryInfo<'static>,
        host: MemoryInfo<'static>,
        rows: impl Fn(TensorElementType, usize, usize) -> Result<Rows, LoadError>,
        dimensions: &Dimensions,
    ) -> Result<Self, LoadError> {
        let first = &graphs.first;
        let next = graphs.next.as_ref().unwrap_or(first);
        for graph in [first, next] {
            check_graph(graph, dimensions)?;
        }
        if graphs.next.is_none() {
            first.require(first.input(BRANCH), "input", BRANCH)?;
        }
        let caches = next
            .session
            .inputs()
            .iter()
            .filter(|input| input.name().starts_with(PAST))
            .map(|input| {
                next.check_shape(
                    input,
                    &[
                        None,
                        Some(dimensions.heads),
                        None,
                        Some(dimensions.head_dim),
                    ],
                )?;
                let past = input.name().to_owned();
                let present = past.replacen(PAST, PRESENT, 1);
                first.require(first.output(&present), "output", &present)?;
                let constant = past.contains(".encoder.");
                if !constant {
                    next.require(next.output(&present), "output", &present)?;
                }
                Ok(CacheName {
                    constant,
                    element: input
                        .dtype()
                        .tensor_type()
                        .unwrap_or(TensorElementType::Float32),
                    past,
                    present,
                })
            })
            .collect::<Result<Vec<_>, LoadError>>()?;
        // Key and value of the text and of the encoder's states, per layer.
        if caches.len() != 4 * dimensions.layers {
            return Err(next.error(
                format!("inputs `{PAST}.*`"),
                format!(
                    "number {}, but `decoder_layers` of config.json is {}, which needs {}",
                    caches.len(),
                    dimensions.layers,
                    4 * dimensions.layers
                ),
            ));
        }
        let element = caches[0].element;
        if caches.iter().any(|cache| cache.element != element) {
            return Err(next.error(
                format!("inputs `{PAST}.*`"),
                "do not all have the same type; export the decoder in one precision",
            ));
        }
        let states = first.require(first.input(STATES), "input", STATES)?;
        let states = states.dtype().tensor_type().unwrap_or(element);
        Ok(Self {
            growing: rows(element, 4, 2 * dimensions.layers)?,
            constant: rows(element, 4, 1)?,
            states: rows(states, 3, 1)?,
            graphs,
            caches,
            memory,
            host,
            heads: dimensions.heads,
            head_dim: dimensions.head_dim,
        })
    }

    /// Runs the first step: `tokens` is `[batch, length]`, with the same length for every row. Returns logits for every position.
    pub fn first<'a>(
        &mut self,
        tokens: Vec<i64>,
        states: &'a mut States,
    ) -> Result<(Logits, Cache<'a>), Error> {
        let graph = &mut self.graphs.first;
        if self.graphs.next.is_none() {
            graph
                .binding
                .bind_input(BRANCH, &Tensor::from_array(([1], vec![false]))?)?;
            let empty = [states.batch(), self.heads, 0, self.head_dim];
            for cache in &self.caches {
                let value = DynTensor::new(&Allocator::default(), cache.element, empty)?;
                graph.binding.bind_input(&cache.past, &value)?;
            }
        }
        let length = tokens.len() / states.batch();
        let tokens = Tensor::from_array(([states.batch(), length], tokens))?;
        graph.binding.bind_input(TOKENS, &tokens)?;
        if graph.input(STATES).is_some() {
            graph.binding.bind_input(STATES, &states.values[0])?;
        }
        let mut outputs = vec![(LOGITS, &self.host)];
        outputs.extend(
            self.caches
                .iter()
                .map(|cache| (cache.present.as_str(), &self.memory)),
        );
        let mut tensors = graph.run(&outputs)?;
        let logits = Logits::new(tensors.remove(0), (0..length).collect());
        let cache = Cache {
            windows: states.windows.clone(),
            states,
            selected: None,
            tensors,
            slots: Slots::default(),
            idle: 0,
        };
        Ok((logits, cache))
    }

    /// Continues with these rows of the previous step, in this order; rows may be repeated or left out.
    pub fn select(&mut self, cache: &mut Cache, rows: &[usize]) -> Result<(), Error> {
        if rows.iter().copied().eq(0..cache.windows.len()) {
            return Ok(());
        }
        self.release(); // bound tensors would stay in memory next to their replacements
        let windows: Vec<usize> = rows.iter().map(|&row| cache.windows[row]).collect();
        let (constant, growing): (Vec<usize>, Vec<usize>) =
            (0..self.caches.len()).partition(|&index| self.caches[index].constant);
        let tensors: Vec<&DynValue> = growing.iter().map(|&index| &cache.tensors[index]).collect();
        for (index, taken) in growing.iter().zip(self.growing.take(&tensors, rows)?) {
            cache.tensors[*index] = taken;
        }
        if windows != cache.windows {
            // One by one, so that only one of the encoder's large tensors is in memory twice.
            for index in constant {
                let mut taken = self.constant.take(&[&cache.tensors[index]], rows)?;
                cache.tensors[index] = taken.remove(0);
            }
            let next = self.graphs.next.as_ref().unwrap_or(&self.graphs.first);
            if next.input(STATES).is_some() {
                let rows: Vec<usize> = windows
                    .iter()
                    .map(|window| cache.states.windows.partition_point(|other| other < window))
                    .collect();
                let mut taken = self.states.take(&[&cache.states.values[0]], &rows)?;
                cache.selected = Some(taken.remove(0));
            }
            cache.windows = windows;
        }
        Ok(())
    }

    /// Removes the states of all but these windows.
    pub fn retain(&mut self, states: &mut States, windows: &[usize]) -> Result<(), Error> {
        self.release();
        states.retain(windows, |value, rows| {
            Ok(self.states.take(&[value], rows)?.remove(0))
        })
    }

    /// Runs a following step: one token per row. Returns logits for one position.
    pub fn next(&mut self, tokens: Vec<i64>, cache: &mut Cache) -> Result<Logits, Error> {
        let graph = match &mut self.graphs.next {
            Some(graph) => graph,
            None => {
                let graph = &mut self.graphs.first;
                graph
                    .binding
                    .bind_input(BRANCH, &Tensor::from_array(([1], vec![true]))?)?;
                graph
            }
        };
        let tokens = Tensor::from_array(([tokens.len(), 1], tokens))?;
        graph.binding.bind_input(TOKENS, &tokens)?;
        if graph.input(STATES).is_some() {
            let states = cache.selected.as_ref().unwrap_or(&cache.states.values[0]);
            graph.binding.bind_input(STATES, states)?;
        }
        for (name, value) in self.caches.iter().zip(&cache.tensors) {
            graph.binding.bind_input(&name.past, value)?;
        }
        let mut outputs = vec![(LOGITS, &self.host)];
        outputs.extend(
            self.caches
                .iter()
                .filter(|cache| !cache.constant)
                .map(|cache| (cache.present.as_str(), &self.memory)),
        );
        let mut values = graph.run(&outputs)?.into_iter();
        let logits = values.next();
        for (name, value) in self.caches.iter().zip(&mut cache.tensors) {
            if !name.constant
                && let Some(grown) = values.next()
            {
                *value = grown;
            }
        }
        logits
            .map(|logits| Logits::new(logits, vec![0]))
            .ok_or_else(|| Error::Internal("the decoder returned no logits".into()))
    }

    /// Releases the tensors of a finished batch.
    pub fn release(&mut self) {
        self.graphs.first.binding.clear();
        if let Some(next) = &mut self.graphs.next {
            next.binding.clear();
        }
    }
}

/// Checks what both kinds of decoder need: logits of the right size, and no unknown inputs.
fn check_graph(graph: &Session, dimensions: &Dimensions) -> Result<(), LoadError> {
    graph.require(graph.input(TOKENS), "input", TOKENS)?;
    let logits = graph.require(graph.output(LOGITS), "output", LOGITS)?;
    graph.check_shape(logits, &[None, None, Some(dimensions.vocabulary)])?;
    if let Some(states) = graph.input(STATES) {
        graph.check_shape(
            states,
            &[None, None, Some(dimensions.heads * dimensions.head_dim)],
        )?;
    }
    let known = |name: &str| [TOKENS, STATES, BRANCH].contains(&name) || name.starts_with(PAST);
    match graph
        .session
        .inputs()
        .iter()
        .find(|input| !known(input.name()))
    {
        Some(input) => Err(graph.error(
            format!("input `{}`", input.name()),
            format!("is unknown; the inputs of a Whisper decoder are {TOKENS}, {STATES}, {PAST}.* and {BRANCH}"),
        )),
        None => Ok(()),
    }
}
