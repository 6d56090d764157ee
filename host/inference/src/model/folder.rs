//! Which ONNX files of a model folder to load.
//!
//! The layout is that of the models published on Hugging Face: `encoder_model{suffix}.onnx` with either
//! `decoder_model_merged{suffix}.onnx` or `decoder_model{suffix}.onnx` and `decoder_with_past_model{suffix}.onnx`, in
//! the folder or in `onnx/`; the suffix names the precision. The merged decoder is preferred: it holds the decoder's
//! weights once.

use std::path::{Path, PathBuf};

use crate::LoadError;

/// The precision of a model's weights, and so which files are loaded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Precision {
    /// On the CPU int8 if there is a complete set, else fp32; on CUDA fp16, else fp32; else any complete set.
    #[default]
    Auto,
    /// No suffix.
    Fp32,
    /// `_fp16`.
    Fp16,
    /// `_quantized` or `_int8`.
    Int8,
    /// `_uint8`.
    Uint8,
    /// `_q4`.
    Q4,
    /// `_q4f16`.
    Q4f16,
    /// `_bnb4`.
    Bnb4,
}

impl Precision {
    fn suffixes(self) -> &'static [&'static str] {
        match self {
            Precision::Auto => &[],
            Precision::Fp32 => &[""],
            Precision::Fp16 => &["_fp16"],
            Precision::Int8 => &["_quantized", "_int8"],
            Precision::Uint8 => &["_uint8"],
            Precision::Q4 => &["_q4"],
            Precision::Q4f16 => &["_q4f16"],
            Precision::Bnb4 => &["_bnb4"],
        }
    }

    /// Whether a window's text is the same whatever other windows are in its batch. Integer files quantise the
    /// activations of a whole batch with one scale, so there each window would depend on its neighbours.
    pub(crate) fn batches(self) -> bool {
        !matches!(self, Precision::Int8 | Precision::Uint8)
    }

    /// What to try, in order.
    fn candidates(self, cuda: bool) -> Vec<Precision> {
        use Precision::*;
        match (self, cuda) {
            (Auto, false) => vec![Int8, Fp32, Uint8, Q4, Fp16, Q4f16, Bnb4],
            (Auto, true) => vec![Fp16, Fp32, Q4f16, Q4, Int8, Uint8, Bnb4],
            (one, _) => vec![one],
        }
    }
}

/// A model folder.
pub(crate) struct Folder {
    pub path: PathBuf,
}

/// A complete set of ONNX files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Files {
    pub precision: Precision,
    pub encoder: PathBuf,
    pub decoder: DecoderFiles,
}

/// The decoder's file or files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum DecoderFiles {
    /// One graph with a branch for the first step and one for the following.
    Merged(PathBuf),
    /// A graph for the first step and one for the following.
    Split { first: PathBuf, next: PathBuf },
}

impl Folder {
    /// The set of files to load for `precision`.
    ///
    /// # Errors
    /// [`LoadError::Folder`] with the name of the first file that is missing.
    pub fn files(&self, precision: Precision, cuda: bool) -> Result<Files, LoadError> {
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

    /// Name what is missing: of the set that was begun, or of the one that was asked for.
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
                 `decoder_with_past_model{suffix}.onnx` beside it",
                encoder.display()
            )
        } else if asked == Precision::Auto {
            "has no `encoder_model.onnx` or quantised form of it, neither itself nor in `onnx/`"
                .into()
        } else {
            format!("has no `encoder_model{suffix}.onnx`, neither itself nor in `onnx/`")
        };
        LoadError::Folder {
            folder: self.path.clone(),
            what: format!(
                "{missing}; add the files of one precision, or choose a precision that is complete"
            ),
        }
    }
}

fn complete(place: &Path, precision: Precision, suffix: &str) -> Option<Files> {
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
    Some(Files {
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
    fn on_the_cpu_a_complete_int8_set_goes_before_fp32() {
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
    fn an_incomplete_set_is_passed_over() {
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
    fn the_missing_decoder_is_named() {
        let (_dir, folder) = folder(&["encoder_model_fp16.onnx"]);
        let text = folder
            .files(Precision::Auto, false)
            .unwrap_err()
            .to_string();
        assert!(text.contains("encoder_model_fp16.onnx"), "{text}");
        assert!(text.contains("decoder_model_merged_fp16.onnx"), "{text}");
    }
}
