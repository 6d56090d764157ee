//! Parameters of `POST` to a path of jobs.

use form_urlencoded::Serializer;

use crate::error::{Code, Failure};

/// The query of `POST` to a path of jobs.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Parameters {
    /// `callback_url`: whom to tell that the job has ended.
    pub(super) callback_url: Option<String>,
    /// `deduplicate=true`: an earlier job with the same content stands for this one.
    pub(super) deduplicate: bool,
    /// The other parameters, which are the component's.
    pub(super) rest: Option<String>,
}

impl Parameters {
    pub(super) fn parse(query: Option<&str>) -> Result<Self, Failure> {
        let Some(query) = query else {
            return Ok(Self::default());
        };
        let mut parameters = Self::default();
        let mut rest = Serializer::new(String::new());
        let (mut is_changed, mut has_rest) = (false, false);
        for (name, value) in form_urlencoded::parse(query.as_bytes()) {
            match &*name {
                "callback_url" if parameters.callback_url.is_none() => {
                    parameters.callback_url = Some(value.into_owned());
                    is_changed = true;
                }
                "deduplicate" => {
                    parameters.deduplicate = match &*value {
                        "true" => true,
                        "false" => false,
                        _ => return Err(invalid("deduplicate must be true or false")),
                    };
                    is_changed = true;
                }
                "callback_url" => return Err(invalid("there is more than one callback_url")),
                _ => {
                    rest.append_pair(&name, &value);
                    has_rest = true;
                }
            }
        }
        parameters.rest = match (is_changed, has_rest) {
            // As the client wrote them.
            (false, _) => Some(query.to_owned()),
            (true, true) => Some(rest.finish()),
            (true, false) => None,
        };
        Ok(parameters)
    }
}

fn invalid(message: &str) -> Failure {
    Failure::new(Code::BadRequest, message.into())
}

#[cfg(test)]
mod tests {
    use super::Parameters;

    #[test]
    fn the_parameters_of_jobs_are_not_passed_on() {
        let parse = |query| Parameters::parse(Some(query)).unwrap();
        let parameters = parse(
            "language=en&callback_url=https%3A%2F%2Fa.example%2Fx%3Fy&deduplicate=true&prompt=a%20b",
        );
        assert_eq!(
            parameters.callback_url.as_deref(),
            Some("https://a.example/x?y")
        );
        assert!(parameters.deduplicate);
        assert_eq!(parameters.rest.as_deref(), Some("language=en&prompt=a+b"));
        assert_eq!(parse("deduplicate=false").rest, None);
        assert_eq!(parse("a=%ff&b").rest.as_deref(), Some("a=%ff&b"));
        assert_eq!(Parameters::parse(None).unwrap(), Parameters::default());
        for query in ["deduplicate=1", "callback_url=a&callback_url=b"] {
            assert!(Parameters::parse(Some(query)).is_err(), "{query}");
        }
    }
}
