//! ONNX Runtime operators over the kernels of [`crate::kernels`].

#[cfg(target_arch = "x86_64")]
mod bytes;
mod text;

use std::panic::{AssertUnwindSafe, catch_unwind};

use ort::operator::{ComputeContext, OperatorDomain, OperatorInput, OperatorOutput};
use ort::value::{TensorElementType, ValueRef, ValueRefMut};
use parking_lot::Mutex;

use super::graph::OWN;
use crate::error::panic_text;

const FLOATS: OperatorInput = OperatorInput::required(TensorElementType::Float32);
const GIVES_FLOATS: OperatorOutput = OperatorOutput::required(TensorElementType::Float32);

/// All of them.
pub(super) fn domain() -> ort::Result<OperatorDomain> {
    let domain = OperatorDomain::new(OWN)?.add(text::CachedAttention)?;
    #[cfg(target_arch = "x86_64")]
    let domain = bytes::add(domain)?;
    Ok(domain)
}

/// The methods that say what an operator of the first version is called, takes and gives.
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

use signature;

/// A panic as an error: it must not get into ONNX Runtime, which is not Rust.
fn caught<T>(run: impl FnOnce() -> ort::Result<T>) -> ort::Result<T> {
    catch_unwind(AssertUnwindSafe(run))
        .unwrap_or_else(|panic| Err(ort::Error::new(panic_text(&*panic))))
}

/// Run tasks `0..total` on ONNX Runtime's threads, whichever is free.
fn parallel(
    context: &ComputeContext,
    total: usize,
    task: impl Fn(usize) + Send + Sync,
) -> ort::Result<()> {
    let failed = Mutex::new(None);
    context.par_for(total, total, |index| {
        let run = caught(|| {
            task(index);
            Ok(())
        });
        if let Err(error) = run {
            *failed.lock() = Some(error);
        }
    })?;
    failed.into_inner().map_or(Ok(()), Err)
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
