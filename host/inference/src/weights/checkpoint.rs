//! The tensors of a Whisper model by their role, and the check that all are present and have consistent shapes.
//!
//! Linear weights are `[out, in]` in both formats. CTranslate2 keeps query, key and value in one tensor, transformers in separate
//! ones; here they are one matrix.

use std::path::{Path, PathBuf};

use super::matrix::Matrix;
use super::view::{Element, Tensors};
use super::{ctranslate2, safetensors};
use crate::LoadError;

/// `x · weightᵀ + bias`.
#[derive(Clone)]
pub(crate) struct Affine {
    pub weight: Matrix,
    /// One per row of the weight, or empty without a bias.
    pub bias: Vec<f32>,
}

/// Layer normalisation.
#[derive(Clone)]
pub(crate) struct Norm {
    pub gamma: Vec<f32>,
    pub beta: Vec<f32>,
}

/// Self-attention, with the normalisation before it.
pub(crate) struct SelfAttention {
    pub norm: Norm,
    /// Query, key and value, stacked.
    pub projections: Affine,
    pub output: Affine,
}

/// Attention to the encoder's states.
pub(crate) struct CrossAttention {
    pub norm: Norm,
    pub query: Affine,
    /// Key and value, stacked: computed from the encoder's states once per window.
    pub key_value: Affine,
    pub output: Affine,
}

/// The two linear layers after the attention.
pub(crate) struct FeedForward {
    pub norm: Norm,
    pub up: Affine,
    pub down: Affine,
}

pub(crate) struct EncoderLayer {
    pub attention: SelfAttention,
    pub feed_forward: FeedForward,
}

pub(crate) struct DecoderLayer {
    pub attention: SelfAttention,
    pub cross: CrossAttention,
    pub feed_forward: FeedForward,
}

/// The weights of a Whisper model.
pub(crate) struct Checkpoint {
    /// `[width, mels * 3]`; kernel of 3, stride 1.
    pub conv1: Affine,
    /// `[width, width * 3]`; kernel of 3, stride 2.
    pub conv2: Affine,
    /// `[positions, width]`
    pub encoder_positions: Matrix,
    pub encoder: Vec<EncoderLayer>,
    pub encoder_norm: Norm,
    /// `[vocabulary, width]`
    pub embeddings: Matrix,
    /// `[text positions, width]`
    pub decoder_positions: Matrix,
    pub decoder: Vec<DecoderLayer>,
    pub decoder_norm: Norm,
    /// `[vocabulary, width]`; the embeddings, in every published model.
    pub projection: Matrix,
    /// Number of attention heads, if the file states it.
    pub heads: Option<usize>,
    /// The files it was loaded from.
    pub files: Vec<PathBuf>,
}

/// Kernel size of both convolutions.
pub(crate) const KERNEL: usize = 3;

impl Checkpoint {
    /// Maps a `model.bin` of CTranslate2.
    ///
    /// # Errors
    /// [`LoadError`] with the names of the file and the tensor.
    pub fn ctranslate2(path: &Path) -> Result<Self, LoadError> {
        let tensors = ctranslate2::open(path)?;
        let heads = tensors
            .named
            .get("decoder/num_heads")
            .map(|view| view.to_vec());
        let names = Names {
            tensors: &tensors,
            naming: CTRANSLATE2,
        };
        names.checkpoint(
            heads.and_then(|heads| heads.first().map(|&heads| heads as usize)),
            vec![path.to_owned()],
        )
    }

    /// Maps safetensors files of transformers.
    ///
    /// # Errors
    /// [`LoadError`] with the names of the file and the tensor.
    pub fn transformers(files: Vec<PathBuf>) -> Result<Self, LoadError> {
        let tensors = safetensors::open(&files)?;
        let names = Names {
            tensors: &tensors,
            naming: TRANSFORMERS,
        };
        names.checkpoint(None, files)
    }

    /// Returns the model width.
    pub fn width(&self) -> usize {
        self.embeddings.columns
    }

    /// Returns the number of mel bins.
    pub fn n_mels(&self) -> usize {
        self.conv1.weight.columns / KERNEL
    }
}

/// The tensor names of a format. `#` is replaced by the layer's index.
struct Naming {
    /// Prefixes that names may have.
    prefixes: &'static [&'static str],
    conv: [&'static str; 2],
    positions: [&'static str; 2],
    embeddings: &'static str,
    projection: &'static str,
    layer: [&'static str; 2],
    final_norm: [&'static str; 2],
    self_norm: &'static str,
    self_projections: &'static [&'static str],
    self_output: &'static str,
    cross_norm: &'static str,
    cross_query: &'static str,
    cross_key_value: &'static [&'static str],
    cross_output: &'static str,
    ffn_norm: &'static str,
    ffn: [&'static str; 2],
    gamma: &'static str,
    beta: &'static str,
    separator: &'static str,
}

const CTRANSLATE2: Naming = Naming {
    prefixes: &[""],
    conv: ["encoder/conv1", "encoder/conv2"],
    positions: [
        "encoder/position_encodings/encodings",
        "decoder/position_encodings/encodings",
    ],
    embeddings: "decoder/embeddings/weight",
    projection: "decoder/projection/weight",
    layer: ["encoder/layer_#/", "decoder/layer_#/"],
    final_norm: ["encoder/layer_norm", "decoder/layer_norm"],
    self_norm: "self_attention/layer_norm",
    self_projections: &["self_attention/linear_0"],
    self_output: "self_attention/linear_1",
    cross_norm: "attention/layer_norm",
    cross_query: "attention/linear_0",
    cross_key_value: &["attention/linear_1"],
    cross_output: "attention/linear_2",
    ffn_norm: "ffn/layer_norm",
    ffn: ["ffn/linear_0", "ffn/linear_1"],
    gamma: "gamma",
    beta: "beta",
    separator: "/",
};

const TRANSFORMERS: Naming = Naming {
    prefixes: &["model.", ""],
    conv: ["encoder.conv1", "encoder.conv2"],
    positions: [
        "encoder.embed_positions.weight",
        "decoder.embed_positions.weight",
    ],
    embeddings: "decoder.embed_tokens.weight",
    projection: "proj_out.weight",
    layer: ["encoder.layers.#.", "decoder.layers.#."],
    final_norm: ["encoder.layer_norm", "decoder.layer_norm"],
    self_norm: "self_attn_layer_norm",
    self_projections: &["self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"],
    self_output: "self_attn.out_proj",
    cross_norm: "encoder_attn_layer_norm",
    cross_query: "encoder_attn.q_proj",
    cross_key_value: &["encoder_attn.k_proj", "encoder_attn.v_proj"],
    cross_output: "encoder_attn.out_proj",
    ffn_norm: "final_layer_norm",
    ffn: ["fc1", "fc2"],
    gamma: "weight",
    beta: "bias",
    separator: ".",
};

/// Finds tensors by name and checks their shapes.
struct Names<'a> {
    tensors: &'a Tensors,
    naming: Naming,
}

impl Names<'_> {
    fn checkpoint(
        &self,
        heads: Option<usize>,
        files: Vec<PathBuf>,
    ) -> Result<Checkpoint, LoadError> {
        let naming = &self.naming;
        let embeddings = self.matrix(naming.embeddings, None, None)?;
        let (vocabulary, width) = (embeddings.rows, embeddings.columns);
        if !width.is_multiple_of(super::BLOCK) {
            return Err(self.tensors.error(
                naming.embeddings,
                format!(
                    "is {width} wide, expected a multiple of {}, as in every Whisper model",
                    super::BLOCK
                ),
            ));
        }
        let conv1 = self.affine(naming.conv[0], Some(width), None)?;
        if !conv1.weight.columns.is_multiple_of(KERNEL) {
            return Err(self.tensors.error(
                naming.conv[0],
                format!("does not have a kernel of {KERNEL}"),
            ));
        }
        let projection = match self.find(naming.projection) {
            Some(_) => self.matrix(naming.projection, Some(vocabulary), Some(width))?,
            None => embeddings.clone(),
        };
        let layers = |side: usize| -> usize {
            let first = |layer: usize| {
                self.layer(side, layer) + naming.self_norm + naming.separator + naming.gamma
            };
            (0..)
                .take_while(|&layer| self.find(&first(layer)).is_some())
                .count()
        };
        let encoder = (0..layers(0))
            .map(|layer| {
                let prefix = self.layer(0, layer);
                Ok(EncoderLayer {
                    attention: self.self_attention(&prefix, width)?,
                    feed_forward: self.feed_forward(&prefix, width)?,
                })
            })
            .collect::<Result<Vec<_>, LoadError>>()?;
        let decoder = (0..layers(1))
            .map(|layer| {
                let prefix = self.layer(1, layer);
                Ok(DecoderLayer {
                    attention: self.self_attention(&prefix, width)?,
                    cross: CrossAttention {
                        norm: self.norm(&(prefix.clone() + naming.cross_norm), width)?,
                        query: self.affine(
                            &(prefix.clone() + naming.cross_query),
                            Some(width),
                            Some(width),
                        )?,
                        key_value: self.stacked(
                            &prefix,
                            naming.cross_key_value,
                            2 * width,
                            width,
                        )?,
                        output: self.affine(
                            &(prefix.clone() + naming.cross_output),
                            Some(width),
                            Some(width),
                        )?,
                    },
                    feed_forward: self.feed_forward(&prefix, width)?,
                })
            })
            .collect::<Result<Vec<_>, LoadError>>()?;
        if encoder.is_empty() || decoder.is_empty() {
            return Err(
                self.missing(&(self.layer(usize::from(!encoder.is_empty()), 0) + naming.self_norm))
            );
        }
        Ok(Checkpoint {
            conv1,
            conv2: self.affine(naming.conv[1], Some(width), Some(width * KERNEL))?,
            encoder_positions: self.matrix(naming.positions[0], None, Some(width))?,
            encoder,
            encoder_norm: self.norm(naming.final_norm[0], width)?,
            embeddings,
            decoder_positions: self.matrix(naming.positions[1], None, Some(width))?,
            decoder,
            decoder_norm: self.norm(naming.final_norm[1], width)?,
            projection,
            heads,
            files,
        })
    }

    fn layer(&self, side: usize, layer: usize) -> String {
        self.naming.layer[side].replace('#', &layer.to_string())
    }

    fn self_attention(&self, prefix: &str, width: usize) -> Result<SelfAttention, LoadError> {
        let naming = &self.naming;
        Ok(SelfAttention {
            norm: self.norm(&format!("{prefix}{}", naming.self_norm), width)?,
            projections: self.stacked(prefix, naming.self_projections, 3 * width, width)?,
            output: self.affine(
                &format!("{prefix}{}", naming.self_output),
                Some(width),
                Some(width),
            )?,
        })
    }

    fn feed_forward(&self, prefix: &str, width: usize) -> Result<FeedForward, LoadError> {
        let naming = &self.naming;
        let up = self.affine(&format!("{prefix}{}", naming.ffn[0]), None, Some(width))?;
        let inner = up.weight.rows;
        if !inner.is_multiple_of(super::BLOCK) {
            return Err(self.tensors.error(
                &format!("{prefix}{}", naming.ffn[0]),
                format!(
                    "has {inner} rows, expected a multiple of {}, as in every Whisper model",
                    super::BLOCK
                ),
            ));
        }
        Ok(FeedForward {
            norm: self.norm(&format!("{prefix}{}", naming.ffn_norm), width)?,
            down: self.affine(
                &format!("{prefix}{}", naming.ffn[1]),
                Some(width),
                Some(inner),
            )?,
            up,
        })
    }

    /// Stacks linear layers with the same input. If only some have a bias, it is zero for the others.
    fn stacked(
        &self,
        prefix: &str,
        names: &[&str],
        rows: usize,
        columns: usize,
    ) -> Result<Affine, LoadError> {
        let each = rows / names.len();
        let parts = names
            .iter()
            .map(|name| self.affine(&format!("{prefix}{name}"), Some(each), Some(columns)))
            .collect::<Result<Vec<_>, _>>()?;
        let has_bias = parts.iter().any(|part| !part.bias.is_empty());
        let bias = parts.iter().filter(|_| has_bias).flat_map(|part| {
            let mut bias = part.bias.clone();
            bias.resize(each, 0.0);
            bias
        });
        Ok(Affine {
            bias: bias.collect(),
            weight: Matrix::stack(parts.into_iter().map(|part| part.weight).collect()),
        })
    }

    fn affine(
        &self,
        name: &str,
        rows: Option<usize>,
        columns: Option<usize>,
    ) -> Result<Affine, LoadError> {
        let weight = self.matrix(
            &format!("{name}{}weight", self.naming.separator),
            rows,
            columns,
        )?;
        let name = format!("{name}{}bias", self.naming.separator);
        let bias = match self.find(&name) {
            Some(_) => self.vector(&name, weight.rows)?,
            None => Vec::new(),
        };
        Ok(Affine { weight, bias })
    }

    fn norm(&self, name: &str, width: usize) -> Result<Norm, LoadError> {
        let Naming {
            separator,
            gamma,
            beta,
            ..
        } = self.naming;
        Ok(Norm {
            gamma: self.vector(&format!("{name}{separator}{gamma}"), width)?,
            beta: self.vector(&format!("{name}{separator}{beta}"), width)?,
        })
    }

    fn vector(&self, name: &str, length: usize) -> Result<Vec<f32>, LoadError> {
        let view = self.find(name).ok_or_else(|| self.missing(name))?;
        if view.shape != [length] {
            return Err(self.wrong_shape(name, &view.shape, &format!("[{length}]")));
        }
        Ok(view.to_vec())
    }

    fn matrix(
        &self,
        name: &str,
        rows: Option<usize>,
        columns: Option<usize>,
    ) -> Result<Matrix, LoadError> {
        let view = self.find(name).ok_or_else(|| self.missing(name))?;
        let size = |size: Option<usize>| size.map_or("any".into(), |size| size.to_string());
        if view.shape.len() < 2
            || rows.is_some_and(|rows| rows != view.shape[0])
            || columns.is_some_and(|columns| columns != view.columns())
        {
            let expected = format!("[{}, {}]", size(rows), size(columns));
            return Err(self.wrong_shape(name, &view.shape, &expected));
        }
        let scale_name = format!("{name}_scale");
        let scales = self.find(&scale_name).map(|scales| scales.to_vec());
        let is_integer = matches!(view.element, Element::I8 | Element::I16);
        match &scales {
            None if is_integer => return Err(self.missing(&scale_name)),
            Some(scales) if scales.len() != 1 && scales.len() != view.shape[0] => {
                return Err(self.wrong_shape(
                    &scale_name,
                    &[scales.len()],
                    &format!("[{}]", view.shape[0]),
                ));
            }
            _ => {}
        }
        Ok(Matrix::new(view.clone(), scales))
    }

    fn find(&self, name: &str) -> Option<&super::View> {
        // A file has only one of the names with and without a prefix: the model's head has no prefix.
        self.naming
            .prefixes
            .iter()
            .find_map(|prefix| self.tensors.named.get(&format!("{prefix}{name}")))
    }

    fn missing(&self, name: &str) -> LoadError {
        self.tensors.error(
            name,
            "is missing: the file is incomplete, or of another kind of model; download a Whisper model's files again",
        )
    }

    fn wrong_shape(&self, name: &str, shape: &[usize], expected: &str) -> LoadError {
        self.tensors.error(
            name,
            format!("has the shape {shape:?}, expected {expected}; take all files from the same Whisper model"),
        )
    }
}
