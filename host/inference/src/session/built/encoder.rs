//! The encoder's graph: normalised frames to the keys and values of every decoder layer's attention to them.

use ort::editor::ONNX_DOMAIN;
use ort::memory::{Allocator, MemoryInfo};
use ort::operator::Attribute;
use ort::value::{DynTensor, DynValue, TensorElementType, TensorRefMut};

use super::caches::{CROSS, Cross, KEY_VALUE, Shape, cache_name};
use super::graph::{Arithmetic, CUSTOM, FUSED, Graph};
use super::layers::{Residual, slice};
use crate::Error;
use crate::session::batch::States;
use crate::session::bound::Session;
use crate::session::frames::Frames;
use crate::weights::{Affine, Checkpoint, KERNEL};

const INPUT: &str = "input_features";

/// Builds the graph.
pub(super) fn graph(
    checkpoint: &Checkpoint,
    shape: Shape,
    element: TensorElementType,
    arithmetic: Arithmetic,
    cross: &Cross,
) -> ort::Result<Graph> {
    let mut graph = Graph::new(element, arithmetic);
    let (width, heads, positions) = (
        checkpoint.width(),
        shape.heads as i64,
        shape.positions as i64,
    );
    let n_mels = checkpoint.n_mels();
    let features = graph.input(INPUT, element, &[-1, n_mels as i64, 2 * positions]);
    let mut states = features;
    for (index, conv, channels, stride) in [
        (1, &checkpoint.conv1, n_mels, 1),
        (2, &checkpoint.conv2, width, 2),
    ] {
        let weight = graph.matrix(
            &format!("encoder.conv{index}"),
            &conv.weight,
            &[width, channels, KERNEL],
        );
        let bias = graph.floats(&format!("encoder.conv{index}.bias"), &[width], &conv.bias);
        let attributes = [
            Attribute::new("kernel_shape", vec![KERNEL as i64])?,
            Attribute::new("pads", vec![1i64, 1])?,
            Attribute::new("strides", vec![stride])?,
        ];
        states = graph.op("Conv", ONNX_DOMAIN, &[&states, &weight, &bias], attributes)?;
        states = graph.op("Gelu", FUSED, &[&states], [])?;
    }
    states = graph.op(
        "Transpose",
        ONNX_DOMAIN,
        &[&states],
        [Attribute::new("perm", vec![0i64, 2, 1])?],
    )?;
    let table = graph.matrix(
        "encoder.positions",
        &checkpoint.encoder_positions,
        &[shape.positions, width],
    );
    let mut residual = Residual::new(graph.op("Add", ONNX_DOMAIN, &[&states, &table], [])?);

    for (index, layer) in checkpoint.encoder.iter().enumerate() {
        let name = format!("encoder.{index}");
        let states = residual.norm(&mut graph, &format!("{name}.norm"), &layer.attention.norm)?;
        let projections = &layer.attention.projections;
        let attended = if cross.packed {
            let [query, key, value] =
                std::array::from_fn(|place| slice(projections, place * width..(place + 1) * width));
            let packed = graph.fresh("packed");
            pack(
                &mut graph,
                &format!("{name}."),
                &states,
                &key,
                &value,
                &packed,
            )?;
            let query = graph.linear(&format!("{name}.query"), &states, &query)?;
            let [query, scales, bias] = query.inputs()?;
            let positions = Attribute::new("positions", positions)?;
            let inputs = [query, &packed, scales, bias];
            graph.op("PackedAttention", CUSTOM, &inputs, [positions])?
        } else {
            let Affine { weight, bias } = projections;
            let mut inputs = Vec::with_capacity(4);
            for (place, what) in ["query", "key", "value"].iter().enumerate() {
                let weight = weight.slice(place * width..(place + 1) * width);
                inputs.push(graph.product(&format!("{name}.{what}"), &states, &weight)?);
            }
            inputs.push(graph.floats(&format!("{name}.projections.bias"), &[bias.len()], bias));
            let inputs: Vec<&str> = inputs.iter().map(String::as_str).collect();
            let heads = Attribute::new("num_heads", heads)?;
            graph.op("MultiHeadAttention", FUSED, &inputs, [heads])?
        };
        let output = graph.linear(
            &format!("{name}.output"),
            &attended,
            &layer.attention.output,
        )?;
        residual.add(output);
        residual.feed_forward(&mut graph, &name, &layer.feed_forward)?;
    }
    let states = residual.norm(&mut graph, "encoder.norm", &checkpoint.encoder_norm)?;

    for (index, layer) in checkpoint.decoder.iter().enumerate() {
        let name = format!("decoder.{index}.cross_");
        let [key, value] =
            [0, 1].map(|place| slice(&layer.cross.key_value, place * width..(place + 1) * width));
        if cross.packed {
            pack(
                &mut graph,
                &name,
                &states,
                &key,
                &value,
                &cross.names[index],
            )?;
            continue;
        }
        let split = graph.integers("split_heads", &[4], &[0, 0, heads, shape.head_dim as i64]);
        for (what, affine) in KEY_VALUE.iter().zip([key, value]) {
            let projected = graph.affine(&format!("{name}{what}"), &states, &affine)?;
            let projected = graph.op("Reshape", ONNX_DOMAIN, &[&projected, &split], [])?;
            let output = cache_name(CROSS, index, what);
            let perm = Attribute::new("perm", vec![0i64, 2, 1, 3])?;
            graph.node("Transpose", ONNX_DOMAIN, &[&projected], &[&output], [perm])?;
        }
    }
    for name in &cross.names {
        graph.output(name, cross.element, &cross.dimensions());
    }
    Ok(graph)
}

/// Packs the keys and values that two linear layers compute from `states` into the value `output`.
fn pack(
    graph: &mut Graph,
    name: &str,
    states: &str,
    key: &Affine,
    value: &Affine,
    output: &str,
) -> ort::Result<()> {
    let [key, value] = [("key", key), ("value", value)]
        .map(|(what, affine)| graph.linear(&format!("{name}{what}"), states, affine));
    let (key, value) = (key?, value?);
    let [value, scales, bias] = value.inputs()?;
    let inputs = [&key.product, value, scales, bias];
    graph.node("PackKeysValues", CUSTOM, &inputs, &[output], [])
}

/// The encoder's session.
pub(crate) struct Encoder {
    pub(super) session: Session,
    pub(super) memory: MemoryInfo<'static>,
    pub(super) element: TensorElementType,
    pub(super) frames: Frames,
    /// Its outputs.
    pub(super) cross: Cross,
    /// Whether windows are run one by one, into their rows of the batch's tensors. On a CPU, a batch is no faster and takes
    /// proportionally more memory, and the operators of [`Arithmetic::Rows`] take one window.
    pub(super) one_by_one: bool,
}

impl Encoder {
    /// Encodes windows, each `[frames, n_mels]` log10 mel power with at most a window's frames.
    pub fn encode(&mut self, windows: &[&[f32]]) -> Result<States, Error> {
        let values = if self.one_by_one {
            self.encode_each(windows)?
        } else {
            let input = self.frames.tensor(windows, self.element)?;
            self.session.binding.bind_input(INPUT, &input)?;
            let outputs: Vec<_> = self
                .cross
                .names
                .iter()
                .map(|name| (name.as_str(), &self.memory))
                .collect();
            self.session.run(&outputs)?
        };
        self.session.binding.clear();
        Ok(States::new(values, windows.len()))
    }

    fn encode_each(&mut self, windows: &[&[f32]]) -> Result<Vec<DynValue>, Error> {
        let Cross {
            names,
            element,
            shape,
            ..
        } = &self.cross;
        let [one, two, three] = *shape;
        let mut values = names
            .iter()
            .map(|_| {
                let shape = [windows.len(), one, two, three];
                DynTensor::new(&Allocator::default(), *element, shape)
            })
            .collect::<ort::Result<Vec<_>>>()?;
        let size = element
            .byte_size(one * two * three)
            .ok_or_else(|| Error::Internal(format!("elements of {element} have no size")))?;
        for (index, window) in windows.iter().enumerate() {
            let input = self.frames.tensor(&[window], self.element)?;
            let binding = &mut self.session.binding;
            binding.bind_input(INPUT, &input)?;
            for (name, value) in names.iter().zip(&mut values) {
                // SAFETY: row `index` of the tensor, which outlives the run.
                let row = unsafe { value.data_ptr_mut().byte_add(index * size) };
                let shape = ort::value::Shape::new([1, one as i64, two as i64, three as i64]);
                let memory = MemoryInfo::default();
                // SAFETY: as above, and the elements are of these types.
                unsafe {
                    match element {
                        TensorElementType::Float16 => binding.bind_output(
                            name,
                            TensorRefMut::<half::f16>::from_raw(memory, row, shape)?,
                        ),
                        TensorElementType::Uint8 => binding
                            .bind_output(name, TensorRefMut::<u8>::from_raw(memory, row, shape)?),
                        _ => binding
                            .bind_output(name, TensorRefMut::<f32>::from_raw(memory, row, shape)?),
                    }
                }?;
            }
            self.session.run_bound()?;
            self.session.binding.clear();
        }
        Ok(values.into_iter().map(|value| value.into_dyn()).collect())
    }
}
