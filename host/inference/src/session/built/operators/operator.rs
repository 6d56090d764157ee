//! Functions shared by the operators: their signatures, and running on ONNX Runtime's threads.

use std::panic::{AssertUnwindSafe, catch_unwind};

use ort::operator::{ComputeContext, OperatorInput, OperatorOutput};
use ort::value::{TensorElementType, ValueRef, ValueRefMut};
use parking_lot::Mutex;

use crate::error::panic_text;

pub(super) const FLOATS: OperatorInput = OperatorInput::required(TensorElementType::Float32);
pub(super) const OUT_FLOATS: OperatorOutput = OperatorOutput::required(TensorElementType::Float32);

/// Implements the methods for the name, inputs and outputs of an operator of version 1.
macro_rules! signature {
    ($name:literal, $kernel:ty, [$($input:expr),* $(,)?], [$($output:expr),* $(,)?]) => {
        type Kernel<'attr> = $kernel;

        fn name(&self) -> &str {
            $name
        }

        fn versions(&self) -> std::ops::RangeInclusive<u32> {
            1..=1
        }

        fn inputs(&self) -> impl IntoIterator<Item = OperatorInput> {
            [$($input),*]
        }

        fn outputs(&self) -> impl IntoIterator<Item = OperatorOutput> {
            [$($output),*]
        }
    };
}

pub(super) use signature;

/// Converts a panic to an error: it must not unwind into ONNX Runtime, which is not Rust.
pub(super) fn catch_panic<T>(run: impl FnOnce() -> ort::Result<T>) -> ort::Result<T> {
    catch_unwind(AssertUnwindSafe(run))
        .unwrap_or_else(|panic| Err(ort::Error::new(panic_text(&*panic))))
}

/// Runs tasks `0..total` on ONNX Runtime's threads.
pub(super) fn parallel(
    context: &ComputeContext,
    total: usize,
    task: impl Fn(usize) + Send + Sync,
) -> ort::Result<()> {
    let failed = Mutex::new(None);
    context.par_for(total, total, |index| {
        let run = catch_panic(|| {
            task(index);
            Ok(())
        });
        if let Err(error) = run {
            *failed.lock() = Some(error);
        }
    })?;
    failed.into_inner().map_or(Ok(()), Err)
}

/// A pointer shared by tasks on several threads, each of which accesses its own part.
#[derive(Clone, Copy)]
pub(super) struct Shared<T>(pub(super) *mut T);

// SAFETY: users must ensure that the parts do not overlap.
unsafe impl<T> Send for Shared<T> {}
// SAFETY: as above.
unsafe impl<T> Sync for Shared<T> {}

impl<T> Shared<T> {
    /// # Safety
    /// `index` must be in bounds.
    pub(super) unsafe fn at(self, index: usize) -> *mut T {
        // SAFETY: guaranteed by the caller.
        unsafe { self.0.add(index) }
    }
}

pub(super) fn inputs<const N: usize>(context: &ComputeContext) -> ort::Result<[ValueRef<'_>; N]> {
    let found = (0..N)
        .map(|index| {
            context
                .input(index)?
                .ok_or_else(|| ort::Error::new(format!("input {index} is missing")))
        })
        .collect::<ort::Result<Vec<_>>>()?;
    found
        .try_into()
        .map_err(|_| ort::Error::new("an operator has the wrong number of inputs"))
}

pub(super) fn output<'a>(
    context: &'a ComputeContext,
    index: usize,
    shape: &[usize],
) -> ort::Result<ValueRefMut<'a>> {
    let shape: Vec<i64> = shape.iter().map(|&size| size as i64).collect();
    context
        .output(index, shape)?
        .ok_or_else(|| ort::Error::new(format!("output {index} is missing")))
}

pub(super) fn sizes<const N: usize>(shape: &[i64]) -> ort::Result<[usize; N]> {
    let sizes: Vec<usize> = shape.iter().map(|&size| size as usize).collect();
    sizes
        .try_into()
        .map_err(|_| ort::Error::new(format!("a tensor has the shape {shape:?}")))
}
