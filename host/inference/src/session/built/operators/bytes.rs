//! Operators of int8 models, over bytes.

use ort::operator::{
    ComputeContext, Kernel, KernelContext, Operator, OperatorDomain, OperatorInput, OperatorOutput,
};
use ort::value::{TensorElementType, ValueRef};

use super::operator::{
    FLOATS, OUT_FLOATS, Shared, catch_panic, inputs, output, parallel, signature, sizes,
};
use crate::kernels::HEAD_DIM;
use crate::kernels::attention::{HeadRows, Layout, Output, attend, pack};
use crate::kernels::rows::{Product, gelu, normalise, quantise};

const OPTIONAL_FLOATS: OperatorInput = OperatorInput::optional(TensorElementType::Float32);
const BYTES: OperatorInput = OperatorInput::required(TensorElementType::Uint8);
const OPTIONAL_OUT_FLOATS: OperatorOutput = OperatorOutput::optional(TensorElementType::Float32);
const OUT_BYTES: OperatorOutput = OperatorOutput::required(TensorElementType::Uint8);

/// Number of rows that a thread processes at a time.
const CHUNK: usize = 128;

/// Minimum work for using several threads: the number of heads times the cost of a head in queries.
const MIN_PARALLEL: usize = 48;

/// Cost of reading a head, in queries.
const HEAD_COST: usize = 2;

/// Adds all operators of this module to `domain`.
pub(super) fn add(domain: OperatorDomain) -> ort::Result<OperatorDomain> {
    domain
        .add(QuantiseRows)?
        .add(NormaliseRows)?
        .add(GeluRows)?
        .add(PackKeysValues)?
        .add(PackedAttention)
}

/// Quantises rows.
///
/// Input: `[1, rows, width]`. Outputs: bytes of that shape, and the scales of the rows, `[rows]`.
struct QuantiseRows;

/// Computes the next sum of a residual stream, and its layer normalisation in bytes.
///
/// Inputs: the sum and a product, `[1, rows, width]`; the scales to multiply the rows of the product by, `[rows]`, and the bias to add
/// then, `[width]`; gamma and beta of the normalisation, `[width]`. Outputs: those of [`QuantiseRows`], and the next sum.
struct NormaliseRows;

/// Computes the Gaussian error linear unit of a product, in bytes.
///
/// Inputs: the product with its scales and bias, as for [`NormaliseRows`]. Outputs: those of [`QuantiseRows`].
struct GeluRows;

/// Packs the keys and values of a window for [`PackedAttention`].
///
/// Inputs: keys and values, `[1, positions, width]`; the scales to multiply the rows of both by, `[positions]`; and the bias of the
/// values, `[width]`. A bias of the keys would add the same to all scores of a query. Output: bytes, `[1, heads, 1, size]`.
struct PackKeysValues;

/// Computes attention to packed keys and values.
///
/// Inputs: queries, `[windows, rows, width]`; keys and values, `[windows, heads, 1, size]`, with the number of positions in the
/// attribute `positions`; optionally, for one window, the scales to multiply the rows of the queries by, `[rows]`, and the bias to add
/// then, `[width]`. Outputs: `[windows, rows, width]`; optionally, the weights of the heads in the attribute `weights_of`,
/// `[windows, named heads, rows, positions]`.
struct PackedAttention;

impl Operator for QuantiseRows {
    signature!(
        "QuantiseRows",
        QuantiseRows,
        [FLOATS],
        [OUT_BYTES, OUT_FLOATS]
    );

    fn create_kernel<'attr>(&self, _: &KernelContext<'attr>) -> ort::Result<QuantiseRows> {
        Ok(QuantiseRows)
    }
}

impl Kernel for QuantiseRows {
    fn compute(&mut self, context: &ComputeContext) -> ort::Result<()> {
        catch_panic(|| self.run(context))
    }
}

impl QuantiseRows {
    fn run(&self, context: &ComputeContext) -> ort::Result<()> {
        let [input] = inputs::<1>(context)?;
        let (shape, input) = input.try_extract_tensor::<f32>()?;
        quantise_rows(context, shape, |row, _, width, bytes| {
            quantise(&input[row * width..][..width], bytes)
        })
    }
}

impl Operator for NormaliseRows {
    signature!(
        "NormaliseRows",
        NormaliseRows,
        [FLOATS, FLOATS, FLOATS, FLOATS, FLOATS, FLOATS],
        [OUT_BYTES, OUT_FLOATS, OUT_FLOATS]
    );

    fn create_kernel<'attr>(&self, _: &KernelContext<'attr>) -> ort::Result<NormaliseRows> {
        Ok(NormaliseRows)
    }
}

impl Kernel for NormaliseRows {
    fn compute(&mut self, context: &ComputeContext) -> ort::Result<()> {
        catch_panic(|| self.run(context))
    }
}

impl NormaliseRows {
    fn run(&self, context: &ComputeContext) -> ort::Result<()> {
        let inputs = inputs::<6>(context)?;
        let (shape, sum) = inputs[0].try_extract_tensor::<f32>()?;
        let [values, scales, bias, gamma, beta] = floats(&inputs[1..])?;
        let mut output = output(context, 2, &sizes::<3>(shape)?)?;
        let new_sum = Shared(output.try_extract_tensor_mut::<f32>()?.1.as_mut_ptr());
        quantise_rows(context, shape, |row, scratch, width, bytes| {
            let place = row * width..(row + 1) * width;
            let product = Product {
                values: &values[place.clone()],
                scale: scales[row],
                bias,
            };
            // SAFETY: each task writes different rows of the output.
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
        [OUT_BYTES, OUT_FLOATS]
    );

    fn create_kernel<'attr>(&self, _: &KernelContext<'attr>) -> ort::Result<GeluRows> {
        Ok(GeluRows)
    }
}

impl Kernel for GeluRows {
    fn compute(&mut self, context: &ComputeContext) -> ort::Result<()> {
        catch_panic(|| self.run(context))
    }
}

impl GeluRows {
    fn run(&self, context: &ComputeContext) -> ort::Result<()> {
        let inputs = inputs::<3>(context)?;
        let (shape, values) = inputs[0].try_extract_tensor::<f32>()?;
        let [scales, bias] = floats(&inputs[1..])?;
        quantise_rows(context, shape, |row, scratch, width, bytes| {
            let product = Product {
                values: &values[row * width..][..width],
                scale: scales[row],
                bias,
            };
            gelu(product, bytes, scratch)
        })
    }
}

/// Writes the bytes of each row with `make`, which returns the row's scale, and is given a buffer to use.
fn quantise_rows(
    context: &ComputeContext,
    shape: &[i64],
    make: impl Fn(usize, &mut Vec<f32>, usize, &mut [u8]) -> f32 + Send + Sync,
) -> ort::Result<()> {
    let [1, rows, width] = sizes(shape)? else {
        return Err(ort::Error::new("rows must be of one window"));
    };
    let mut bytes = output(context, 0, &[1, rows, width])?;
    let mut scales = output(context, 1, &[rows])?;
    let bytes = Shared(bytes.try_extract_tensor_mut::<u8>()?.1.as_mut_ptr());
    let scales = Shared(scales.try_extract_tensor_mut::<f32>()?.1.as_mut_ptr());
    let chunks = rows.div_ceil(CHUNK);
    parallel(context, chunks, |chunk| {
        let mut scratch = Vec::new();
        for row in chunk * CHUNK..rows.min((chunk + 1) * CHUNK) {
            // SAFETY: each task writes different rows of both outputs.
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
        [OUT_BYTES]
    );

    fn create_kernel<'attr>(&self, _: &KernelContext<'attr>) -> ort::Result<PackKeysValues> {
        Ok(PackKeysValues)
    }
}

impl Kernel for PackKeysValues {
    fn compute(&mut self, context: &ComputeContext) -> ort::Result<()> {
        catch_panic(|| self.run(context))
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
            // SAFETY: each task writes the part of the output for its head.
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
        [FLOATS, BYTES, OPTIONAL_FLOATS, OPTIONAL_FLOATS],
        [OUT_FLOATS, OPTIONAL_OUT_FLOATS]
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
        catch_panic(|| {
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
        catch_panic(|| self.run(context))
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
                "the packed keys and values do not match the windows of the queries",
            ));
        }
        if weights_of.iter().any(|&head| head >= heads) {
            return Err(ort::Error::new(
                "`weights_of` has a head that does not exist",
            ));
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
            // SAFETY: each task writes different rows, columns or windows of the output, which has the size of the queries, and
            // weights of different rows or heads.
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
        if windows * heads * (HEAD_COST + rows) < MIN_PARALLEL {
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

/// Returns the data of an optional f32 tensor.
fn floats_of<'a>(tensor: &'a Option<ValueRef<'_>>) -> ort::Result<Option<&'a [f32]>> {
    match tensor {
        Some(tensor) => Ok(Some(tensor.try_extract_tensor::<f32>()?.1)),
        None => Ok(None),
    }
}

/// Returns the data of f32 tensors.
fn floats<'a, const N: usize>(tensors: &'a [ValueRef<'_>]) -> ort::Result<[&'a [f32]; N]> {
    let found = tensors
        .iter()
        .map(|tensor| Ok(tensor.try_extract_tensor::<f32>()?.1))
        .collect::<ort::Result<Vec<_>>>()?;
    found
        .try_into()
        .map_err(|_| ort::Error::new("an operator has the wrong number of inputs"))
}
