//! Reads settings from flags, then the environment, then `runtime-config.toml`, then the defaults.
//!
//! The file's values replace clap's defaults, so that clap implements the precedence and `--help` shows the values in effect. Its
//! keys are the names of the flags.

use std::path::Path;

use anyhow::Context as _;
use clap::{ArgAction, CommandFactory as _, FromArgMatches as _};

use crate::commands::Cli;

/// The file in the working folder, unless the environment variable names another.
const FILE: &str = "runtime-config.toml";
const FILE_VARIABLE: &str = "WHISPER_HOST_CONFIG";

/// Reads all settings. Exits on `--help`, `--version` and invalid flags, as clap does.
///
/// # Errors
/// When the file cannot be read, is not TOML, or has a key that is not a flag.
pub fn parse() -> anyhow::Result<Cli> {
    let named = std::env::var_os(FILE_VARIABLE);
    let path = Path::new(named.as_deref().unwrap_or(FILE.as_ref()));
    let command = match std::fs::read_to_string(path) {
        Ok(text) => with_file(Cli::command(), &text).with_context(|| path.display().to_string())?,
        Err(error) if named.is_none() && error.kind() == std::io::ErrorKind::NotFound => {
            Cli::command()
        }
        Err(error) => return Err(error).with_context(|| format!("cannot read {}", path.display())),
    };
    let matches = command.get_matches();
    Cli::from_arg_matches(&matches).map_err(|error| error.exit())
}

/// Sets the file's values as defaults of the command.
fn with_file(mut command: clap::Command, text: &str) -> anyhow::Result<clap::Command> {
    let table: toml::Table = toml::from_str(text)
        .map_err(|error| anyhow::anyhow!("{}", error.to_string().trim_end()))?;
    for (key, value) in table {
        let many = value.is_array();
        let values = match value {
            toml::Value::Array(values) => values,
            value => vec![value],
        };
        let values = values
            .into_iter()
            .map(|value| match value {
                toml::Value::String(text) => Ok(text),
                toml::Value::Integer(_) | toml::Value::Float(_) | toml::Value::Boolean(_) => {
                    Ok(value.to_string())
                }
                _ => anyhow::bail!("`{key}` must be a string, a number or a boolean"),
            })
            .collect::<anyhow::Result<Vec<String>>>()?;
        let (mut known, mut takes_one) = (false, false);
        let names: Vec<String> = command
            .get_subcommands()
            .map(|sub| sub.get_name().to_owned())
            .collect();
        for name in names {
            command = command.mut_subcommand(name, |sub| {
                // Only flags with an environment variable are settings of the host; the others belong to one call.
                let id = sub
                    .get_arguments()
                    .find(|arg| arg.get_long() == Some(key.as_str()) && arg.get_env().is_some())
                    .map(|arg| {
                        takes_one = !matches!(arg.get_action(), ArgAction::Append);
                        arg.get_id().clone()
                    });
                match id {
                    Some(id) => {
                        known = true;
                        sub.mut_arg(id, |arg| arg.default_values(values.clone()))
                    }
                    None => sub,
                }
            });
        }
        anyhow::ensure!(
            known,
            "unknown setting `{key}`; the settings are the flags of `whisper-host up --help`"
        );
        anyhow::ensure!(
            !(many && takes_one),
            "`{key}` must be a string, a number or a boolean: it takes one value"
        );
    }
    Ok(command)
}

#[cfg(test)]
mod tests {
    use clap::{CommandFactory as _, FromArgMatches as _};

    use super::with_file;
    use crate::commands::{Cli, Command, Up};

    fn up(file: &str, args: &[&str]) -> anyhow::Result<Up> {
        let command = with_file(Cli::command(), file)?;
        let matches = command.try_get_matches_from([&["whisper-host", "up"], args].concat())?;
        match Cli::from_arg_matches(&matches)?.command {
            Command::Up(up) => Ok(*up),
            _ => anyhow::bail!("not up"),
        }
    }

    #[test]
    fn flags_override_the_file_and_the_file_overrides_defaults() {
        let file = "listen = \"127.0.0.1:9000\"\nmax-batch = 3";
        let from_file = up(file, &[]).unwrap();
        assert_eq!(from_file.listen.port(), 9000);
        assert_eq!(from_file.common.max_batch, 3);
        assert_eq!(
            up(file, &["--listen", "127.0.0.1:9001"])
                .unwrap()
                .listen
                .port(),
            9001
        );
        assert_eq!(up("", &[]).unwrap().listen.port(), 8000);
    }

    #[test]
    fn an_unknown_key_is_an_error() {
        let error = up("lisen = \"x\"", &[]).map(|_| ()).unwrap_err();
        assert!(
            error.to_string().contains("unknown setting `lisen`"),
            "{error}"
        );
        let error = up("files = \"x\"", &[]).map(|_| ()).unwrap_err();
        assert!(
            error.to_string().contains("unknown setting `files`"),
            "{error}"
        );
    }

    #[test]
    fn several_models_can_be_set_by_flag_and_by_file() {
        let models = |file: &str, args: &[&str]| {
            let up = up(file, args)?;
            let models = up.common.model.into_iter();
            anyhow::Ok(
                models
                    .map(|model| (model.id, model.wanted))
                    .collect::<Vec<_>>(),
            )
        };
        let pair = |id: &str, wanted: &str| (id.to_owned(), wanted.to_owned());
        assert_eq!(models("", &[]).unwrap(), [pair("whisper", "base")]);
        let both = [pair("whisper", "base"), pair("fast", "tiny.en")];
        for (file, args) in [
            ("", &["--model", "base", "--model", "fast=tiny.en"][..]),
            ("", &["--model", "whisper=base,fast=tiny.en"]),
            ("model = [\"base\", \"fast=tiny.en\"]", &[]),
            ("model = \"base,fast=tiny.en\"", &[]),
        ] {
            assert_eq!(models(file, args).unwrap(), both, "{file} {args:?}");
        }
        assert_eq!(
            models("", &["--model", "/models/a=b"]).unwrap(),
            [pair("whisper", "/models/a=b")]
        );
        assert!(models("", &["--model", "fast="]).is_err());
        let error = models("listen = [\"127.0.0.1:1\"]", &[]).unwrap_err();
        assert!(error.to_string().contains("`listen`"), "{error}");
    }

    #[test]
    fn boolean_flags_can_be_in_the_file_and_limits_must_not_be_zero() {
        assert!(!up("", &[]).unwrap().watch);
        assert!(up("watch = true", &[]).unwrap().watch);
        for (name, value) in [
            ("max-connections", 0),
            ("max-instances", 0),
            ("max-batch", 0),
        ] {
            let error = up("", &[&format!("--{name}={value}")])
                .map(|_| ())
                .unwrap_err();
            assert!(error.to_string().contains(name), "{error}");
        }
    }

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }
}
