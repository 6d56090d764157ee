//! The decoder's graph, one for the prompt and the steps: tokens and caches to logits and grown caches.
//!
//! Rows are hypotheses, of which a window may have several. They attend to the window's keys and values together, so these are stored
//! and read once per window.

use ort::editor::ONNX_DOMAIN;
use ort::memory::{Allocator, MemoryInfo};
use ort::operator::Attribute;
use ort::value::{DynTensor, DynValue, Tensor, TensorElementType};

use super::caches::{CROSS, Cross, KEY_VALUE, PAST, PRESENT, Shape, cache_name};
use super::graph::{Arithmetic, CUSTOM, FUSED, Graph, integers};
use super::layers::Residual;
use crate::Error;
use crate::session::batch::{Cache, Logits, States};
use crate::session::bound::Session;
use crate::session::rows::Rows;
use crate::session::slots::Slots;
use crate::weights::Checkpoint;

const TOKENS: &str = "input_ids";
/// The position of each token, `[rows, tokens]`.
const POSITIONS: &str = "positions";
/// The tokens of each window, as indices into `[rows * tokens]`, padded with arbitrary ones.
const GROUPS: &str = "groups";
/// The index of each token in `GROUPS`, `[rows, tokens]`.
const PADDED_INDICES: &str = "padded_indices";
/// The slots of each row's tokens, `[rows, total]`, if the graph keeps the keys and values of the text.
const SLOTS: &str = "slots";
/// If they are inputs and outputs: the number of tokens in each row's cache after this run, less one.
const LAST: &str = "last_position";
/// If they are inputs and outputs: the number of tokens in the longest cache after this run.
const TOTAL: &str = "total_length";
/// The tokens whose logits are requested, as indices into `[rows * tokens]`.
const WANTED: &str = "wanted";
const LOGITS: &str = "logits";
/// The attention of the alignment heads, `[windows, heads, tokens, positions]`.
const ALIGNMENT: &str = "alignment";

/// Builds the graph. It keeps the keys and values of the text `in_slots`, or has them as inputs and outputs. The attention of the
/// `alignment` heads (layer and head), if any, is an output.
pub(super) fn graph(
    checkpoint: &Checkpoint,
    shape: Shape,
    element: TensorElementType,
    arithmetic: Arithmetic,
    in_slots: bool,
    cross: &Cross,
    alignment: &[(usize, usize)],
) -> ort::Result<Graph> {
    let mut graph = Graph::new(element, arithmetic);
    let width = checkpoint.width();
    let positions = shape.positions as i64;
    let (long, int) = (TensorElementType::Int64, TensorElementType::Int32);
    for (name, element, shape) in [
        (TOKENS, long, vec![-1, -1]),
        (POSITIONS, long, vec![-1, -1]),
        (GROUPS, long, vec![-1, -1]),
        (PADDED_INDICES, long, vec![-1, -1]),
        (WANTED, long, vec![-1]),
    ] {
        graph.input(name, element, &shape);
    }
    if in_slots {
        graph.input(SLOTS, long, &[-1, -1]);
    } else {
        graph.input(LAST, int, &[-1]);
        graph.input(TOTAL, int, &[]);
    }
    let tokens = graph.gather(
        "decoder.embeddings",
        "decoder.projection",
        &checkpoint.embeddings,
        TOKENS,
    )?;
    let table = &checkpoint.decoder_positions;
    let table = graph.matrix("decoder.positions", table, &[table.rows, width]);
    let table = graph.op("Gather", ONNX_DOMAIN, &[&table, POSITIONS], [])?;
    let mut residual = Residual::new(graph.op("Add", ONNX_DOMAIN, &[&tokens, &table], [])?);
    let flat = graph.integers("flat", &[2], &[-1, width as i64]);

    let mut attention = Vec::new();
    for (index, layer) in checkpoint.decoder.iter().enumerate() {
        let name = format!("decoder.{index}");
        let states = residual.norm(&mut graph, &format!("{name}.norm"), &layer.attention.norm)?;
        let projected = graph.affine(
            &format!("{name}.projections"),
            &states,
            &layer.attention.projections,
        )?;
        let attended = self_attention(&mut graph, &projected, index, shape, in_slots)?;
        let output = graph.linear(
            &format!("{name}.output"),
            &attended,
            &layer.attention.output,
        )?;
        residual.add(output);

        let states = residual.norm(&mut graph, &format!("{name}.cross_norm"), &layer.cross.norm)?;
        let query = graph.affine(&format!("{name}.cross_query"), &states, &layer.cross.query)?;
        let query = graph.op("Reshape", ONNX_DOMAIN, &[&query, &flat], [])?;
        let query = graph.op("Gather", ONNX_DOMAIN, &[&query, GROUPS], [])?;
        let aligned: Vec<i64> = alignment
            .iter()
            .filter(|(layer, _)| *layer == index)
            .map(|&(_, head)| head as i64)
            .collect();
        let (attended, weights) =
            cross_attention(&mut graph, &query, index, shape, cross, &aligned)?;
        attention.extend(weights);
        let attended = graph.op("Reshape", ONNX_DOMAIN, &[&attended, &flat], [])?;
        let attended = graph.op("Gather", ONNX_DOMAIN, &[&attended, PADDED_INDICES], [])?;
        let output = graph.linear(
            &format!("{name}.cross_output"),
            &attended,
            &layer.cross.output,
        )?;
        residual.add(output);
        residual.feed_forward(&mut graph, &name, &layer.feed_forward)?;
    }
    let states = residual.norm(&mut graph, "decoder.norm", &checkpoint.decoder_norm)?;
    let states = graph.op("Reshape", ONNX_DOMAIN, &[&states, &flat], [])?;
    let states = graph.op("Gather", ONNX_DOMAIN, &[&states, WANTED], [])?;
    let projection = crate::weights::Affine {
        weight: checkpoint.projection.clone(),
        bias: Vec::new(),
    };
    let logits = graph.affine("decoder.projection", &states, &projection)?;
    graph.node("Identity", ONNX_DOMAIN, &[&logits], &[LOGITS], [])?;
    graph.output(LOGITS, element, &[-1, checkpoint.projection.rows as i64]);
    if !attention.is_empty() {
        let attention: Vec<&str> = attention.iter().map(String::as_str).collect();
        graph.node(
            "Concat",
            ONNX_DOMAIN,
            &attention,
            &[ALIGNMENT],
            [Attribute::new("axis", 1i64)?],
        )?;
        graph.output(
            ALIGNMENT,
            element,
            &[-1, alignment.len() as i64, -1, positions],
        );
    }
    Ok(graph)
}

/// Adds the attention of layer `index` to the text so far, including the tokens of this run.
fn self_attention(
    graph: &mut Graph,
    projected: &str,
    index: usize,
    shape: Shape,
    in_slots: bool,
) -> ort::Result<String> {
    let (heads, head_dim) = (shape.heads as i64, shape.head_dim as i64);
    let count = Attribute::new("num_heads", heads)?;
    if in_slots {
        return graph.op("CachedAttention", CUSTOM, &[projected, SLOTS], [count]);
    }
    let [past, present] =
        [PAST, PRESENT].map(|kind| KEY_VALUE.map(|what| cache_name(kind, index, what)));
    let (element, dimensions) = (graph.element, [-1, heads, -1, head_dim]);
    for (past, present) in past.iter().zip(&present) {
        graph.input(past, element, &dimensions);
        graph.output(present, element, &dimensions);
    }
    let attended = graph.fresh("attended");
    graph.node(
        "GroupQueryAttention",
        FUSED,
        &[projected, "", "", &past[0], &past[1], LAST, TOTAL],
        &[&attended, &present[0], &present[1]],
        [count, Attribute::new("kv_num_heads", heads)?],
    )?;
    Ok(attended)
}

/// Adds the attention of layer `index` to the window. Also returns the weights of the `alignment` heads, if there are any, with the
/// shape `[windows, heads, tokens, positions]`.
fn cross_attention(
    graph: &mut Graph,
    query: &str,
    index: usize,
    shape: Shape,
    cross: &Cross,
    alignment: &[i64],
) -> ort::Result<(String, Option<String>)> {
    let (attended, scores) = (graph.fresh("attended"), graph.fresh("scores"));
    let asked = !alignment.is_empty();
    let positions = shape.positions as i64;
    if cross.packed {
        let packed = &cross.names[index];
        graph.input(packed, cross.element, &cross.dimensions());
        let outputs: &[&str] = if asked {
            &[&attended, &scores]
        } else {
            &[&attended]
        };
        let attributes = [
            Attribute::new("positions", positions)?,
            Attribute::new("weights_of", alignment.to_vec())?,
        ];
        graph.node(
            "PackedAttention",
            CUSTOM,
            &[query, packed],
            outputs,
            attributes,
        )?;
        return Ok((attended, asked.then_some(scores)));
    }
    let [key, value] = KEY_VALUE.map(|what| cache_name(CROSS, index, what));
    for name in [&key, &value] {
        graph.input(name, cross.element, &cross.dimensions());
    }
    let outputs: &[&str] = if asked {
        &[&attended, "", "", &scores]
    } else {
        &[&attended]
    };
    let heads = shape.heads as i64;
    let count = Attribute::new("num_heads", heads)?;
    let inputs = [query, &key, &value];
    graph.node("MultiHeadAttention", FUSED, &inputs, outputs, [count])?;
    if !asked {
        return Ok((attended, None));
    }
    // As an internal value it would have no type: ONNX Runtime does not infer that of this output.
    graph.output(&scores, cross.element, &[-1, heads, -1, positions]);
    let name = format!("decoder.{index}.alignment");
    let alignment = graph.integers(&name, &[alignment.len()], alignment);
    let axis = Attribute::new("axis", 1i64)?;
    let taken = graph.op("Gather", ONNX_DOMAIN, &[&scores, &alignment], [axis])?;
    let axis = Attribute::new("axis", -1i64)?;
    let weights = graph.op("Softmax", ONNX_DOMAIN, &[&taken], [axis])?;
    Ok((attended, Some(weights)))
}

/// The decoder's session.
pub(crate) struct Decoder {
    pub(super) session: Session,
    /// Memory of the caches.
    pub(super) memory: MemoryInfo<'static>,
    /// Memory of the logits.
    pub(super) host: MemoryInfo<'static>,
    pub(super) element: TensorElementType,
    /// Names of the encoder's tensors.
    pub(super) cross: Vec<String>,
    pub(super) text: Text,
    pub(super) shape: Shape,
    /// Selects rows of one of the encoder's tensors.
    pub(super) constant: Rows,
}

/// Where the keys and values of the text are kept from run to run.
pub(super) enum Text {
    /// In the graph's operators, for one batch at a time.
    Slots {
        /// Number of batches started.
        batch: u64,
    },
    /// In tensors with these names, which are inputs and outputs.
    Tensors {
        past: Vec<String>,
        present: Vec<String>,
        /// Selects rows of all of them at once.
        growing: Box<Rows>,
    },
}

impl Decoder {
    /// Runs the prompts, `[batch, length]`, with the same length for every window. Returns logits at the `wanted` positions.
    pub fn first<'a>(
        &mut self,
        tokens: Vec<i64>,
        states: &'a mut States,
        wanted: &[usize],
    ) -> Result<(Logits, Cache<'a>), Error> {
        let (tensors, slots) = match &mut self.text {
            Text::Slots { batch } => {
                *batch += 1;
                (Vec::new(), Slots::new(states.batch(), *batch))
            }
            Text::Tensors { past, .. } => {
                let empty = [states.batch(), self.shape.heads, 0, self.shape.head_dim];
                let empty = |_| {
                    let tensor = DynTensor::new(&Allocator::default(), self.element, empty)?;
                    Ok(tensor.into_dyn())
                };
                let tensors = past.iter().map(empty).collect::<ort::Result<Vec<_>>>()?;
                (tensors, Slots::default())
            }
        };
        let mut cache = Cache {
            windows: states.windows.clone(),
            states,
            selected: None,
            tensors,
            slots,
            idle: 0,
        };
        let logits = self.run(tokens, &mut cache, wanted)?;
        Ok((logits, cache))
    }

    /// Continues with these rows of the previous step, in this order; rows may be repeated or left out.
    pub fn select(&mut self, cache: &mut Cache, rows: &[usize]) -> Result<(), Error> {
        if rows.iter().copied().eq(0..cache.windows.len()) {
            return Ok(());
        }
        match &mut self.text {
            Text::Slots { .. } => cache.slots.select(rows),
            Text::Tensors { growing, .. } => {
                self.session.binding.clear(); // bound tensors would stay in memory next to their replacements
                let tensors: Vec<&DynValue> = cache.tensors.iter().collect();
                cache.tensors = growing.take(&tensors, rows)?;
            }
        }
        // Rows of a window are adjacent, and windows keep their order.
        cache.windows = rows.iter().map(|&row| cache.windows[row]).collect();
        Ok(())
    }

    /// Removes the states of windows that are not `needed`, once reading them has cost as much as removing them will: a window's states
    /// are most of what a step reads, and removing others means copying them.
    pub fn compact(&mut self, cache: &mut Cache, needed: &[usize]) -> Result<(), Error> {
        let mut kept = cache.states.windows.clone();
        kept.retain(|window| needed.contains(window) || cache.windows.contains(window));
        cache.idle += cache.states.batch() - kept.len();
        if cache.idle < 2 * kept.len() {
            return Ok(());
        }
        cache.idle = 0;
        self.retain(cache.states, &kept)
    }

    /// Removes the states of all but these windows.
    pub fn retain(&mut self, states: &mut States, windows: &[usize]) -> Result<(), Error> {
        self.session.binding.clear();
        states.retain(windows, |value, rows| {
            Ok(self.constant.take(&[value], rows)?.remove(0))
        })
    }

    /// Runs a following step: one token per row. Returns logits for one position.
    pub fn next(&mut self, tokens: Vec<i64>, cache: &mut Cache) -> Result<Logits, Error> {
        self.run(tokens, cache, &[0])
    }

    fn run(
        &mut self,
        tokens: Vec<i64>,
        cache: &mut Cache,
        wanted: &[usize],
    ) -> Result<Logits, Error> {
        self.bind(tokens, cache, wanted)?;
        let mut outputs = vec![(LOGITS, &self.host)];
        if let Text::Tensors { present, .. } = &self.text {
            outputs.extend(present.iter().map(|name| (name.as_str(), &self.memory)));
        }
        let mut values = self.session.run(&outputs)?;
        let logits = values.remove(0);
        cache.tensors = values;
        Ok(Logits::new(logits, wanted.to_vec()))
    }

    /// Binds all inputs of a run.
    fn bind(&mut self, tokens: Vec<i64>, cache: &mut Cache, wanted: &[usize]) -> Result<(), Error> {
        let states = &*cache.states;
        let rows = cache.windows.len();
        let length = tokens.len() / rows;
        let before = match &self.text {
            Text::Slots { batch } if *batch == cache.slots.batch => cache.slots.length(),
            Text::Slots { .. } => {
                let problem = "another batch has replaced the text of this one";
                return Err(Error::Internal(problem.into()));
            }
            Text::Tensors { .. } => match cache.tensors[0].dtype().tensor_shape() {
                Some(shape) => shape[2] as usize,
                None => return Err(Error::Internal("a cache is not a tensor".into())),
            },
        };
        let windows: Vec<usize> = cache
            .windows
            .iter()
            .map(|window| states.windows.partition_point(|other| other < window))
            .collect();
        let (groups, indices, widest) = group(&windows, states.batch(), length);
        let positions: Vec<i64> = (0..rows)
            .flat_map(|_| before..before + length)
            .map(|position| position as i64)
            .collect();
        let total = before + length;
        let wanted: Vec<i64> = (0..rows)
            .flat_map(|row| {
                wanted
                    .iter()
                    .map(move |position| (row * length + position) as i64)
            })
            .collect();
        let binding = &mut self.session.binding;
        binding.bind_input(TOKENS, &integers(&[rows, length], tokens)?)?;
        binding.bind_input(POSITIONS, &integers(&[rows, length], positions)?)?;
        binding.bind_input(GROUPS, &integers(&[states.batch(), widest], groups)?)?;
        binding.bind_input(PADDED_INDICES, &integers(&[rows, length], indices)?)?;
        binding.bind_input(WANTED, &integers(&[wanted.len()], wanted)?)?;
        match &self.text {
            Text::Slots { .. } => {
                let slots = cache.slots.grow(length);
                binding.bind_input(SLOTS, &integers(&[rows, total], slots)?)?;
            }
            Text::Tensors { past, .. } => {
                let total = total as i32;
                binding.bind_input(LAST, &Tensor::from_array(([rows], vec![total - 1; rows]))?)?;
                binding.bind_input(TOTAL, &Tensor::from_array(([0usize; 0], vec![total]))?)?;
                for (name, value) in past.iter().zip(&cache.tensors) {
                    binding.bind_input(name, value)?;
                }
            }
        }
        for (name, value) in self.cross.iter().zip(&states.values) {
            binding.bind_input(name, value)?;
        }
        Ok(())
    }

    /// Releases the tensors of a finished batch.
    pub fn release(&mut self) {
        self.session.binding.clear();
    }
}

/// Groups the rows' tokens by window. Returns the groups, the indices of the tokens in them, and the size of the largest group.
fn group(windows: &[usize], batch: usize, length: usize) -> (Vec<i64>, Vec<i64>, usize) {
    let mut counts = vec![0; batch];
    for &window in windows {
        counts[window] += 1;
    }
    let widest = counts.iter().copied().max().unwrap_or(0) * length;
    let mut groups = vec![0; batch * widest];
    let mut indices = Vec::with_capacity(windows.len() * length);
    let mut filled = vec![0; batch];
    for (row, &window) in windows.iter().enumerate() {
        for token in 0..length {
            let padded = window * widest + filled[window];
            groups[padded] = (row * length + token) as i64;
            indices.push(padded as i64);
            filled[window] += 1;
        }
    }
    (groups, indices, widest)
}

#[cfg(test)]
impl Decoder {
    /// Returns the attention of the alignment heads after a prompt for one window, `[heads, tokens, positions]`.
    pub fn attention(&mut self, tokens: Vec<i64>, states: &mut States) -> Vec<f32> {
        let (_, mut cache) = self.first(tokens.clone(), states, &[0]).unwrap();
        let Text::Slots { batch } = self.text else {
            panic!("the tests run on the CPU")
        };
        cache.slots = Slots::new(1, batch);
        self.bind(tokens, &mut cache, &[0]).unwrap();
        let values = self.session.run(&[(ALIGNMENT, &self.host)]).unwrap();
        values[0].try_extract_tensor::<f32>().unwrap().1.to_vec()
    }
}

#[cfg(test)]
mod tests {
    use super::group;

    #[test]
    fn rows_are_grouped_by_window_with_their_indices() {
        let (groups, indices, widest) = group(&[0, 0, 1, 2, 2, 2], 3, 1);
        assert_eq!(widest, 3);
        assert_eq!(groups, [0, 1, 0, 2, 0, 0, 3, 4, 5]);
        assert_eq!(indices, [0, 1, 3, 6, 7, 8]);
    }

    #[test]
    fn every_token_of_a_prompt_has_a_place() {
        let (groups, indices, widest) = group(&[0, 1], 2, 3);
        assert_eq!(widest, 3);
        assert_eq!(groups, [0, 1, 2, 3, 4, 5]);
        assert_eq!(indices, [0, 1, 2, 3, 4, 5]);
    }
}
