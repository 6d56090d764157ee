//! `[variables]` of the application, and the templates that give a component access to their values.
//!
//! The values come from elsewhere: this module only declares the variables.

use std::fmt;

use schemars::JsonSchema;
use serde::Deserialize;

/// `[variables]`: a value that the operator may set.
#[derive(Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, expecting = "a table like `{ default = \"…\" }`")]
pub struct Variable {
    /// What it is for.
    pub description: Option<String>,
    /// The value if none is set.
    pub default: Option<String>,
    /// Whether a value must be set. A required variable has no default.
    #[serde(default)]
    pub required: bool,
    /// Whether to hide the value in all output.
    #[serde(default)]
    pub secret: bool,
}

impl fmt::Debug for Variable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let default = match (&self.default, self.secret) {
            (Some(_), true) => Some("…"),
            (default, _) => default.as_deref(),
        };
        f.debug_struct("Variable")
            .field("default", &default)
            .field("required", &self.required)
            .field("secret", &self.secret)
            .finish()
    }
}

/// Returns why `name` is not a valid variable name, or `None` if it is valid. The rules are Spin's.
pub fn invalid_name(name: &str) -> Option<&'static str> {
    let allowed = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
    if !name.starts_with(|c: char| c.is_ascii_lowercase()) {
        Some("it must start with a letter from a to z")
    } else if !name.chars().all(allowed) {
        Some("it may contain only letters from a to z, digits and `_`")
    } else if name.ends_with('_') || name.contains("__") {
        Some("each `_` must be between two letters or digits")
    } else {
        None
    }
}

/// A component variable's value: text in which `{{ name }}` is replaced by the value of an application variable.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct Template(Vec<Piece>);

#[derive(Debug, Clone, PartialEq, Eq)]
enum Piece {
    Text(String),
    Variable(String),
}

/// Why a text is not a valid template.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum TemplateError {
    /// A `{{` without its `}}`.
    #[error("`{{{{` without a closing `}}}}`; write `{{{{ name }}}}`")]
    Open,
    /// The text between the braces is not a valid name.
    #[error("`{{{{ {name} }}}}` is not a valid variable name: {reason}")]
    Name {
        /// The text between the braces.
        name: String,
        /// Which rule it breaks.
        reason: &'static str,
    },
}

impl fmt::Display for Template {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|piece| match piece {
            Piece::Text(text) => f.write_str(text),
            Piece::Variable(name) => write!(f, "{{{{ {name} }}}}"),
        })
    }
}

impl TryFrom<String> for Template {
    type Error = TemplateError;

    fn try_from(text: String) -> Result<Self, TemplateError> {
        let mut pieces = Vec::new();
        let mut rest = text.as_str();
        while let Some((before, opened)) = rest.split_once("{{") {
            let (name, behind) = opened.split_once("}}").ok_or(TemplateError::Open)?;
            let name = name.trim();
            if let Some(reason) = invalid_name(name) {
                return Err(TemplateError::Name {
                    name: name.to_owned(),
                    reason,
                });
            }
            if !before.is_empty() {
                pieces.push(Piece::Text(before.to_owned()));
            }
            pieces.push(Piece::Variable(name.to_owned()));
            rest = behind;
        }
        if !rest.is_empty() {
            pieces.push(Piece::Text(rest.to_owned()));
        }
        Ok(Self(pieces))
    }
}

impl Template {
    /// Returns the application variables it refers to.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.0.iter().filter_map(|piece| match piece {
            Piece::Variable(name) => Some(name.as_str()),
            Piece::Text(_) => None,
        })
    }

    /// Returns the text with each variable replaced by the result of `value_of`.
    ///
    /// # Errors
    /// The first error of `value_of`.
    pub fn resolve<E>(&self, value_of: impl Fn(&str) -> Result<String, E>) -> Result<String, E> {
        self.0
            .iter()
            .map(|piece| match piece {
                Piece::Text(text) => Ok(text.clone()),
                Piece::Variable(name) => value_of(name),
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::{Template, TemplateError, Variable, invalid_name};

    fn resolve(text: &str) -> String {
        Template::try_from(text.to_owned())
            .unwrap()
            .resolve(|name| Ok::<_, ()>(format!("<{name}>")))
            .unwrap()
    }

    #[test]
    fn names_in_double_braces_are_replaced_and_other_text_is_kept() {
        assert_eq!(resolve("plain"), "plain");
        assert_eq!(resolve(""), "");
        assert_eq!(resolve("{{a}}"), "<a>");
        assert_eq!(
            resolve("https://{{ host }}:{{port}}/{x}"),
            "https://<host>:<port>/{x}"
        );
    }

    #[test]
    fn a_template_is_displayed_without_values() {
        for text in ["plain", "https://{{ host }}:{{ port }}/"] {
            let template = Template::try_from(text.to_owned()).unwrap();
            assert_eq!(template.to_string(), text);
        }
    }

    #[test]
    fn malformed_templates_are_refused() {
        let parse = |text: &str| Template::try_from(text.to_owned());
        assert_eq!(parse("a {{ b").unwrap_err(), TemplateError::Open);
        assert!(matches!(parse("{{ }}"), Err(TemplateError::Name { .. })));
        assert!(matches!(
            parse("{{ a b }}"),
            Err(TemplateError::Name { .. })
        ));
    }

    #[test]
    fn names_follow_the_rules_of_spin() {
        for name in ["a", "api_token", "v2"] {
            assert_eq!(invalid_name(name), None, "{name}");
        }
        for name in ["", "A", "api-token", "2a", "_a", "a_", "a__b", "ä"] {
            assert!(invalid_name(name).is_some(), "{name}");
        }
    }

    #[test]
    fn a_secret_default_is_not_in_the_debug_output() {
        let variable = Variable {
            description: None,
            default: Some("hunter2".into()),
            required: false,
            secret: true,
        };
        assert!(!format!("{variable:?}").contains("hunter2"));
    }
}
