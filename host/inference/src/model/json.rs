//! A JSON file of the model, read field by field so that errors name the file and the field.

use std::path::{Path, PathBuf};

use serde_json::{Map, Value};

use crate::LoadError;

/// A JSON file that contains an object.
pub(crate) struct JsonFile {
    path: PathBuf,
    fields: Map<String, Value>,
}

impl JsonFile {
    /// Reads `name` in `folder`, or treats it as empty if it does not exist.
    pub fn optional(folder: &Path, name: &str) -> Result<Self, LoadError> {
        let path = folder.join(name);
        if path.is_file() {
            return Self::open(folder, name);
        }
        Ok(Self {
            path,
            fields: Map::new(),
        })
    }

    /// Returns whether the field is present.
    pub fn has(&self, field: &str) -> bool {
        self.get(field).is_some()
    }

    /// Checks that this `config.json` is of a Whisper model.
    pub fn check_type(&self) -> Result<(), LoadError> {
        match self.get("model_type").and_then(Value::as_str) {
            Some("whisper") | None => Ok(()),
            Some(other) => Err(self.error(
                "model_type",
                format!("is `{other}`, expected `whisper`: this is another kind of model"),
            )),
        }
    }

    /// Reads `name` in `folder`.
    pub fn open(folder: &Path, name: &str) -> Result<Self, LoadError> {
        let path = folder.join(name);
        let text = std::fs::read_to_string(&path).map_err(|error| LoadError::Folder {
            folder: folder.to_owned(),
            what: format!("`{name}` cannot be read ({error}); every Whisper model has it: copy it there from the model's source"),
        })?;
        let fields = serde_json::from_str(&text).map_err(|error| LoadError::Field {
            file: path.clone(),
            field: "the file".into(),
            problem: format!("is not a JSON object: {error}"),
        })?;
        Ok(Self { path, fields })
    }

    /// Returns an error about `field` of this file.
    pub fn error(&self, field: &str, problem: impl Into<String>) -> LoadError {
        LoadError::Field {
            file: self.path.clone(),
            field: format!("field `{field}`"),
            problem: problem.into(),
        }
    }

    /// Returns a field that is present and not null.
    fn get(&self, field: &str) -> Option<&Value> {
        self.fields.get(field).filter(|value| !value.is_null())
    }

    /// Returns a required positive integer.
    pub fn positive(&self, field: &str) -> Result<usize, LoadError> {
        match self.integer(field)? {
            Some(0) => Err(self.error(field, "is 0, expected a number above 0")),
            Some(number) => Ok(number),
            None => Err(self.error(field, "is missing, expected a number above 0")),
        }
    }

    /// Returns a non-negative integer, if present.
    pub fn integer(&self, field: &str) -> Result<Option<usize>, LoadError> {
        self.get(field)
            .map(|value| {
                value
                    .as_u64()
                    .and_then(|number| usize::try_from(number).ok())
                    .ok_or_else(|| {
                        self.error(field, format!("is {value}, expected a whole number"))
                    })
            })
            .transpose()
    }

    /// Returns a boolean, if present.
    pub fn flag(&self, field: &str) -> Result<Option<bool>, LoadError> {
        self.get(field)
            .map(|value| {
                value
                    .as_bool()
                    .ok_or_else(|| self.error(field, format!("is {value}, expected true or false")))
            })
            .transpose()
    }

    /// Returns a token id, if present.
    pub fn token(&self, field: &str) -> Result<Option<u32>, LoadError> {
        self.get(field)
            .map(|value| {
                token_id(value)
                    .ok_or_else(|| self.error(field, format!("is {value}, expected a token id")))
            })
            .transpose()
    }

    /// Returns a list of token ids; empty if absent.
    pub fn tokens(&self, field: &str) -> Result<Vec<u32>, LoadError> {
        let Some(value) = self.get(field) else {
            return Ok(Vec::new());
        };
        value
            .as_array()
            .and_then(|items| items.iter().map(token_id).collect())
            .ok_or_else(|| self.error(field, "expected a list of token ids"))
    }

    /// Returns a map from names to token ids; empty if absent.
    pub fn token_map(&self, field: &str) -> Result<Vec<(String, u32)>, LoadError> {
        let Some(value) = self.get(field) else {
            return Ok(Vec::new());
        };
        value
            .as_object()
            .and_then(|entries| {
                entries
                    .iter()
                    .map(|(name, id)| Some((name.clone(), token_id(id)?)))
                    .collect()
            })
            .ok_or_else(|| self.error(field, "expected an object from names to token ids"))
    }
}

fn token_id(value: &Value) -> Option<u32> {
    value.as_u64().and_then(|id| u32::try_from(id).ok())
}
