//! Graphs built from the weights of faster-whisper and transformers models.
//!
//! They use ONNX Runtime's fused operators, and custom ones. A window's states are the keys and values of every layer's
//! attention to it, so that they are not computed again in each step.

mod caches;
mod decoder;
mod encoder;
mod graph;
mod layers;
mod operators;

pub(crate) use decoder::Decoder;
pub(crate) use encoder::Encoder;

use std::path::Path;

use ort::environment::Environment;
use ort::session::builder::SessionBuilder;
use ort::value::TensorElementType;

use self::caches::{Cross, PAST, PRESENT, Shape, cache_names};
use self::decoder::Text;
use self::graph::{Arithmetic, Built};
use super::bound::Session;
use super::frames::Frames;
use super::rows::Rows;
use super::settings::{Settings, failed, memory};
use crate::model::{Dimensions, Precision};
use crate::weights::{Checkpoint, Prepared};
use crate::{LoadError, kernels};

/// Builds both graphs and their sessions. Quantised weights are cached in `cache`, if given. With `alignment` heads (layer and head),
/// the decoder also outputs their attention.
pub(super) fn load(
    settings: &Settings,
    checkpoint: &Checkpoint,
    dimensions: &Dimensions,
    precision: Precision,
    cache: Option<&Path>,
    alignment: &[(usize, usize)],
) -> Result<(Encoder, Decoder), LoadError> {
    let shape = Shape {
        heads: dimensions.heads,
        head_dim: dimensions.head_dim,
        positions: dimensions.positions,
    };
    let cuda = settings.cuda;
    let element = match precision {
        Precision::Fp16 => TensorElementType::Float16,
        Precision::Int8 if cuda => TensorElementType::Float16,
        _ => TensorElementType::Float32,
    };
    let use_kernels = precision == Precision::Int8
        && !cuda
        && shape.head_dim == kernels::HEAD_DIM
        && kernels::is_available();
    if precision == Precision::Int8 && !cuda && !use_kernels {
        tracing::warn!(
            head_dim = shape.head_dim,
            "int8 is slower here, and --precision fp32 may be faster: its kernels need a CPU with AVX-512 and VNNI, and heads of {}",
            kernels::HEAD_DIM
        );
    }
    let (for_encoder, for_decoder) = match precision {
        Precision::Int8 if use_kernels => (Arithmetic::Rows, Arithmetic::Blocks),
        Precision::Int8 => (Arithmetic::Blocks, Arithmetic::Blocks),
        _ => (Arithmetic::Float, Arithmetic::Float),
    };
    let layers = checkpoint.decoder.len();
    let cross = Cross::new(layers, shape, element, use_kernels);
    let failed = failed(&checkpoint.files[0]);
    let encoder =
        encoder::graph(checkpoint, shape, element, for_encoder, &cross).map_err(&failed)?;
    let in_slots = !cuda && element == TensorElementType::Float32;
    let decoder = decoder::graph(
        checkpoint,
        shape,
        element,
        for_decoder,
        in_slots,
        &cross,
        alignment,
    )
    .map_err(&failed)?;

    let mut sources = encoder.quantised();
    sources.extend(decoder.quantised());
    let prepared = cache.filter(|_| !sources.is_empty()).and_then(|folder| {
        Prepared::open(folder, &checkpoint.files, &sources)
            .inspect_err(|error| {
                tracing::warn!(folder = %folder.display(), %error, "quantised weights cannot be cached; every start quantises them again");
            })
            .ok()
    });
    let session = |graph: graph::Graph| -> Result<Session, LoadError> {
        let mut builder =
            with_custom_operators(settings.builder(settings.threads).map_err(&failed)?)
                .map_err(&failed)?;
        let Built { session, maps } = graph
            .build(&mut builder, prepared.as_ref())
            .map_err(&failed)?;
        Session::new(session, &checkpoint.files[0], maps)
    };
    let memory = |cuda| memory(cuda).map_err(&failed);
    let rows = |element, count| {
        Rows::new(
            settings,
            memory(cuda)?,
            element,
            cross.dimensions().len(),
            count,
        )
        .map_err(&failed)
    };
    Ok((
        Encoder {
            session: session(encoder)?,
            memory: memory(cuda)?,
            element,
            frames: Frames::new(dimensions),
            cross: cross.clone(),
            one_by_one: !cuda,
        },
        Decoder {
            session: session(decoder)?,
            memory: memory(cuda)?,
            host: memory(false)?,
            element,
            constant: rows(cross.element, 1)?,
            text: if in_slots {
                Text::Slots { batch: 0 }
            } else {
                Text::Tensors {
                    past: cache_names(layers, PAST),
                    present: cache_names(layers, PRESENT),
                    growing: Box::new(rows(element, 2 * layers)?),
                }
            },
            cross: cross.names,
            shape,
        },
    ))
}

/// Registers the domain of the custom operators, before the process has a session.
///
/// ONNX Runtime adds a domain to a process-wide table with the first session that uses it, without a lock: if two are created at once,
/// one may fail, and other sessions read the table meanwhile.
pub(super) fn register_operators(environment: &Environment) -> ort::Result<()> {
    let mut builder = with_custom_operators(ort::session::Session::builder(environment)?)?;
    builder.edit_from_memory(&graph::empty_model()).map(drop)
}

fn with_custom_operators(builder: SessionBuilder) -> ort::Result<SessionBuilder> {
    Ok(builder.with_operators(operators::domain()?)?)
}
