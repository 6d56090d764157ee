//! ONNX Runtime operators over the kernels of [`crate::kernels`].

use std::ops::RangeInclusive;

use ort::operator::{
    ComputeContext, Kernel, KernelContext, Operator, OperatorDomain, OperatorInput, OperatorOutput,
};
use ort::value::{TensorElementType, ValueRef, ValueRefMut};

use super::graph::OWN;
use crate::kernels::HEAD_DIM;
use crate::kernels::attention::{Columns, Layout, Target, attend, pack};
use crate::kernels::rows::{Product, gelu, normalise, quantise};

const FLOAT: TensorElementType = TensorElementType::Float32;
const BYTE: TensorElementType = TensorElementType::Uint8;

/// Rows that one thread takes at a time.
const CHUNK: usize = 128;

/// Products of queries and heads that are not worth waking another thread.
const FEW: usize = 32;

/// All of them.
pub(super) fn domain() -> ort::Result<OperatorDomain> {
    OperatorDomain::new(OWN)?
        .add(QuantiseRows)?
        .add(NormaliseRows)?
        .add(GeluRows)?
        .add(SelfAttention)?
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

/// Attention of the positions of one window to each other.
///
/// Inputs: queries, keys and values, `[1, positions, width]`; their bias, `[3 * width]`; and the scales that their rows are to be
/// multiplied with, `[positions]`. The bias of the keys adds the same to all scores of a query, and is left out. Output:
/// `[1, positions, width]`.
struct SelfAttention;

/// Keys and values of a window in the form that [`PackedAttention`] takes.
///
/// Inputs: keys and values, `[1, positions, width]`; the bias of the values, `[width]`; and the scales that the rows of both are to
/// be multiplied with, `[positions]`. Output: bytes, `[1, heads, 1, size]`.
struct PackKeysValues;

/// Attention to keys and values that are packed.
///
/// Inputs: queries, `[windows, rows, width]`, and keys and values, `[windows, heads, 1, size]`, of as many positions as the attribute
/// `positions` says. Outputs: `[windows, rows, width]`; and, if asked for, the weights of the heads that the attribute `weights_of`
/// names, `[windows, named heads, rows, positions]`.
struct PackedAttention;

/// The methods of an operator of f32 tensors and of bytes, of the first version.
macro_rules! signature {
    ($name:literal, $kernel:ty, [$($input:expr),*], [$($output:expr),*]) => {
        type Kernel<'attr> = $kernel;

        fn name(&self) -> &str {
            $name
        }

        fn versions(&self) -> RangeInclusive<u32> {
            1..=1
        }

        fn inputs(&self) -> impl IntoIterator<Item = OperatorInput> {
            [$(OperatorInput::required($input)),*]
        }

        fn outputs(&self) -> impl IntoIterator<Item = OperatorOutput> {
            [$($output),*]
        }
    };
}

impl Operator for QuantiseRows {
    signature!(
        "QuantiseRows",
        QuantiseRows,
        [FLOAT],
        [
            OperatorOutput::required(BYTE),
            OperatorOutput::required(FLOAT)
        ]
    );

    fn create_kernel<'attr>(&self, _: &KernelContext<'attr>) -> ort::Result<QuantiseRows> {
        Ok(QuantiseRows)
    }
}

impl Kernel for QuantiseRows {
    fn compute(&mut self, context: &ComputeContext) -> ort::Result<()> {
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
        [FLOAT, FLOAT, FLOAT, FLOAT, FLOAT, FLOAT],
        [
            OperatorOutput::required(BYTE),
            OperatorOutput::required(FLOAT),
            OperatorOutput::required(FLOAT)
        ]
    );

    fn create_kernel<'attr>(&self, _: &KernelContext<'attr>) -> ort::Result<NormaliseRows> {
        Ok(NormaliseRows)
    }
}

impl Kernel for NormaliseRows {
    fn compute(&mut self, context: &ComputeContext) -> ort::Result<()> {
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
        [FLOAT, FLOAT, FLOAT],
        [
            OperatorOutput::required(BYTE),
            OperatorOutput::required(FLOAT)
        ]
    );

    fn create_kernel<'attr>(&self, _: &KernelContext<'attr>) -> ort::Result<GeluRows> {
        Ok(GeluRows)
    }
}

impl Kernel for GeluRows {
    fn compute(&mut self, context: &ComputeContext) -> ort::Result<()> {
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
    context.par_for(chunks, chunks, |chunk| {
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

impl Operator for SelfAttention {
    signature!(
        "SelfAttention",
        SelfAttentionKernel,
        [FLOAT, FLOAT, FLOAT, FLOAT, FLOAT],
        [OperatorOutput::required(FLOAT)]
    );

    fn create_kernel<'attr>(&self, _: &KernelContext<'attr>) -> ort::Result<SelfAttentionKernel> {
        Ok(SelfAttentionKernel { packed: Vec::new() })
    }
}

struct SelfAttentionKernel {
    packed: Vec<u8>,
}

impl Kernel for SelfAttentionKernel {
    fn compute(&mut self, context: &ComputeContext) -> ort::Result<()> {
        let inputs = inputs::<5>(context)?;
        let (shape, queries) = inputs[0].try_extract_tensor::<f32>()?;
        let [keys, values, bias, scales] = floats(&inputs[1..])?;
        let [1, positions, width] = sizes(shape)? else {
            return Err(ort::Error::new("self-attention takes one window"));
        };
        let heads = width / HEAD_DIM;
        let layout = Layout::new(positions);
        let size = layout.size();
        let mut output = output(context, 0, &[1, positions, width])?;
        let out = output.try_extract_tensor_mut::<f32>()?.1.as_mut_ptr();
        self.packed.resize(heads * size, 0);

        let packed = Shared(self.packed.as_mut_ptr());
        context.par_for(heads, heads, move |head| {
            // SAFETY: each task has a head, and a piece of the buffer for it.
            let out = unsafe { std::slice::from_raw_parts_mut(packed.at(head * size), size) };
            pack(
                layout,
                Columns::of_head(keys, width, head).scaled(scales),
                Columns::of_head(values, width, head)
                    .scaled(scales)
                    .plus(&bias[2 * width..]),
                out,
            );
        })?;
        let packed = &self.packed;
        let (chunks, out) = (positions.div_ceil(CHUNK), Shared(out));
        context.par_for(heads * chunks, heads * chunks, move |task| {
            let (head, first) = (task / chunks, task % chunks * CHUNK);
            // SAFETY: each task writes other rows, or columns, of the output, which is as large as the queries.
            unsafe {
                attend(
                    layout,
                    &packed[head * size..][..size],
                    Columns::of_head(queries, width, head)
                        .scaled(scales)
                        .plus(&bias[..width]),
                    first..positions.min(first + CHUNK),
                    Target::of_head(out.at(0), width, head),
                    None,
                );
            }
        })
    }
}

impl Operator for PackKeysValues {
    signature!(
        "PackKeysValues",
        PackKeysValues,
        [FLOAT, FLOAT, FLOAT, FLOAT],
        [OperatorOutput::required(BYTE)]
    );

    fn create_kernel<'attr>(&self, _: &KernelContext<'attr>) -> ort::Result<PackKeysValues> {
        Ok(PackKeysValues)
    }
}

impl Kernel for PackKeysValues {
    fn compute(&mut self, context: &ComputeContext) -> ort::Result<()> {
        let inputs = inputs::<4>(context)?;
        let (shape, keys) = inputs[0].try_extract_tensor::<f32>()?;
        let [values, bias, scales] = floats(&inputs[1..])?;
        let [1, positions, width] = sizes(shape)? else {
            return Err(ort::Error::new("keys and values are packed for one window"));
        };
        let heads = width / HEAD_DIM;
        let layout = Layout::new(positions);
        let size = layout.size();
        let mut output = output(context, 0, &[1, heads, 1, size])?;
        let out = Shared(output.try_extract_tensor_mut::<u8>()?.1.as_mut_ptr());
        context.par_for(heads, heads, move |head| {
            // SAFETY: each task has a head, and a piece of the output for it.
            let out = unsafe { std::slice::from_raw_parts_mut(out.at(head * size), size) };
            pack(
                layout,
                Columns::of_head(keys, width, head).scaled(scales),
                Columns::of_head(values, width, head)
                    .scaled(scales)
                    .plus(bias),
                out,
            );
        })
    }
}

impl Operator for PackedAttention {
    signature!(
        "PackedAttention",
        PackedAttentionKernel,
        [FLOAT, BYTE],
        [
            OperatorOutput::required(FLOAT),
            OperatorOutput::optional(FLOAT)
        ]
    );

    fn create_kernel<'attr>(
        &self,
        context: &KernelContext<'attr>,
    ) -> ort::Result<PackedAttentionKernel> {
        let positions = context
            .get::<i64>("positions")
            .ok_or_else(|| ort::Error::new("the attribute `positions` is missing"))?;
        let weights_of = context.get::<Vec<i64>>("weights_of").unwrap_or_default();
        Ok(PackedAttentionKernel {
            layout: Layout::new(positions as usize),
            positions: positions as usize,
            weights_of: weights_of.into_iter().map(|head| head as usize).collect(),
        })
    }
}

struct PackedAttentionKernel {
    layout: Layout,
    positions: usize,
    /// Heads whose weights are an output.
    weights_of: Vec<usize>,
}

impl Kernel for PackedAttentionKernel {
    fn compute(&mut self, context: &ComputeContext) -> ort::Result<()> {
        let [queries, packed] = inputs::<2>(context)?;
        let (shape, queries) = queries.try_extract_tensor::<f32>()?;
        let (_, packed) = packed.try_extract_tensor::<u8>()?;
        let [windows, rows, width] = sizes(shape)?;
        let (heads, size) = (width / HEAD_DIM, self.layout.size());
        if packed.len() != windows * heads * size {
            return Err(ort::Error::new(
                "the packed keys and values are not of as many windows as the queries",
            ));
        }
        let mut output = output(context, 0, &[windows, rows, width])?;
        let out = Shared(output.try_extract_tensor_mut::<f32>()?.1.as_mut_ptr());
        let named = self.weights_of.len();
        let mut weights_output = match named {
            0 => None,
            _ => context.output(
                1,
                [windows, named, rows, self.positions].map(|size| size as i64),
            )?,
        };
        let weights = match &mut weights_output {
            Some(output) => Some(Shared(
                output.try_extract_tensor_mut::<f32>()?.1.as_mut_ptr(),
            )),
            None => None,
        };
        let (layout, positions, weights_of) = (self.layout, self.positions, &self.weights_of);
        let task = move |task: usize| {
            let (window, head) = (task / heads, task % heads);
            let first = window * rows * width;
            let named_head = weights_of.iter().position(|&other| other == head);
            // SAFETY: each task writes other columns of the output, or of another window, which are as large as the queries; and
            // the weights of another head.
            unsafe {
                let weights = weights.zip(named_head).map(|(weights, place)| {
                    weights.at((window * named + place) * rows * positions)
                });
                attend(
                    layout,
                    &packed[task * size..][..size],
                    Columns::of_head(&queries[first..][..rows * width], width, head),
                    0..rows,
                    Target::of_head(out.at(first), width, head),
                    weights,
                );
            }
        };
        let tasks = windows * heads;
        if tasks * rows < FEW {
            (0..tasks).for_each(task);
            return Ok(());
        }
        context.par_for(tasks, 0, task)
    }
}

/// A pointer that tasks on several threads use, each for a piece of its own.
#[derive(Clone, Copy)]
struct Shared<T>(*mut T);

// SAFETY: whoever uses it sees to it that the pieces lie apart.
unsafe impl<T> Send for Shared<T> {}
// SAFETY: as above.
unsafe impl<T> Sync for Shared<T> {}

impl<T> Shared<T> {
    /// # Safety
    /// `index` is within what it points to.
    unsafe fn at(self, index: usize) -> *mut T {
        // SAFETY: the caller's.
        unsafe { self.0.add(index) }
    }
}

fn inputs<const N: usize>(context: &ComputeContext) -> ort::Result<[ValueRef<'_>; N]> {
    let found = (0..N)
        .map(|index| {
            context
                .input(index)?
                .ok_or_else(|| ort::Error::new(format!("input {index} is missing")))
        })
        .collect::<ort::Result<Vec<_>>>()?;
    found
        .try_into()
        .map_err(|_| ort::Error::new("an operator has another number of inputs"))
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

fn output<'a>(
    context: &'a ComputeContext,
    index: usize,
    shape: &[usize],
) -> ort::Result<ValueRefMut<'a>> {
    let shape: Vec<i64> = shape.iter().map(|&size| size as i64).collect();
    context
        .output(index, shape)?
        .ok_or_else(|| ort::Error::new(format!("output {index} is missing")))
}

fn sizes<const N: usize>(shape: &[i64]) -> ort::Result<[usize; N]> {
    let sizes: Vec<usize> = shape.iter().map(|&size| size as usize).collect();
    sizes
        .try_into()
        .map_err(|_| ort::Error::new(format!("a tensor has the shape {shape:?}")))
}
