//! Graphs that are built here, from the weights of faster-whisper's and transformers' models.
//!
//! The operators are ONNX Runtime's fused ones, and in int8 some of our own. A window's states are the keys and values of every
//! layer's attention to it, so that no step makes them again.

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

use self::decoder::Text;
use self::graph::{Arithmetic, Built};
use super::load::{Settings, failed, memory};
use super::rows::Rows;
use super::{Frames, Session};
use crate::model::{Precision, Sizes};
use crate::weights::{Checkpoint, Prepared};
use crate::{LoadError, kernels};

/// The two tensors of an attention cache, in the order of the graphs' inputs and outputs.
const KEY_VALUE: [&str; 2] = ["key", "value"];

/// The names of all layers' keys and values, in the order of the graphs' inputs and outputs; `kind` is the first part of each.
fn cache_names(layers: usize, kind: &str) -> Vec<String> {
    (0..layers)
        .flat_map(|layer| KEY_VALUE.map(|what| cache_name(kind, layer, what)))
        .collect()
}

/// The name of one of them. The encoder gives those of the kind [`CROSS`], and the decoder takes them.
fn cache_name(kind: &str, layer: usize, what: &str) -> String {
    format!("{kind}.{layer}.{what}")
}

/// What takes the place of both where they are quantised and packed.
const PACKED: &str = "packed";

/// The kinds of caches: of a window, of the text before a run, and of the text after it.
const CROSS: &str = "cross";
const PAST: &str = "past";
const PRESENT: &str = "present";

/// What the weights alone do not say.
#[derive(Clone, Copy)]
struct Shape {
    heads: usize,
    head_dim: usize,
    positions: usize,
}

/// The tensors that the encoder gives and the decoder takes, one for each window.
#[derive(Clone)]
struct Cross {
    names: Vec<String>,
    element: TensorElementType,
    /// Of one window.
    shape: [usize; 3],
    /// Whether keys and values are quantised, and in one tensor.
    packed: bool,
}

impl Cross {
    fn new(layers: usize, shape: Shape, element: TensorElementType, packed: bool) -> Self {
        if packed {
            return Self {
                names: (0..layers)
                    .map(|layer| cache_name(CROSS, layer, PACKED))
                    .collect(),
                element: TensorElementType::Uint8,
                shape: [shape.heads, 1, kernels::packed_size(shape.positions)],
                packed,
            };
        }
        Self {
            names: cache_names(layers, CROSS),
            element,
            shape: [shape.heads, shape.positions, shape.head_dim],
            packed,
        }
    }

    /// The shape for any number of windows.
    fn dimensions(&self) -> [i64; 4] {
        let [one, two, three] = self.shape.map(|size| size as i64);
        [-1, one, two, three]
    }
}

/// Build both graphs and make sessions of them. Quantised weights are kept in `cache`, if there is one. With `alignment` heads
/// (layer and head), the decoder gives their attention as well.
pub(super) fn load(
    settings: &Settings,
    checkpoint: &Checkpoint,
    sizes: &Sizes,
    precision: Precision,
    cache: Option<&Path>,
    alignment: &[(usize, usize)],
) -> Result<(Encoder, Decoder), LoadError> {
    let shape = Shape {
        heads: sizes.heads,
        head_dim: sizes.head_dim,
        positions: sizes.positions,
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
                tracing::warn!(folder = %folder.display(), %error, "quantised weights cannot be kept; every start makes them again");
            })
            .ok()
    });
    let session = |graph: graph::Graph| -> Result<Session, LoadError> {
        let mut builder = with_own_operators(settings.builder(settings.threads).map_err(&failed)?)
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
            frames: Frames::new(sizes),
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

/// Make the domain of our operators known, before the process has a session.
///
/// ONNX Runtime adds a domain to a table of the process when the first session has it, without a lock: of two that are made at once
/// one may fail, and every other session reads the table meanwhile.
pub(super) fn register_operators(environment: &Environment) -> ort::Result<()> {
    let mut builder = with_own_operators(ort::session::Session::builder(environment)?)?;
    builder.edit_from_memory(&graph::empty_model()).map(drop)
}

fn with_own_operators(builder: SessionBuilder) -> ort::Result<SessionBuilder> {
    Ok(builder.with_operators(operators::domain()?)?)
}
