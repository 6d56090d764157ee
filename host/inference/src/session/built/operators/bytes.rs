//! Operators of an int8 model, over bytes.

use ort::operator::{
    ComputeContext, Kernel, KernelContext, Operator, OperatorDomain, OperatorInput, OperatorOutput,
};
use ort::value::{TensorElementType, ValueRef};

use super::operator::{
    FLOATS, GIVES_FLOATS, Shared, caught, inputs, output, parallel, signature, sizes,
};
use crate::kernels::HEAD_DIM;
use crate::kernels::attention::{HeadRows, Layout, Output, attend, pack};
use crate::kernels::rows::{Product, gelu, normalise, quantise};

const PERHAPS_FLOATS: OperatorInput = OperatorInput::optional(TensorElementType::Float32);
const BYTES: OperatorInput = OperatorInput::required(TensorElementType::Uint8);
const PERHAPS_GIVES_FLOATS: OperatorOutput = OperatorOutput::optional(TensorElementType::Float32);
const GIVES_BYTES: OperatorOutput = OperatorOutput::required(TensorElementType::Uint8);

/// Rows that one thread takes at a time.
const CHUNK: usize = 128;

/// Where there is less to do than this, of heads times what a head costs in queries, another thread is not worth waking.
const FEW: usize = 48;

/// What reading a head costs, in queries.
const HEAD_COST: usize = 2;

/// All of them.
pub(super) fn add(domain: OperatorDomain) -> ort::Result<OperatorDomain> {
    domain
        .add(QuantiseRows)?
        .add(NormaliseRows)?
        .add(GeluRows)?
        .add(PackKeysValues)?
        .add(PackedAttention)
}

/// Rows in bytes.
///
/// Input: `[1, rows, width]`. Outputs: bytes of that shape, and the scales of the rows, `[rows]`.
struct QuantiseRows;

/// The next sum of a residual stream, and its layer normalisation in bytes.
///
/// Inputs: the sum and a product, `[1, rows, width]`; the scales that the rows of the product are to be multiplied with, `[rows]`,
/// and the bias that is then added, `[width]`; the factors and the bias of the normalisation, `[width]`. Outputs: those of
/// [`QuantiseRows`], and the next sum.
struct NormaliseRows;

/// The Gaussian error linear unit of a product, in bytes.
///
/// Inputs: the product with its scales and bias, as for [`NormaliseRows`]. Outputs: those of [`QuantiseRows`].
struct GeluRows;

/// Keys and values of a window in the form that [`PackedAttention`] takes.
///
/// Inputs: keys and values, `[1, positions, width]`; the scales that the rows of both are to be multiplied with, `[positions]`; and
/// the bias of the values, `[width]`. A bias of the keys would add the same to all scores of a query. Output: bytes,
/// `[1, heads, 1, size]`.
struct PackKeysValues;

/// Attention to keys and values that are packed.
///
/// Inputs: queries, `[windows, rows, width]`; keys and values, `[windows, heads, 1, size]`, of as many positions as the attribute
/// `positions` says; and, of one window, perhaps the scales that the rows of the queries are to be multiplied with, `[rows]`, and the
/// bias that is then added, `[width]`. Outputs: `[windows, rows, width]`; and, if asked for, the weights of the heads that the
/// attribute `weights_of` names, `[windows, named heads, rows, positions]`.
struct PackedAttention;

impl Operator for QuantiseRows {
    signature!(
        "QuantiseRows",
        QuantiseRows,
        [FLOATS],
        [GIVES_BYTES, GIVES_FLOATS]
    );

    fn create_kernel<'attr>(&self, _: &KernelContext<'attr>) -> ort::Result<QuantiseRows> {
        Ok(QuantiseRows)
    }
}

impl Kernel for QuantiseRows {
    fn compute(&mut self, context: &ComputeContext) -> ort::Result<()> {
        caught(|| self.run(context))
    }
}

impl QuantiseRows {
    fn run(&self, context: &ComputeContext) -> ort::Result<()> {
        let [input] = inputs::<1>(context)?;
        let (shape, input) = input.try_extract_tensor::<f32>()?;
        by_rows(context, shape, |row, _, width, bytes| {
            quantise(&input[row * width..][..width], bytes)
        })
    }
}

impl Operator for NormaliseRows {
    signature!(
        "NormaliseRows",
        NormaliseRows,
        [FLOATS, FLOATS, FLOATS, FLOATS, FLOATS, FLOATS],
        [GIVES_BYTES, GIVES_FLOATS, GIVES_FLOATS]
    );

    fn create_kernel<'attr>(&self, _: &KernelContext<'attr>) -> ort::Result<NormaliseRows> {
        Ok(NormaliseRows)
    }
}

impl Kernel for NormaliseRows {
    fn compute(&mut self, context: &ComputeContext) -> ort::Result<()> {
        caught(|| self.run(context))
    }
}

impl NormaliseRows {
    fn run(&self, context: &ComputeContext) -> ort::Result<()> {
        let inputs = inputs::<6>(context)?;
        let (shape, sum) = inputs[0].try_extract_tensor::<f32>()?;
        let [values, scales, bias, gamma, beta] = floats(&inputs[1..])?;
        let mut output = output(context, 2, &sizes::<3>(shape)?)?;
        let new_sum = Shared(output.try_extract_tensor_mut::<f32>()?.1.as_mut_ptr());
        by_rows(context, shape, |row, scratch, width, bytes| {
            let place = row * width..(row + 1) * width;
            let product = Product {
                values: &values[place.clone()],
                scale: scales[row],
                bias,
            };
            // SAFETY: each task has other rows of the output.
            let new_sum = unsafe { std::slice::from_raw_parts_mut(new_sum.at(place.start), width) };
            normalise(&sum[place], product, gamma, beta, new_sum, bytes, scratch)
        })
    }
}

impl Operator for GeluRows {
    signature!(
        "GeluRows",
        GeluRows,
        [FLOATS, FLOATS, FLOATS],
        [GIVES_BYTES, GIVES_FLOATS]
    );

    fn create_kernel<'attr>(&self, _: &KernelContext<'attr>) -> ort::Result<GeluRows> {
        Ok(GeluRows)
    }
}

impl Kernel for GeluRows {
    fn compute(&mut self, context: &ComputeContext) -> ort::Result<()> {
        caught(|| self.run(context))
    }
}

impl GeluRows {
    fn run(&self, context: &ComputeContext) -> ort::Result<()> {
        let inputs = inputs::<3>(context)?;
        let (shape, values) = inputs[0].try_extract_tensor::<f32>()?;
        let [scales, bias] = floats(&inputs[1..])?;
        by_rows(context, shape, |row, scratch, width, bytes| {
            let product = Product {
                values: &values[row * width..][..width],
                scale: scales[row],
                bias,
            };
            gelu(product, bytes, scratch)
        })
    }
}

/// Make the bytes of each row with `make`, which gives the row's scale, and has a buffer to use.
fn by_rows(
    context: &ComputeContext,
    shape: &[i64],
    make: impl Fn(usize, &mut Vec<f32>, usize, &mut [u8]) -> f32 + Send + Sync,
) -> ort::Result<()> {
    let [1, rows, width] = sizes(shape)? else {
        return Err(ort::Error::new("rows are of one window"));
    };
    let mut bytes = output(context, 0, &[1, rows, width])?;
    let mut scales = output(context, 1, &[rows])?;
    let bytes = Shared(bytes.try_extract_tensor_mut::<u8>()?.1.as_mut_ptr());
    let scales = Shared(scales.try_extract_tensor_mut::<f32>()?.1.as_mut_ptr());
    let chunks = rows.div_ceil(CHUNK);
    parallel(context, chunks, |chunk| {
        let mut scratch = Vec::new();
        for row in chunk * CHUNK..rows.min((chunk + 1) * CHUNK) {
            // SAFETY: each task has other rows of both outputs.
            unsafe {
                let bytes = std::slice::from_raw_parts_mut(bytes.at(row * width), width);
                *scales.at(row) = make(row, &mut scratch, width, bytes);
            }
        }
    })
}

impl Operator for PackKeysValues {
    signature!(
        "PackKeysValues",
        PackKeysValues,
        [FLOATS, FLOATS, FLOATS, FLOATS],
        [GIVES_BYTES]
    );

    fn create_kernel<'attr>(&self, _: &KernelContext<'attr>) -> ort::Result<PackKeysValues> {
        Ok(PackKeysValues)
    }
}

impl Kernel for PackKeysValues {
    fn compute(&mut self, context: &ComputeContext) -> ort::Result<()> {
        caught(|| self.run(context))
    }
}

impl PackKeysValues {
    fn run(&self, context: &ComputeContext) -> ort::Result<()> {
        let inputs = inputs::<4>(context)?;
        let (shape, keys) = inputs[0].try_extract_tensor::<f32>()?;
        let [values, scales, bias] = floats(&inputs[1..])?;
        let [1, positions, width] = sizes(shape)? else {
            return Err(ort::Error::new("keys and values are packed for one window"));
        };
        let heads = width / HEAD_DIM;
        let layout = Layout::new(positions);
        let size = layout.size();
        let mut output = output(context, 0, &[1, heads, 1, size])?;
        let out = Shared(output.try_extract_tensor_mut::<u8>()?.1.as_mut_ptr());
        parallel(context, heads, |head| {
            // SAFETY: each task has a head, and a piece of the output for it.
            let out = unsafe { std::slice::from_raw_parts_mut(out.at(head * size), size) };
            pack(
                layout,
                HeadRows::of(keys, width, head).with_scales(scales),
                HeadRows::of(values, width, head)
                    .with_scales(scales)
                    .with_bias(bias),
                out,
            );
        })
    }
}

impl Operator for PackedAttention {
    signature!(
        "PackedAttention",
        PackedAttentionKernel,
        [FLOATS, BYTES, PERHAPS_FLOATS, PERHAPS_FLOATS],
        [GIVES_FLOATS, PERHAPS_GIVES_FLOATS]
    );

    fn create_kernel<'attr>(
        &self,
        context: &KernelContext<'attr>,
    ) -> ort::Result<PackedAttentionKernel> {
        let positions = context
            .get::<i64>("positions")
            .and_then(|positions| usize::try_from(positions).ok())
            .ok_or_else(|| ort::Error::new("the attribute `positions` is missing or negative"))?;
        let weights_of = context.get::<Vec<i64>>("weights_of").unwrap_or_default();
        caught(|| {
            Ok(PackedAttentionKernel {
                layout: Layout::new(positions),
                weights_of: weights_of.into_iter().map(|head| head as usize).collect(),
            })
        })
    }
}

struct PackedAttentionKernel {
    layout: Layout,
    /// Heads whose weights are an output.
    weights_of: Vec<usize>,
}

impl Kernel for PackedAttentionKernel {
    fn compute(&mut self, context: &ComputeContext) -> ort::Result<()> {
        caught(|| self.run(context))
    }
}

impl PackedAttentionKernel {
    fn run(&self, context: &ComputeContext) -> ort::Result<()> {
        let [queries, packed] = inputs::<2>(context)?;
        let (shape, queries) = queries.try_extract_tensor::<f32>()?;
        let (_, packed) = packed.try_extract_tensor::<u8>()?;
        let [scales, bias] = [optional(context, 2)?, optional(context, 3)?];
        let (scales, bias) = (floats_of(&scales)?, floats_of(&bias)?);
        let [windows, rows, width] = sizes(shape)?;
        let (layout, weights_of) = (self.layout, &self.weights_of);
        let (heads, size, positions) = (width / HEAD_DIM, layout.size(), layout.positions());
        if packed.len() != windows * heads * size || (windows > 1 && scales.is_some()) {
            return Err(ort::Error::new(
                "the packed keys and values are not of as many windows as the queries",
            ));
        }
        if weights_of.iter().any(|&head| head >= heads) {
            return Err(ort::Error::new("there is no such head to give weights of"));
        }
        let mut output = output(context, 0, &[windows, rows, width])?;
        let out = Shared(output.try_extract_tensor_mut::<f32>()?.1.as_mut_ptr());
        let named = weights_of.len();
        let mut weights_output = match named {
            0 => None,
            _ => context.output(1, [windows, named, rows, positions].map(|size| size as i64))?,
        };
        let weights = match &mut weights_output {
            Some(output) => Some(Shared(
                output.try_extract_tensor_mut::<f32>()?.1.as_mut_ptr(),
            )),
            None => None,
        };
        let chunks = rows.div_ceil(CHUNK);
        let task = |task: usize| {
            let (head_of_window, first) = (task / chunks, task % chunks * CHUNK);
            let (window, head) = (head_of_window / heads, head_of_window % heads);
            let place = window * rows * width;
            let mut queries = HeadRows::of(&queries[place..][..rows * width], width, head);
            if let Some(scales) = scales {
                queries = queries.with_scales(scales);
            }
            if let Some(bias) = bias {
                queries = queries.with_bias(bias);
            }
            let named_head = weights_of.iter().position(|&other| other == head);
            // SAFETY: each task writes other rows or columns of the output, or of another window, which is as large as the queries;
            // and weights of other rows, or of another head.
            unsafe {
                let weights = weights
                    .zip(named_head)
                    .map(|(weights, head)| weights.at((window * named + head) * rows * positions));
                attend(
                    layout,
                    &packed[head_of_window * size..][..size],
                    queries,
                    first..rows.min(first + CHUNK),
                    Output::of_head(out.at(place), width, head),
                    weights,
                );
            }
        };
        let tasks = windows * heads * chunks;
        if windows * heads * (HEAD_COST + rows) < FEW {
            (0..tasks).for_each(task);
            return Ok(());
        }
        parallel(context, tasks, task)
    }
}

fn optional(context: &ComputeContext, index: usize) -> ort::Result<Option<ValueRef<'_>>> {
    match index < context.num_inputs()? {
        true => context.input(index),
        false => Ok(None),
    }
}

/// The data of an optional tensor of f32.
fn floats_of<'a>(tensor: &'a Option<ValueRef<'_>>) -> ort::Result<Option<&'a [f32]>> {
    match tensor {
        Some(tensor) => Ok(Some(tensor.try_extract_tensor::<f32>()?.1)),
        None => Ok(None),
    }
}

/// The data of tensors of f32.
fn floats<'a, const N: usize>(tensors: &'a [ValueRef<'_>]) -> ort::Result<[&'a [f32]; N]> {
    let found = tensors
        .iter()
        .map(|tensor| Ok(tensor.try_extract_tensor::<f32>()?.1))
        .collect::<ort::Result<Vec<_>>>()?;
    found
        .try_into()
        .map_err(|_| ort::Error::new("an operator has another number of inputs"))
}
