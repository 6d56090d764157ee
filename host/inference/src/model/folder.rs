//! The contents of a model folder, and which of its ONNX files to load.
//!
//! Weights are looked for as faster-whisper's `model.bin`, transformers' `model.safetensors`, and ONNX graphs, in this order.
//! ONNX graphs have the layout of the models published on Hugging Face: `encoder_model{suffix}.onnx` with either
//! `decoder_model_merged{suffix}.onnx` or both `decoder_model{suffix}.onnx` and `decoder_with_past_model{suffix}.onnx`, in
//! the folder or in `onnx/`; the suffix stands for the precision. The merged decoder is preferred: it has the decoder's weights
//! only once.

use std::path::{Path, PathBuf};

use super::config::Dimensions;
use super::json::JsonFile;
use super::precision::Precision;
use super::tokens::Vocabulary;
use crate::LoadError;
use crate::weights::{Checkpoint, shards};

/// The model of a folder.
pub(crate) struct Contents {
    pub weights: Weights,
    pub dimensions: Dimensions,
    pub vocabulary: Vocabulary,
}

/// The weights of a model.
pub(crate) enum Weights {
    /// Tensors, from which graphs are built.
    Checkpoint(Box<Checkpoint>),
    /// Graphs that contain their weights.
    Onnx(Folder),
}

impl Contents {
    /// Reads everything except the weights, which are mapped.
    ///
    /// # Errors
    /// [`LoadError`] with the file and what to do.
    pub fn read(path: &Path, precision: Precision) -> Result<Self, LoadError> {
        if !path.is_dir() {
            return Err(LoadError::Folder {
                folder: path.to_owned(),
                what: "there is no such folder; name one that has a Whisper model".into(),
            });
        }
        let file = |name: &str| Some(path.join(name)).filter(|file| file.is_file());
        let folder = Folder {
            path: path.to_owned(),
        };
        let wants_onnx = precision.is_onnx_only();
        if let Some(file) = file("model.bin").filter(|_| !wants_onnx) {
            let checkpoint = Checkpoint::ctranslate2(&file)?;
            let config = JsonFile::open(path, "config.json")?;
            let dimensions = Dimensions::from_checkpoint(path, &checkpoint, &config)?;
            let vocabulary = Vocabulary::from_ctranslate2(path, &dimensions, &config)?;
            return Ok(Self {
                weights: Weights::Checkpoint(Box::new(checkpoint)),
                dimensions,
                vocabulary,
            });
        }
        let files = match (
            file("model.safetensors"),
            file("model.safetensors.index.json"),
        ) {
            (Some(file), _) => Some(vec![file]),
            (None, Some(index)) => Some(shards(&index)?),
            (None, None) => None,
        };
        if let Some(files) = files.filter(|_| !wants_onnx) {
            let config = JsonFile::open(path, "config.json")?;
            config.check_type()?;
            let checkpoint = Checkpoint::transformers(files)?;
            let dimensions = Dimensions::from_checkpoint(path, &checkpoint, &config)?;
            let vocabulary = Vocabulary::from_transformers(path, &dimensions)?;
            return Ok(Self {
                weights: Weights::Checkpoint(Box::new(checkpoint)),
                dimensions,
                vocabulary,
            });
        }
        if !folder.has_onnx() {
            return Err(folder.empty(precision));
        }
        let dimensions = Dimensions::from_onnx(path)?;
        let vocabulary = Vocabulary::from_onnx(path, &dimensions)?;
        Ok(Self {
            weights: Weights::Onnx(folder),
            dimensions,
            vocabulary,
        })
    }
}

/// A model folder.
pub(crate) struct Folder {
    pub path: PathBuf,
}

/// A complete set of ONNX files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct OnnxFiles {
    pub precision: Precision,
    pub encoder: PathBuf,
    pub decoder: DecoderFiles,
}

/// The decoder's file or files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum DecoderFiles {
    /// One graph with a branch for the first step and one for the following steps.
    Merged(PathBuf),
    /// A graph for the first step and one for the following steps.
    Split { first: PathBuf, next: PathBuf },
}

impl OnnxFiles {
    /// Returns all paths, the encoder's first.
    pub fn paths(&self) -> Vec<&PathBuf> {
        match &self.decoder {
            DecoderFiles::Merged(decoder) => vec![&self.encoder, decoder],
            DecoderFiles::Split { first, next } => vec![&self.encoder, first, next],
        }
    }
}

impl Folder {
    /// Returns whether there is an encoder in any precision.
    fn has_onnx(&self) -> bool {
        [self.path.clone(), self.path.join("onnx")]
            .iter()
            .filter_map(|place| std::fs::read_dir(place).ok())
            .flatten()
            .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
            .any(|name| name.starts_with("encoder_model") && name.ends_with(".onnx"))
    }

    /// Returns the error for a folder without weights.
    fn empty(&self, precision: Precision) -> LoadError {
        let what = if precision.is_onnx_only() {
            format!(
                "has no ONNX files of precision {precision:?}, and other formats do not have it; choose fp32, fp16 or int8, or add the files"
            )
        } else if self.path.join("pytorch_model.bin").is_file() {
            "has its weights only in `pytorch_model.bin`, which cannot be loaded; save the model again with transformers, which \
             writes `model.safetensors`, or convert it with ct2-transformers-converter"
                .into()
        } else {
            "has no model: neither `model.bin` (faster-whisper), nor `model.safetensors` (transformers), nor \
             `encoder_model*.onnx`; name the folder that has one of them, or download the model again"
                .into()
        };
        LoadError::Folder {
            folder: self.path.clone(),
            what,
        }
    }

    /// Returns the set of files to load for `precision`.
    ///
    /// # Errors
    /// [`LoadError::Folder`] with the name of the first missing file.
    pub fn files(&self, precision: Precision, cuda: bool) -> Result<OnnxFiles, LoadError> {
        let candidates = precision.candidates(cuda);
        for &precision in &candidates {
            for suffix in precision.suffixes() {
                for place in [self.path.clone(), self.path.join("onnx")] {
                    if let Some(files) = complete(&place, precision, suffix) {
                        return Ok(files);
                    }
                }
            }
        }
        Err(self.incomplete(precision, &candidates))
    }

    /// Returns an error that names the missing files: of an incomplete set, or of the one requested.
    fn incomplete(&self, asked: Precision, candidates: &[Precision]) -> LoadError {
        let mut suffix = candidates[0].suffixes()[0];
        let mut place = self.path.join("onnx");
        for candidate in candidates.iter().flat_map(|precision| precision.suffixes()) {
            for folder in [self.path.join("onnx"), self.path.clone()] {
                if folder
                    .join(format!("encoder_model{candidate}.onnx"))
                    .is_file()
                {
                    (suffix, place) = (*candidate, folder);
                }
            }
        }
        let encoder = place.join(format!("encoder_model{suffix}.onnx"));
        let missing = if encoder.is_file() {
            format!(
                "has `{}` but neither `decoder_model_merged{suffix}.onnx` nor both `decoder_model{suffix}.onnx` and \
                 `decoder_with_past_model{suffix}.onnx` next to it",
                encoder.display()
            )
        } else if asked == Precision::Auto {
            "has no `encoder_model.onnx` or quantised variant of it, neither in the folder itself nor in `onnx/`"
                .into()
        } else {
            format!(
                "has no `encoder_model{suffix}.onnx`, neither in the folder itself nor in `onnx/`"
            )
        };
        LoadError::Folder {
            folder: self.path.clone(),
            what: format!(
                "{missing}; add the files of one precision, or choose a precision that is complete"
            ),
        }
    }
}

fn complete(place: &Path, precision: Precision, suffix: &str) -> Option<OnnxFiles> {
    let file = |name: &str| {
        let path = place.join(format!("{name}{suffix}.onnx"));
        path.is_file().then_some(path)
    };
    let encoder = file("encoder_model")?;
    let decoder = match file("decoder_model_merged") {
        Some(merged) => DecoderFiles::Merged(merged),
        None => DecoderFiles::Split {
            first: file("decoder_model")?,
            next: file("decoder_with_past_model")?,
        },
    };
    Some(OnnxFiles {
        precision,
        encoder,
        decoder,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folder(names: &[&str]) -> (tempfile::TempDir, Folder) {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("onnx")).unwrap();
        for name in names {
            std::fs::write(dir.path().join(name), "").unwrap();
        }
        let folder = Folder {
            path: dir.path().to_owned(),
        };
        (dir, folder)
    }

    #[test]
    fn on_the_cpu_a_complete_int8_set_is_preferred_to_fp32() {
        let (_dir, folder) = folder(&[
            "onnx/encoder_model.onnx",
            "onnx/decoder_model_merged.onnx",
            "onnx/encoder_model_quantized.onnx",
            "onnx/decoder_model_merged_quantized.onnx",
        ]);
        let files = folder.files(Precision::Auto, false).unwrap();
        assert_eq!(files.precision, Precision::Int8);
        let files = folder.files(Precision::Auto, true).unwrap();
        assert_eq!(files.precision, Precision::Fp32);
    }

    #[test]
    fn an_incomplete_set_is_skipped() {
        let (_dir, folder) = folder(&[
            "encoder_model_int8.onnx",
            "decoder_model_int8.onnx",
            "onnx/encoder_model.onnx",
            "onnx/decoder_model.onnx",
            "onnx/decoder_with_past_model.onnx",
        ]);
        let files = folder.files(Precision::Auto, false).unwrap();
        assert_eq!(files.precision, Precision::Fp32);
        assert!(matches!(files.decoder, DecoderFiles::Split { .. }));
    }

    #[test]
    fn a_missing_decoder_is_named() {
        let (_dir, folder) = folder(&["encoder_model_fp16.onnx"]);
        let text = folder
            .files(Precision::Auto, false)
            .unwrap_err()
            .to_string();
        assert!(text.contains("encoder_model_fp16.onnx"), "{text}");
        assert!(text.contains("decoder_model_merged_fp16.onnx"), "{text}");
    }
}
