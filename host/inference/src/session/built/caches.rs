//! Names and shapes of the keys and values passed between the graphs.

use ort::value::TensorElementType;

use crate::kernels;

/// The two tensors of an attention cache, in the order of the graphs' inputs and outputs.
pub(super) const KEY_VALUE: [&str; 2] = ["key", "value"];

/// Returns the names of all layers' keys and values, in the order of the graphs' inputs and outputs; `kind` is their prefix.
pub(super) fn cache_names(layers: usize, kind: &str) -> Vec<String> {
    (0..layers)
        .flat_map(|layer| KEY_VALUE.map(|what| cache_name(kind, layer, what)))
        .collect()
}

/// Returns the name of one of them. Those of the kind [`CROSS`] are outputs of the encoder and inputs of the decoder.
pub(super) fn cache_name(kind: &str, layer: usize, what: &str) -> String {
    format!("{kind}.{layer}.{what}")
}

/// The tensor that replaces both if they are quantised and packed.
pub(super) const PACKED: &str = "packed";

/// The kinds of caches: of a window, of the text before a run, and of the text after it.
pub(super) const CROSS: &str = "cross";
pub(super) const PAST: &str = "past";
pub(super) const PRESENT: &str = "present";

/// Dimensions that do not follow from the weights alone.
#[derive(Clone, Copy)]
pub(super) struct Shape {
    pub(super) heads: usize,
    pub(super) head_dim: usize,
    pub(super) positions: usize,
}

/// The tensors passed from the encoder to the decoder, for each window.
#[derive(Clone)]
pub(super) struct Cross {
    pub(super) names: Vec<String>,
    pub(super) element: TensorElementType,
    /// Shape for one window.
    pub(super) shape: [usize; 3],
    /// Whether keys and values are quantised and packed in one tensor.
    pub(super) packed: bool,
}

impl Cross {
    pub(super) fn new(
        layers: usize,
        shape: Shape,
        element: TensorElementType,
        packed: bool,
    ) -> Self {
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

    /// Returns the shape for any number of windows.
    pub(super) fn dimensions(&self) -> [i64; 4] {
        let [one, two, three] = self.shape.map(|size| size as i64);
        [-1, one, two, three]
    }
}
