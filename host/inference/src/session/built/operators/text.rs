//! The decoder's attention to the text so far.

use std::ops::Range;

use ort::operator::{
    ComputeContext, Kernel, KernelContext, Operator, OperatorInput, OperatorOutput,
};
use ort::value::TensorElementType;
use parking_lot::Mutex;

use super::operator::{
    FLOATS, OUT_FLOATS, Shared, catch_panic, inputs, output, parallel, signature, sizes,
};
use crate::kernels::text::{TextCache, Tokens};

const LONGS: OperatorInput = OperatorInput::required(TensorElementType::Int64);

/// Minimum work for using several threads, in numbers read.
const MIN_PARALLEL: usize = 262_144;

/// Computes the attention of each token to the text up to itself. The node keeps the keys and values, in slots, from run to run.
///
/// Inputs: queries, keys and values of this run's tokens, `[rows, tokens, 3 * width]`; the slots of each row's tokens in order, those
/// of this run last, `[rows, total]`. Output: `[rows, tokens, width]`. Attribute: `num_heads`.
pub(super) struct CachedAttention;

impl Operator for CachedAttention {
    signature!(
        "CachedAttention",
        CachedAttentionKernel,
        [FLOATS, LONGS],
        [OUT_FLOATS]
    );

    fn create_kernel<'attr>(
        &self,
        context: &KernelContext<'attr>,
    ) -> ort::Result<CachedAttentionKernel> {
        let heads = context
            .get::<i64>("num_heads")
            .and_then(|heads| usize::try_from(heads).ok())
            .filter(|&heads| heads > 0)
            .ok_or_else(|| ort::Error::new("the attribute `num_heads` is missing, or below 1"))?;
        Ok(CachedAttentionKernel { heads, cache: None })
    }
}

pub(super) struct CachedAttentionKernel {
    heads: usize,
    /// Created by the first run, which determines its width.
    cache: Option<TextCache>,
}

impl Kernel for CachedAttentionKernel {
    fn compute(&mut self, context: &ComputeContext) -> ort::Result<()> {
        catch_panic(|| self.run(context))
    }
}

impl CachedAttentionKernel {
    fn run(&mut self, context: &ComputeContext) -> ort::Result<()> {
        let [projected, slots] = inputs::<2>(context)?;
        let (shape, projected) = projected.try_extract_tensor::<f32>()?;
        let [rows, tokens, width] = sizes(shape)?;
        let width = width / 3;
        let (shape, slots) = slots.try_extract_tensor::<i64>()?;
        let [slot_rows, total] = sizes(shape)?;
        if slot_rows != rows || total < tokens {
            return Err(ort::Error::new("there are fewer slots than tokens"));
        }
        let mut output = output(context, 0, &[rows, tokens, width])?;
        let out = Shared(output.try_extract_tensor_mut::<f32>()?.1.as_mut_ptr());
        let heads = self.heads;
        let cache = self
            .cache
            .get_or_insert_with(|| TextCache::new(heads, width / heads));
        let last = slots.iter().copied().max().unwrap_or(0);
        cache.reserve(last as usize + 1);
        let of = Tokens {
            projected,
            slots,
            total,
            tokens,
        };
        let heads = cache.heads().map(Mutex::new).collect::<Vec<_>>();
        let task = |head: usize| {
            heads[head]
                .lock()
                .attend(of, |token, columns: Range<usize>, result: &[f32]| {
                    // SAFETY: each task writes different columns of the output, which has a row for each token.
                    let out = unsafe {
                        std::slice::from_raw_parts_mut(
                            out.at(token * width + columns.start),
                            columns.len(),
                        )
                    };
                    out.copy_from_slice(result);
                });
        };
        if rows * tokens * total * width < MIN_PARALLEL {
            (0..heads.len()).for_each(task);
            return Ok(());
        }
        parallel(context, heads.len(), task)
    }
}
