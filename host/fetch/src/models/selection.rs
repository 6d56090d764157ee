//! Selects the files of a model, in each of the formats that the host loads. The same rules decide what to pull and whether a
//! folder is complete.

/// Which precision of published ONNX files to take. The other formats have one precision, which the host converts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Precision {
    /// The best for the device: int8 on a CPU, fp16 on a GPU, where they exist.
    Auto {
        /// Whether the model runs on a GPU.
        gpu: bool,
    },
    /// 32-bit floats.
    Fp32,
    /// 16-bit floats.
    Fp16,
    /// 8-bit integers.
    Int8,
}

impl Precision {
    /// Suffixes of file names, in order of preference.
    fn suffixes(self) -> &'static [&'static str] {
        match self {
            Self::Auto { gpu: false } => &["_quantized", "_int8", "", "_fp16"],
            Self::Auto { gpu: true } => &["_fp16", "", "_quantized", "_int8"],
            Self::Fp32 => &[""],
            Self::Fp16 => &["_fp16"],
            Self::Int8 => &["_quantized", "_int8"],
        }
    }
}

/// The files of a model among `names`, paths in a repository or folder. None if no format is complete.
///
/// The weights come last, and are pulled last: where they are, the rest is.
pub(crate) fn select<'a>(names: &[&'a str], precision: Precision) -> Option<Vec<&'a str>> {
    let names = Names(names);
    let config = names.get("config.json")?;
    let preprocessor = names.get("preprocessor_config.json");
    let tokenizer = names.get("tokenizer.json");

    // CTranslate2's format, which faster-whisper uses.
    if let Some(weights) = names.get("model.bin") {
        let vocabulary = names.all(|name| {
            name.strip_prefix("vocabulary.")
                .is_some_and(|end| matches!(end, "json" | "txt"))
        });
        if tokenizer.is_some() || !vocabulary.is_empty() {
            return Some(
                [config]
                    .into_iter()
                    .chain(preprocessor)
                    .chain(tokenizer)
                    .chain(vocabulary)
                    .chain([weights])
                    .collect(),
            );
        }
    }

    // The formats of transformers and optimum.
    let weights = safetensors(&names).or_else(|| {
        precision
            .suffixes()
            .iter()
            .find_map(|suffix| onnx(&names, suffix))
    })?;
    Some(
        [config]
            .into_iter()
            .chain(names.get("generation_config.json"))
            .chain(preprocessor)
            .chain([tokenizer?])
            .chain(weights)
            .collect(),
    )
}

struct Names<'a, 'b>(&'b [&'a str]);

impl<'a> Names<'a, '_> {
    fn get(&self, name: &str) -> Option<&'a str> {
        self.0.iter().copied().find(|found| *found == name)
    }

    fn all(&self, fits: impl Fn(&str) -> bool) -> Vec<&'a str> {
        let mut all: Vec<&str> = self.0.iter().copied().filter(|name| fits(name)).collect();
        all.sort_unstable();
        all
    }
}

/// One file, or all of its parts after their index.
fn safetensors<'a>(names: &Names<'a, '_>) -> Option<Vec<&'a str>> {
    if let Some(whole) = names.get("model.safetensors") {
        return Some(vec![whole]);
    }
    let index = names.get("model.safetensors.index.json")?;
    let parts = names.all(|name| part(name).is_some());
    // The name of each part says how many there are.
    let (_, count) = part(parts.first()?)?;
    let complete =
        (1..=count).all(|number| parts.iter().any(|name| part(name) == Some((number, count))));
    complete.then(|| [index].into_iter().chain(parts).collect())
}

/// The number and the count of `model-00001-of-00002.safetensors`.
fn part(name: &str) -> Option<(u32, u32)> {
    let (number, count) = name
        .strip_prefix("model-")?
        .strip_suffix(".safetensors")?
        .split_once("-of-")?;
    Some((number.parse().ok()?, count.parse().ok()?))
}

/// The encoder, and the decoder as one file or as two, with the external data of large ones.
fn onnx<'a>(names: &Names<'a, '_>, suffix: &str) -> Option<Vec<&'a str>> {
    ["onnx/", ""].into_iter().find_map(|folder| {
        let graph = |name: &str| names.get(&format!("{folder}{name}{suffix}.onnx"));
        let encoder = graph("encoder_model")?;
        let graphs = match graph("decoder_model_merged") {
            Some(merged) => vec![encoder, merged],
            None => vec![
                encoder,
                graph("decoder_model")?,
                graph("decoder_with_past_model")?,
            ],
        };
        let data = names.all(|name| {
            graphs.iter().any(|graph| {
                name.strip_prefix(graph)
                    .is_some_and(|end| end.starts_with("_data"))
            })
        });
        Some(data.into_iter().chain(graphs).collect())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const CPU: Precision = Precision::Auto { gpu: false };

    #[test]
    fn of_a_faster_whisper_repository_what_faster_whisper_takes() {
        let names = [
            ".gitattributes",
            "README.md",
            "config.json",
            "model.bin",
            "preprocessor_config.json",
            "tokenizer.json",
            "vocabulary.json",
        ];
        assert_eq!(
            select(&names, CPU).unwrap(),
            [
                "config.json",
                "preprocessor_config.json",
                "tokenizer.json",
                "vocabulary.json",
                "model.bin"
            ]
        );
        assert_eq!(
            select(&["config.json", "model.bin", "vocabulary.txt"], CPU).unwrap(),
            ["config.json", "vocabulary.txt", "model.bin"]
        );
    }

    #[test]
    fn of_openais_repository_the_safetensors_and_no_other_weights() {
        let names = [
            "added_tokens.json",
            "config.json",
            "flax_model.msgpack",
            "generation_config.json",
            "model.safetensors",
            "preprocessor_config.json",
            "pytorch_model.bin",
            "tf_model.h5",
            "tokenizer.json",
        ];
        assert_eq!(
            select(&names, CPU).unwrap(),
            [
                "config.json",
                "generation_config.json",
                "preprocessor_config.json",
                "tokenizer.json",
                "model.safetensors"
            ]
        );
    }

    #[test]
    fn all_parts_of_the_safetensors_or_none() {
        let mut names = vec![
            "config.json",
            "tokenizer.json",
            "model.safetensors.index.json",
            "model-00001-of-00002.safetensors",
            "model-00002-of-00002.safetensors",
        ];
        assert_eq!(select(&names, CPU).unwrap(), names);
        names.pop();
        assert_eq!(select(&names, CPU), None);
    }

    #[test]
    fn of_onnx_files_one_precision() {
        let names = [
            "config.json",
            "tokenizer.json",
            "onnx/decoder_model.onnx",
            "onnx/decoder_with_past_model.onnx",
            "onnx/encoder_model.onnx",
            "onnx/encoder_model.onnx_data",
            "onnx/decoder_model_merged_fp16.onnx",
            "onnx/encoder_model_fp16.onnx",
            "onnx/decoder_model_merged_quantized.onnx",
            "onnx/encoder_model_quantized.onnx",
            "onnx/encoder_model_int8.onnx",
        ];
        let weights = |precision| select(&names, precision).unwrap()[2..].to_vec();
        assert_eq!(
            weights(CPU),
            [
                "onnx/encoder_model_quantized.onnx",
                "onnx/decoder_model_merged_quantized.onnx"
            ]
        );
        assert_eq!(weights(Precision::Int8), weights(CPU));
        assert_eq!(
            weights(Precision::Auto { gpu: true }),
            [
                "onnx/encoder_model_fp16.onnx",
                "onnx/decoder_model_merged_fp16.onnx"
            ]
        );
        assert_eq!(
            weights(Precision::Fp32),
            [
                "onnx/encoder_model.onnx_data",
                "onnx/encoder_model.onnx",
                "onnx/decoder_model.onnx",
                "onnx/decoder_with_past_model.onnx"
            ]
        );
    }

    #[test]
    fn what_lacks_a_file_is_no_model() {
        for names in [
            &["config.json", "model.bin"][..],
            &["model.bin", "tokenizer.json"],
            &["config.json", "tokenizer.json", "pytorch_model.bin"],
            &["config.json", "model.safetensors"],
            &["config.json", "tokenizer.json", "onnx/encoder_model.onnx"],
        ] {
            assert_eq!(select(names, CPU), None, "{names:?}");
        }
    }
}
