//! ONNX Runtime operators over the kernels of [`crate::kernels`].

use std::ops::RangeInclusive;

use ort::operator::{
    ComputeContext, Kernel, KernelContext, Operator, OperatorDomain, OperatorInput, OperatorOutput,
};
use ort::value::{TensorElementType, ValueRef, ValueRefMut};

use super::graph::OWN;
use crate::kernels::attention::{Columns, HEAD_DIM, Layout, Target, attend, pack};

const FLOAT: TensorElementType = TensorElementType::Float32;
const BYTE: TensorElementType = TensorElementType::Uint8;

/// Queries that one thread takes at a time.
const CHUNK: usize = 128;

/// Products of queries and heads that are not worth waking another thread.
const FEW: usize = 32;

/// All of them.
pub(super) fn domain() -> ort::Result<OperatorDomain> {
    OperatorDomain::new(OWN)?
        .add(SelfAttention)?
        .add(PackKeysValues)?
        .add(PackedAttention)
}

/// Attention of the positions of one window to each other.
///
/// Inputs: queries, keys and values, `[1, positions, width]`, and their bias, `[3 * width]`. That of the keys adds the same to all
/// scores of a query, and is left out. Output: `[1, positions, width]`.
struct SelfAttention;

/// Keys and values of windows in the form that [`PackedAttention`] takes.
///
/// Inputs: keys and values, `[windows, positions, width]`, and the bias of the values, `[width]`. Output: bytes,
/// `[windows, heads, 1, size]`.
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

impl Operator for SelfAttention {
    signature!(
        "SelfAttention",
        SelfAttentionKernel,
        [FLOAT, FLOAT, FLOAT, FLOAT],
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
        let [queries, keys, values, bias] = inputs(context)?;
        let (shape, queries) = queries.try_extract_tensor::<f32>()?;
        let (_, keys) = keys.try_extract_tensor::<f32>()?;
        let (_, values) = values.try_extract_tensor::<f32>()?;
        let (_, bias) = bias.try_extract_tensor::<f32>()?;
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
                Columns::of_head(keys, width, head),
                Columns::of_head(values, width, head),
                of_head(&bias[2 * width..], head),
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
                    Columns::of_head(queries, width, head),
                    of_head(bias, head),
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
        [FLOAT, FLOAT, FLOAT],
        [OperatorOutput::required(BYTE)]
    );

    fn create_kernel<'attr>(&self, _: &KernelContext<'attr>) -> ort::Result<PackKeysValues> {
        Ok(PackKeysValues)
    }
}

impl Kernel for PackKeysValues {
    fn compute(&mut self, context: &ComputeContext) -> ort::Result<()> {
        let [keys, values, bias] = inputs(context)?;
        let (shape, keys) = keys.try_extract_tensor::<f32>()?;
        let (_, values) = values.try_extract_tensor::<f32>()?;
        let (_, bias) = bias.try_extract_tensor::<f32>()?;
        let [windows, positions, width] = sizes(shape)?;
        let heads = width / HEAD_DIM;
        let layout = Layout::new(positions);
        let size = layout.size();
        let mut output = output(context, 0, &[windows, heads, 1, size])?;
        let out = Shared(output.try_extract_tensor_mut::<u8>()?.1.as_mut_ptr());
        context.par_for(windows * heads, windows * heads, move |task| {
            let (window, head) = (task / heads, task % heads);
            let place = window * positions * width..(window + 1) * positions * width;
            // SAFETY: each task has a window's head, and a piece of the output for it.
            let out = unsafe { std::slice::from_raw_parts_mut(out.at(task * size), size) };
            pack(
                layout,
                Columns::of_head(&keys[place.clone()], width, head),
                Columns::of_head(&values[place], width, head),
                of_head(bias, head),
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
        let [queries, packed] = inputs(context)?;
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
                    &[0.0; HEAD_DIM],
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

fn of_head(bias: &[f32], head: usize) -> &[f32; HEAD_DIM] {
    bias[head * HEAD_DIM..]
        .first_chunk()
        .expect("a bias has as many columns as its product")
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
