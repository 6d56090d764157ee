//! The options of a request, as form fields, query parameters, or headers of a message.

use shared::bindings::speech::pipeline::inference::{self, Task, Timestamps};
use shared::failure::Failure;
use shared::form::{self, once};

/// The option names, as listed in errors.
const NAMES: &str =
    "language, task, temperature, beam_size, prompt, condition_on_previous_text, timestamps";

/// The options given in a request; the host's defaults apply to the others.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Options {
    /// Language of the speech, e.g. `en`. Validated by the host.
    pub language: Option<String>,
    /// `transcribe` or `translate`.
    pub task: Option<Task>,
    /// Sampling temperature, 0.0 to 1.0; no other is tried.
    pub temperature: Option<f32>,
    /// Hypotheses of the beam search, at least 1.
    pub beam_size: Option<u32>,
    /// Text that precedes the recording.
    pub prompt: Option<String>,
    /// Whether each window is conditioned on the text of the previous ones.
    pub condition_on_previous_text: Option<bool>,
    /// `none`, `segment` or `word`.
    pub timestamps: Option<Timestamps>,
}

impl Options {
    /// Parses the query of a path.
    pub fn from_query(path_with_query: &str) -> Result<Self, Failure> {
        let mut options = Self::default();
        let query = path_with_query
            .split_once('?')
            .map_or("", |(_, query)| query);
        for (name, value) in form_urlencoded::parse(query.as_bytes()) {
            form::Options::set(&mut options, &name, &value)?;
        }
        Ok(options)
    }

    /// Parses the headers of a message. Headers that are not options are for others.
    pub fn from_headers(headers: &[(String, String)]) -> Result<Self, Failure> {
        let mut options = Self::default();
        for (name, value) in headers {
            let name = name.to_ascii_lowercase();
            if NAMES.split(", ").any(|known| known == name) {
                form::Options::set(&mut options, &name, value.trim())?;
            }
        }
        Ok(options)
    }

    /// These options, with those of `other` where one is not given.
    pub fn or(self, other: Self) -> Self {
        Self {
            language: self.language.or(other.language),
            task: self.task.or(other.task),
            temperature: self.temperature.or(other.temperature),
            beam_size: self.beam_size.or(other.beam_size),
            prompt: self.prompt.or(other.prompt),
            condition_on_previous_text: self
                .condition_on_previous_text
                .or(other.condition_on_previous_text),
            timestamps: self.timestamps.or(other.timestamps),
        }
    }

    /// Overrides the host's default options with these.
    pub fn apply_to(self, defaults: inference::Options) -> inference::Options {
        inference::Options {
            language: self.language.or(defaults.language),
            task: self.task.unwrap_or(defaults.task),
            temperatures: self
                .temperature
                .map_or(defaults.temperatures, |temperature| vec![temperature]),
            beam_size: self.beam_size.unwrap_or(defaults.beam_size),
            prompt: self.prompt.or(defaults.prompt),
            condition_on_previous_text: self
                .condition_on_previous_text
                .unwrap_or(defaults.condition_on_previous_text),
            timestamps: self.timestamps.unwrap_or(defaults.timestamps),
            ..defaults
        }
    }
}

impl form::Options for Options {
    /// Sets one option; an empty value counts as not given. Fails if it is unknown, out of range, or a duplicate.
    fn set(&mut self, name: &str, value: &str) -> Result<(), Failure> {
        match name {
            _ if value.is_empty() && NAMES.split(", ").any(|known| known == name) => Ok(()),
            "language" => once("option", &mut self.language, name, value.to_owned()),
            "task" => {
                let task = match value {
                    "transcribe" => Task::Transcribe,
                    "translate" => Task::Translate,
                    _ => return Err(not_one_of(name, value, "transcribe or translate")),
                };
                once("option", &mut self.task, name, task)
            }
            "temperature" => {
                let temperature = value
                    .parse()
                    .ok()
                    .filter(|temperature| (0.0..=1.0).contains(temperature));
                let temperature =
                    temperature.ok_or_else(|| not_one_of(name, value, "a number from 0 to 1"))?;
                once("option", &mut self.temperature, name, temperature)
            }
            "beam_size" => {
                let beam_size = value.parse().ok().filter(|&beam_size| beam_size > 0);
                let beam_size =
                    beam_size.ok_or_else(|| not_one_of(name, value, "a whole number from 1"))?;
                once("option", &mut self.beam_size, name, beam_size)
            }
            "prompt" => once("option", &mut self.prompt, name, value.to_owned()),
            "condition_on_previous_text" => {
                let condition = match value {
                    "true" => true,
                    "false" => false,
                    _ => return Err(not_one_of(name, value, "true or false")),
                };
                once(
                    "option",
                    &mut self.condition_on_previous_text,
                    name,
                    condition,
                )
            }
            "timestamps" => {
                let timestamps = match value {
                    "none" => Timestamps::None,
                    "segment" => Timestamps::Segment,
                    "word" => Timestamps::Word,
                    _ => return Err(not_one_of(name, value, "none, segment or word")),
                };
                once("option", &mut self.timestamps, name, timestamps)
            }
            _ => Err(Failure::bad_request(format!(
                "there is no option {name:?}: use {NAMES}, and `file` for the audio"
            ))),
        }
    }
}

fn not_one_of(name: &str, value: &str, allowed: &str) -> Failure {
    Failure::bad_request(format!("{name} is {value:?}: use {allowed}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_query_sets_the_options() {
        let query = "/analyze?language=de&task=translate&temperature=0.5&beam_size=3&prompt=Guten+Tag%2C&timestamps=segment&condition_on_previous_text=false";
        let expected = Options {
            language: Some("de".to_owned()),
            task: Some(Task::Translate),
            temperature: Some(0.5),
            beam_size: Some(3),
            prompt: Some("Guten Tag,".to_owned()),
            condition_on_previous_text: Some(false),
            timestamps: Some(Timestamps::Segment),
        };
        assert_eq!(Options::from_query(query), Ok(expected));
        assert_eq!(Options::from_query("/analyze"), Ok(Options::default()));
    }

    #[test]
    fn headers_of_a_message_set_the_options() {
        let header = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        let headers = [
            header("Beam_Size", " 3"),
            header("language", "de"),
            header("traceparent", "00-x"),
        ];
        let expected = Options {
            language: Some("de".to_owned()),
            beam_size: Some(3),
            ..Options::default()
        };
        assert_eq!(Options::from_headers(&headers), Ok(expected));
        let twice = [header("language", "de"), header("Language", "en")];
        let message = Options::from_headers(&twice).unwrap_err().message;
        assert!(message.contains("language"), "{message}");
        assert!(Options::from_headers(&[header("task", "sing")]).is_err());
    }

    #[test]
    fn an_unknown_option_is_refused_with_the_known_names() {
        let message = Options::from_query("/analyze?langauge=de")
            .unwrap_err()
            .message;
        assert!(
            message.contains("\"langauge\"") && message.contains(NAMES),
            "{message}"
        );
    }

    #[test]
    fn values_out_of_range_are_refused() {
        for query in [
            "temperature=1.1",
            "temperature=-0.1",
            "temperature=NaN",
            "temperature=warm",
            "beam_size=0",
            "beam_size=wide",
            "task=sing",
            "condition_on_previous_text=1",
            "timestamps=all",
        ] {
            assert!(
                Options::from_query(&format!("/analyze?{query}")).is_err(),
                "{query}"
            );
        }
    }

    #[test]
    fn an_empty_value_counts_as_not_given() {
        let query = "/analyze?language=&task=&temperature=&beam_size=&prompt=&condition_on_previous_text=&timestamps=";
        assert_eq!(Options::from_query(query), Ok(Options::default()));
        let query = Options::from_query("/analyze?language=&language=de").unwrap();
        assert_eq!(query.language.as_deref(), Some("de"));
        assert!(Options::from_query("/analyze?langauge=").is_err());
    }

    #[test]
    fn an_option_given_twice_is_refused() {
        assert!(Options::from_query("/analyze?language=de&language=en").is_err());
    }

    #[test]
    fn the_form_takes_precedence_over_the_query() {
        let form = Options {
            language: Some("en".to_owned()),
            ..Default::default()
        };
        let query = Options::from_query("/analyze?language=de&temperature=0").unwrap();
        let both = form.or(query);
        assert_eq!(
            (both.language.as_deref(), both.temperature),
            (Some("en"), Some(0.0))
        );
    }

    fn defaults() -> inference::Options {
        inference::Options {
            model: None,
            language: None,
            task: Task::Transcribe,
            prompt: None,
            temperatures: vec![0.0, 0.2],
            beam_size: 1,
            timestamps: Timestamps::None,
            condition_on_previous_text: true,
            compression_ratio_threshold: Some(2.4),
            logprob_threshold: Some(-1.0),
            no_speech_threshold: Some(0.6),
        }
    }

    #[test]
    fn options_that_are_not_given_keep_the_host_defaults() {
        let options = Options {
            task: Some(Task::Translate),
            ..Default::default()
        }
        .apply_to(defaults());
        assert_eq!(options.temperatures, [0.0, 0.2]);
        assert_eq!(options.task, Task::Translate);
        assert!(options.condition_on_previous_text);
        let options = Options {
            temperature: Some(0.4),
            ..Default::default()
        }
        .apply_to(defaults());
        assert_eq!(options.temperatures, [0.4]);
    }
}
