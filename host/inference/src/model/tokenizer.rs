//! The tokenizer of a model: `tokenizer.json`, or one built from the vocabulary.

use std::collections::HashMap;
use std::path::Path;

use serde_json::Value;
use tokenizers::models::bpe::BPE;
use tokenizers::pre_tokenizers::byte_level::ByteLevel;
use tokenizers::{AddedToken, Tokenizer};

use crate::LoadError;

/// The last token of the text vocabulary; special tokens follow it.
const END_OF_TEXT: &str = "<|endoftext|>";

/// Reads the tokenizer of the model in `folder`.
///
/// # Errors
/// [`LoadError`] with the file and what to do.
pub(super) fn open(folder: &Path) -> Result<Tokenizer, LoadError> {
    let failed = |name: &str, problem: String| LoadError::Folder {
        folder: folder.to_owned(),
        what: format!(
            "`{name}` cannot be loaded ({problem}); copy it there from the model's source"
        ),
    };
    let path = folder.join("tokenizer.json");
    if path.is_file() {
        return Tokenizer::from_file(&path)
            .map_err(|error| failed("tokenizer.json", error.to_string()));
    }
    for name in ["vocabulary.json", "vocabulary.txt", "vocab.json"] {
        let path = folder.join(name);
        if !path.is_file() {
            continue;
        }
        let text =
            std::fs::read_to_string(&path).map_err(|error| failed(name, error.to_string()))?;
        let mut tokens = match name {
            "vocabulary.txt" => text
                .lines()
                .zip(0..)
                .map(|(token, id)| (token.to_owned(), id))
                .collect(),
            _ => parse(&text).map_err(|problem| failed(name, problem))?,
        };
        // transformers keeps the special tokens in a separate file.
        let added = folder.join("added_tokens.json");
        if name == "vocab.json" && added.is_file() {
            let name = "added_tokens.json";
            let text =
                std::fs::read_to_string(&added).map_err(|error| failed(name, error.to_string()))?;
            tokens.extend(parse(&text).map_err(|problem| failed(name, problem))?);
        }
        return from_vocabulary(tokens).map_err(|problem| failed(name, problem));
    }
    Err(LoadError::Folder {
        folder: folder.to_owned(),
        what: "has neither `tokenizer.json` nor `vocabulary.json`, `vocabulary.txt` or `vocab.json`; copy one there from the \
               model's source"
            .into(),
    })
}

/// Parses a list of tokens, or an object from tokens to ids.
fn parse(text: &str) -> Result<Vec<(String, u32)>, String> {
    let tokens = match serde_json::from_str(text) {
        Ok(Value::Array(tokens)) => tokens
            .iter()
            .zip(0..)
            .map(|(token, id)| Some((token.as_str()?.to_owned(), id)))
            .collect(),
        Ok(Value::Object(tokens)) => tokens
            .iter()
            .map(|(token, id)| Some((token.clone(), u32::try_from(id.as_u64()?).ok()?)))
            .collect(),
        Ok(_) => None,
        Err(error) => return Err(error.to_string()),
    };
    tokens.ok_or_else(|| "expected a list of tokens, or an object from tokens to ids".into())
}

/// Builds a byte-level BPE tokenizer. The merges follow from the vocabulary, which is in the order of the merges.
fn from_vocabulary(tokens: Vec<(String, u32)>) -> Result<Tokenizer, String> {
    let ids: HashMap<String, u32> = tokens.iter().cloned().collect();
    let Some(&end) = ids.get(END_OF_TEXT) else {
        return Err(format!(
            "it has no `{END_OF_TEXT}`: it is not of a Whisper model"
        ));
    };
    let mut merges: Vec<(u32, (String, String))> = tokens
        .iter()
        .filter(|(_, id)| *id < end)
        .filter_map(|(token, id)| Some((*id, merge(token, *id, &ids)?)))
        .collect();
    merges.sort_by_key(|(id, _)| *id);
    let mut special: Vec<(u32, AddedToken)> = tokens
        .iter()
        .filter(|(_, id)| *id >= end)
        .map(|(token, id)| (*id, AddedToken::from(token.clone(), true)))
        .collect();
    special.sort_by_key(|(id, _)| *id);
    let special: Vec<AddedToken> = special.into_iter().map(|(_, token)| token).collect();
    let bpe = BPE::builder()
        .vocab_and_merges(
            ids.into_iter().collect::<tokenizers::models::bpe::Vocab>(),
            merges.into_iter().map(|(_, pair)| pair).collect::<Vec<_>>(),
        )
        .build()
        .map_err(|error| error.to_string())?;
    let mut tokenizer = Tokenizer::new(bpe);
    tokenizer
        .with_pre_tokenizer(Some(ByteLevel::new(false, true, true)))
        .with_decoder(Some(ByteLevel::default()))
        .add_special_tokens(special)
        .map_err(|error| error.to_string())?;
    Ok(tokenizer)
}

/// Returns the two tokens that are merged into `token`: what is left of it after all merges of lower rank. None for a single
/// character.
fn merge(token: &str, rank: u32, ids: &HashMap<String, u32>) -> Option<(String, String)> {
    let mut parts: Vec<String> = token.chars().map(String::from).collect();
    while parts.len() > 2 {
        let best = (0..parts.len() - 1)
            .filter_map(|index| {
                let id = *ids.get(&format!("{}{}", parts[index], parts[index + 1]))?;
                (id < rank).then_some((id, index))
            })
            .min()?;
        let right = parts.remove(best.1 + 1);
        parts[best.1].push_str(&right);
    }
    match parts.as_slice() {
        [left, right] => Some((left.clone(), right.clone())),
        _ => None,
    }
}
