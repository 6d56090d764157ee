//! transformers' `model.safetensors`, in one file or in shards with an index.

use std::collections::{BTreeSet, HashMap};
use std::path::{Path, PathBuf};

use safetensors::{Dtype, SafeTensors};

use super::view::{Element, Tensors, View, map};
use crate::LoadError;

/// Reads the locations of the tensors in `files`, which all belong to one model.
///
/// # Errors
/// [`LoadError`] with the name of the missing or truncated file.
pub(super) fn open(files: &[PathBuf]) -> Result<Tensors, LoadError> {
    let mut named = HashMap::new();
    for path in files {
        let file = map(path)?;
        let tensors = SafeTensors::deserialize(&file).map_err(|error| LoadError::Field {
            file: path.clone(),
            field: "the file".into(),
            problem: format!("is truncated or not a safetensors file ({error}); download it again"),
        })?;
        for (name, tensor) in tensors.iter() {
            let element = match tensor.dtype() {
                Dtype::F32 => Element::F32,
                Dtype::F16 => Element::F16,
                Dtype::BF16 => Element::Bf16,
                Dtype::I8 => Element::I8,
                Dtype::U8 => Element::U8,
                other => {
                    tracing::debug!(
                        name,
                        ?other,
                        "skipping a tensor of a type that no Whisper model has"
                    );
                    continue;
                }
            };
            let view = View::of_part(&file, tensor.data(), element, tensor.shape().to_vec());
            named.extend(view.map(|view| (name.to_owned(), view)));
        }
    }
    Ok(Tensors {
        path: files[0].clone(),
        named,
    })
}

/// Returns the shards listed in an index, sorted by name.
///
/// # Errors
/// [`LoadError::Field`] if the index is invalid.
pub(crate) fn shards(index: &Path) -> Result<Vec<PathBuf>, LoadError> {
    let error = |problem: String| LoadError::Field {
        file: index.to_owned(),
        field: "field `weight_map`".into(),
        problem,
    };
    let text = std::fs::read(index).map_err(|failed| error(format!("cannot be read: {failed}")))?;
    let json: serde_json::Value =
        serde_json::from_slice(&text).map_err(|failed| error(format!("is not JSON: {failed}")))?;
    let map = json.get("weight_map").and_then(|map| map.as_object());
    let names: Option<BTreeSet<&str>> =
        map.and_then(|map| map.values().map(|name| name.as_str()).collect());
    match names {
        Some(names) if !names.is_empty() => {
            let folder = index.parent().unwrap_or(Path::new(""));
            // Only the file name is used, so that an index cannot refer to files outside its folder.
            Ok(names
                .into_iter()
                .filter_map(|name| Path::new(name).file_name())
                .map(|name| folder.join(name))
                .collect())
        }
        _ => Err(error(
            "is missing, expected an object from tensors to files".into(),
        )),
    }
}
