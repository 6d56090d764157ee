//! Streaming reader for the body of a request with a recording: the recording's bytes go to a sink, the other fields to the
//! handler's options.
//!
//! The body is read once, sequentially, and never buffered as a whole.

use std::future::Future;
use std::pin::{Pin, pin};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use futures_core::Stream;

use crate::failure::{Code, Failure};

/// Maximum bytes of a form field other than `file`. A prompt has at most a few hundred tokens.
const MAX_OPTION_BYTES: usize = 16 * 1024;

/// Maximum bytes before a field's content: the preamble before the first boundary, and a field's headers. multer rescans
/// all of them with each chunk.
const MAX_HEAD_BYTES: usize = 16 * 1024;

/// Number of chunks before that limit applies: multer requests some before it looks at its buffer.
const FEW_CHUNKS: usize = 8;

/// How to send a recording; appended to several messages.
const CURL: &str = "send the recording like `curl -X POST URL -F file=@recording.mp3`";

/// The chunks of a body.
pub trait Source {
    /// Waits for the next chunk; `None` at the end.
    fn next(&mut self) -> Result<Option<Bytes>, Broken>;
}

/// Why a body is incomplete.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Broken {
    /// It exceeds the host's limit.
    #[error("the body is too large")]
    TooLarge,
    /// The client disconnected.
    #[error("the body is incomplete")]
    Incomplete,
}

impl From<Broken> for Failure {
    fn from(broken: Broken) -> Self {
        match broken {
            Broken::TooLarge => Self::new(
                Code::BodyTooLarge,
                "the recording is larger than this server accepts: send it compressed, or in parts",
            ),
            Broken::Incomplete => incomplete(),
        }
    }
}

fn incomplete() -> Failure {
    Failure::new(
        Code::IncompleteBody,
        "the body is incomplete: send it again",
    )
}

/// The options of a handler, set from form fields.
pub trait Options: Default {
    /// Sets one option.
    ///
    /// # Errors
    /// [`Failure`] if the option is unknown or the value is invalid.
    fn set(&mut self, name: &str, value: &str) -> Result<(), Failure>;
}

/// Sets an option, or a parameter: its `kind`.
///
/// # Errors
/// When it is set already.
pub fn once<T>(kind: &str, slot: &mut Option<T>, name: &str, value: T) -> Result<(), Failure> {
    match slot.replace(value) {
        None => Ok(()),
        Some(_) => Err(Failure::bad_request(format!(
            "the {kind} {name} is given twice: give it once"
        ))),
    }
}

/// Receives the recording.
pub trait Sink {
    /// A recording starts. Called once, before its bytes.
    fn begin(&mut self, media_type: Option<String>, file_name: Option<String>);
    /// Its next bytes.
    fn append(&mut self, bytes: &[u8]);
}

/// Kind of a body, by the request's content type.
#[derive(Debug, PartialEq, Eq)]
pub enum Kind {
    /// A form with the recording in the field `file`.
    Form {
        /// The delimiter between its fields.
        boundary: String,
    },
    /// The recording itself.
    Raw {
        /// The stated media type, unless it is generic.
        media_type: Option<String>,
    },
}

impl Kind {
    /// The kind for a `content-type` header, if there is one.
    pub fn of(content_type: Option<&str>) -> Result<Self, Failure> {
        let essence = content_type
            .and_then(|text| text.split(';').next())
            .unwrap_or("")
            .trim()
            .to_ascii_lowercase();
        if essence == "multipart/form-data" {
            return match multer::parse_boundary(content_type.unwrap_or("")) {
                Ok(boundary) => Ok(Self::Form { boundary }),
                Err(error) => Err(Failure::bad_request(format!(
                    "the form cannot be read ({error}): {CURL}"
                ))),
            };
        }
        if essence.starts_with("multipart/") {
            return Err(Failure::bad_request(format!(
                "{essence} is not supported: {CURL}"
            )));
        }
        // `curl --data-binary` sends the form type for any file; the others are generic too.
        let generic = [
            "",
            "application/octet-stream",
            "application/x-www-form-urlencoded",
        ];
        let media_type = (!generic.contains(&essence.as_str())).then_some(essence);
        Ok(Self::Raw { media_type })
    }
}

/// Reads a body to its end: the recording into `sink`, and the options of a form.
///
/// # Errors
/// [`Failure`] if the body is truncated, is not the form that its content type states, or has an unknown field.
pub fn read<O: Options>(
    source: impl Source + Send,
    kind: Kind,
    sink: &mut impl Sink,
) -> Result<O, Failure> {
    match kind {
        Kind::Form { boundary } => block_on(read_form(source, &boundary, sink)),
        Kind::Raw { media_type } => {
            let mut source = source;
            sink.begin(media_type, None);
            while let Some(chunk) = source.next()? {
                sink.append(&chunk);
            }
            Ok(O::default())
        }
    }
}

async fn read_form<O: Options>(
    source: impl Source + Send,
    boundary: &str,
    sink: &mut impl Sink,
) -> Result<O, Failure> {
    let head = Head::default();
    let mut form = multer::Multipart::new(
        Chunks {
            source,
            yielded: false,
            head: head.clone(),
        },
        boundary,
    );
    let mut options = O::default();
    let mut file_seen = false;
    let mut begun = false;
    loop {
        head.begin();
        let field = match form.next_field().await {
            // Also if the body is complete: multer searches for the boundary to the end.
            Err(multer::Error::IncompleteStream) if !begun => {
                return Err(Failure::bad_request(format!(
                    "the body does not contain the boundary {boundary:?} of its content type, or ends there: {CURL}"
                )));
            }
            field => field.map_err(form_failure)?,
        };
        let Some(mut field) = field else { break };
        head.end();
        begun = true;
        let Some(name) = field.name().map(str::to_owned) else {
            return Err(Failure::bad_request(format!(
                "a field of the form has no name: {CURL}"
            )));
        };
        if name == "file" {
            if file_seen {
                return Err(Failure::bad_request(
                    "the form has more than one file: send one request for each",
                ));
            }
            file_seen = true;
            let media_type = field
                .content_type()
                .map(|mime| mime.essence_str().to_owned());
            sink.begin(media_type, field.file_name().map(str::to_owned));
            while let Some(chunk) = field.chunk().await.map_err(form_failure)? {
                sink.append(&chunk);
            }
            continue;
        }
        let mut value = Vec::new();
        while let Some(chunk) = field.chunk().await.map_err(form_failure)? {
            if value.len() + chunk.len() > MAX_OPTION_BYTES {
                return Err(Failure::bad_request(format!(
                    "the option {name:?} is longer than {MAX_OPTION_BYTES} bytes: shorten it; the recording goes into `file`"
                )));
            }
            value.extend_from_slice(&chunk);
        }
        let value = std::str::from_utf8(&value).map_err(|_| {
            Failure::bad_request(format!(
                "the option {name:?} is not UTF-8: encode it as UTF-8"
            ))
        })?;
        options.set(&name, value)?;
    }
    if !file_seen {
        return Err(Failure::bad_request(format!(
            "the form has no field `file`: {CURL}"
        )));
    }
    Ok(options)
}

fn form_failure(error: multer::Error) -> Failure {
    match &error {
        multer::Error::StreamReadFailed(cause) => match cause.downcast_ref() {
            Some(Unread::Broken(broken)) => (*broken).into(),
            Some(Unread::HeadTooLong) => Failure::bad_request(format!(
                "the form has more than {MAX_HEAD_BYTES} bytes before the content of a field: {CURL}"
            )),
            None => incomplete(),
        },
        multer::Error::IncompleteStream
        | multer::Error::IncompleteHeaders
        | multer::Error::IncompleteFieldData { .. } => incomplete(),
        _ => Failure::bad_request(format!("the form cannot be read ({error}): {CURL}")),
    }
}

/// Why reading a form stopped.
#[derive(Debug, Clone, Copy, thiserror::Error)]
enum Unread {
    #[error(transparent)]
    Broken(Broken),
    #[error("there are too many bytes before the content of a field")]
    HeadTooLong,
}

/// Chunks and bytes read since multer started looking for a field; `None` while it reads a field's content.
#[derive(Debug, Default, Clone)]
struct Head(Arc<Mutex<Option<(usize, usize)>>>);

impl Head {
    fn begin(&self) {
        *self.lock() = Some((0, 0));
    }

    fn end(&self) {
        *self.lock() = None;
    }

    fn count(&self, chunk: &[u8]) -> Result<(), Unread> {
        if let Some((chunks, bytes)) = self.lock().as_mut() {
            *chunks += 1;
            *bytes += chunk.len();
            if *chunks > FEW_CHUNKS && *bytes > MAX_HEAD_BYTES {
                return Err(Unread::HeadTooLong);
            }
        }
        Ok(())
    }

    fn lock(&self) -> MutexGuard<'_, Option<(usize, usize)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Adapts a source to the stream that multer reads.
struct Chunks<S> {
    source: S,
    /// Whether the last poll yielded a chunk.
    yielded: bool,
    head: Head,
}

impl<S: Source> Chunks<S> {
    fn next(&mut self) -> Result<Option<Bytes>, Unread> {
        let chunk = self.source.next().map_err(Unread::Broken)?;
        if let Some(chunk) = &chunk {
            self.head.count(chunk)?;
        }
        Ok(chunk)
    }
}

impl<S: Source> Stream for Chunks<S> {
    type Item = Result<Bytes, Unread>;

    fn poll_next(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        // No field is pinned.
        let this = self.get_mut();
        // multer reads until a poll is pending; a blocking source never is, so multer would buffer the whole body.
        this.yielded = !this.yielded;
        if this.yielded {
            Poll::Ready(this.next().transpose())
        } else {
            Poll::Pending
        }
    }
}

impl<S> Unpin for Chunks<S> {}

/// Runs a future that waits only in calls to the host, so a pending poll can be repeated immediately.
fn block_on<T>(future: impl Future<Output = T>) -> T {
    let mut future = pin!(future);
    let mut context = Context::from_waker(Waker::noop());
    loop {
        if let Poll::Ready(output) = future.as_mut().poll(&mut context) {
            return output;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Yields `bytes` in chunks, then the end or an error.
    struct Script {
        bytes: Vec<u8>,
        chunk: usize,
        end: Result<(), Broken>,
    }

    impl Source for Script {
        fn next(&mut self) -> Result<Option<Bytes>, Broken> {
            if self.bytes.is_empty() {
                return self.end.map(|()| None);
            }
            let rest = self.bytes.split_off(self.chunk.min(self.bytes.len()));
            Ok(Some(std::mem::replace(&mut self.bytes, rest).into()))
        }
    }

    #[derive(Default)]
    struct Collected {
        hint: Option<(Option<String>, Option<String>)>,
        bytes: Vec<u8>,
        largest_append: usize,
    }

    impl Sink for Collected {
        fn begin(&mut self, media_type: Option<String>, file_name: Option<String>) {
            assert!(self.hint.replace((media_type, file_name)).is_none());
        }

        fn append(&mut self, bytes: &[u8]) {
            self.largest_append = self.largest_append.max(bytes.len());
            self.bytes.extend_from_slice(bytes);
        }
    }

    fn form(fields: &[(&str, &[u8])]) -> Vec<u8> {
        let mut body = Vec::new();
        for (disposition, content) in fields {
            body.extend_from_slice(
                format!("--X\r\nContent-Disposition: form-data; {disposition}\r\n\r\n").as_bytes(),
            );
            body.extend_from_slice(content);
            body.extend_from_slice(b"\r\n");
        }
        body.extend_from_slice(b"--X--\r\n");
        body
    }

    #[derive(Debug, Default, PartialEq)]
    struct Given {
        language: Option<String>,
        temperature: Option<f32>,
        prompt: Option<String>,
    }

    impl Options for Given {
        fn set(&mut self, name: &str, value: &str) -> Result<(), Failure> {
            match name {
                "language" => self.language = Some(value.to_owned()),
                "temperature" => self.temperature = value.parse().ok(),
                "prompt" => self.prompt = Some(value.to_owned()),
                _ => return Err(Failure::bad_request(format!("there is no option {name:?}"))),
            }
            Ok(())
        }
    }

    fn read_form_bytes(
        bytes: Vec<u8>,
        chunk: usize,
        end: Result<(), Broken>,
    ) -> (Result<Given, Failure>, Collected) {
        let mut collected = Collected::default();
        let kind = Kind::Form {
            boundary: "X".to_owned(),
        };
        let result = read(Script { bytes, chunk, end }, kind, &mut collected);
        (result, collected)
    }

    const FILE: &str = "name=\"file\"; filename=\"a.mp3\"\r\nContent-Type: audio/mpeg";

    #[test]
    fn options_may_precede_and_follow_the_file() {
        let audio: Vec<u8> = (0..100_000).map(|i| (i % 251) as u8).collect();
        let body = form(&[
            ("name=\"language\"", b"de"),
            (FILE, &audio),
            ("name=\"temperature\"", b"0.5"),
        ]);
        for chunk in [1, 7, 1000, 1_000_000] {
            let (result, collected) = read_form_bytes(body.clone(), chunk, Ok(()));
            let options = result.unwrap();
            assert_eq!(
                (options.language.as_deref(), options.temperature),
                (Some("de"), Some(0.5))
            );
            assert!(collected.bytes == audio, "chunks of {chunk}");
            let hint = (Some("audio/mpeg".to_owned()), Some("a.mp3".to_owned()));
            assert_eq!(collected.hint, Some(hint));
        }
    }

    #[test]
    fn the_file_is_passed_on_in_chunks_as_it_arrives() {
        let (result, collected) = read_form_bytes(form(&[(FILE, &[1; 100_000])]), 4096, Ok(()));
        assert!(result.is_ok());
        assert!(
            collected.largest_append <= 2 * 4096,
            "{}",
            collected.largest_append
        );
    }

    #[test]
    fn a_form_must_have_one_file() {
        let (none, _) = read_form_bytes(form(&[("name=\"language\"", b"de")]), 100, Ok(()));
        let failure = none.unwrap_err();
        assert_eq!(failure.code, Code::BadRequest);
        assert!(failure.message.contains("-F file=@"), "{failure}");
        let (two, _) = read_form_bytes(form(&[(FILE, b"a"), (FILE, b"b")]), 100, Ok(()));
        assert_eq!(two.unwrap_err().code, Code::BadRequest);
    }

    #[test]
    fn unknown_and_overlong_fields_are_refused() {
        let (unknown, _) =
            read_form_bytes(form(&[("name=\"model\"", b"x"), (FILE, b"a")]), 100, Ok(()));
        assert_eq!(unknown.unwrap_err().code, Code::BadRequest);
        let long = vec![b'a'; MAX_OPTION_BYTES + 1];
        let (overlong, _) = read_form_bytes(
            form(&[("name=\"prompt\"", &long), (FILE, b"a")]),
            100,
            Ok(()),
        );
        assert_eq!(overlong.unwrap_err().code, Code::BadRequest);
    }

    #[test]
    fn a_body_that_ends_early_is_incomplete() {
        let body = form(&[(FILE, &[1; 1000])]);
        for end in [Ok(()), Err(Broken::Incomplete)] {
            for length in [0, 10, 60, 500, body.len() - 10] {
                let (result, _) = read_form_bytes(body[..length].to_vec(), 100, end);
                // A complete body without content after a boundary is not a form.
                let expected = match length < 100 && end.is_ok() {
                    true => Code::BadRequest,
                    false => Code::IncompleteBody,
                };
                assert_eq!(
                    result.unwrap_err().code,
                    expected,
                    "{length} bytes, then {end:?}"
                );
            }
        }
        let (cut, _) = read_form_bytes(body[..500].to_vec(), 100, Err(Broken::TooLarge));
        assert_eq!(cut.unwrap_err().code, Code::BodyTooLarge);
    }

    /// Searching for the boundary again with each of 437 thousand chunks took 10 s.
    #[test]
    fn bytes_before_the_content_of_a_field_are_bounded() {
        let long = vec![b'a'; 437_000];
        let mut endless_header = b"--X\r\nContent-Disposition: form-data; name=\"".to_vec();
        endless_header.extend(&long);
        let mut second = form(&[("name=\"language\"", b"de")]);
        second.truncate(second.len() - 4);
        second.extend(b"\r\n");
        second.extend(&long);
        for body in [long, endless_header, second] {
            for chunk in [1, 4096] {
                let (result, _) = read_form_bytes(body.clone(), chunk, Ok(()));
                let failure = result.unwrap_err();
                assert_eq!(failure.code, Code::BadRequest);
                assert!(failure.message.contains("16384 bytes"), "{failure}");
            }
        }
        let mut preamble = b"This is a form.\r\n".to_vec();
        preamble.extend(form(&[(FILE, b"a")]));
        assert!(read_form_bytes(preamble, 1, Ok(())).0.is_ok());
    }

    /// multer requests chunks that it does not need yet, and they are large if the client is fast.
    #[test]
    fn fields_of_any_size_may_arrive_in_large_chunks() {
        let audio = vec![1; 1_000_000];
        let options = [("name=\"prompt\"", &b""[..]); 20];
        let fields = [&options[..], &[(FILE, &audio)], &options[..]].concat();
        for chunk in [1000, 20_000, 65_536, 600_000] {
            let (result, collected) = read_form_bytes(form(&fields), chunk, Ok(()));
            assert!(result.is_ok(), "chunks of {chunk}: {result:?}");
            assert!(collected.bytes == audio, "chunks of {chunk}");
        }
    }

    #[test]
    fn a_raw_body_is_the_recording() {
        let mut collected = Collected::default();
        let kind = Kind::Raw {
            media_type: Some("audio/wav".to_owned()),
        };
        let source = Script {
            bytes: vec![1; 1000],
            chunk: 300,
            end: Ok(()),
        };
        assert_eq!(read(source, kind, &mut collected), Ok(Given::default()));
        assert_eq!(collected.bytes.len(), 1000);
        let source = Script {
            bytes: vec![1; 1000],
            chunk: 300,
            end: Err(Broken::Incomplete),
        };
        let failure = read::<Given>(
            source,
            Kind::Raw { media_type: None },
            &mut Collected::default(),
        )
        .unwrap_err();
        assert_eq!(failure.code, Code::IncompleteBody);
    }

    #[test]
    fn the_content_type_distinguishes_forms_from_recordings() {
        let form = Kind::of(Some("Multipart/Form-Data; boundary=\"a b\"")).unwrap();
        assert_eq!(
            form,
            Kind::Form {
                boundary: "a b".to_owned()
            }
        );
        for (content_type, media_type) in [
            (None, None),
            (Some("application/octet-stream"), None),
            (Some("application/x-www-form-urlencoded"), None),
            (
                Some("audio/ogg; codecs=vorbis"),
                Some("audio/ogg".to_owned()),
            ),
        ] {
            assert_eq!(Kind::of(content_type), Ok(Kind::Raw { media_type }));
        }
        for content_type in ["multipart/form-data", "multipart/mixed; boundary=x"] {
            assert_eq!(
                Kind::of(Some(content_type)).unwrap_err().code,
                Code::BadRequest
            );
        }
    }
}
