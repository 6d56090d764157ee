//! The digest of a request's content, by which equal requests are found.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use futures::stream::{self, Stream};
use multer::Multipart;
use sha2::{Digest as _, Sha256};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

/// Maximum bytes of a form before its next field or content, such as a field's headers: they are held in memory.
const MAX_BETWEEN: usize = 1 << 20;

/// The digest of a body's content, and of what else matters. Of a form, the names and contents of its fields matter: clients choose
/// another boundary for each request.
pub(super) enum ContentDigest {
    Bytes(Sha256),
    Form {
        pieces: mpsc::Sender<Bytes>,
        /// `None` if the form is malformed.
        digest: JoinHandle<Option<Sha256>>,
    },
}

impl ContentDigest {
    /// Returns the digest of these parts and of a body that is to follow.
    pub(super) fn new(parts: &[&str], content_type: &str) -> Self {
        let mut digest = Sha256::new();
        for part in parts {
            update(&mut digest, part.as_bytes());
        }
        match multer::parse_boundary(content_type) {
            Ok(boundary) => {
                let (sender, receiver) = mpsc::channel(4);
                Self::Form {
                    pieces: sender,
                    digest: tokio::spawn(of_form(digest, boundary, receiver)),
                }
            }
            Err(_) => {
                update(&mut digest, content_type.as_bytes());
                Self::Bytes(digest)
            }
        }
    }

    pub(super) async fn update(&mut self, piece: &Bytes) {
        match self {
            Self::Bytes(digest) => digest.update(piece),
            Self::Form { pieces, .. } => {
                // The receiver is gone if the form is malformed.
                let _ = pieces.send(piece.clone()).await;
            }
        }
    }

    /// Returns the digest as text; `None` if the content is a malformed form.
    pub(super) async fn finish(self) -> Option<String> {
        let digest = match self {
            Self::Bytes(digest) => digest,
            Self::Form { pieces, digest } => {
                drop(pieces);
                digest.await.ok()??
            }
        };
        Some(hex::encode(digest.finalize()))
    }
}

/// Adds bytes and their length, so that the same bytes divided otherwise have another digest.
fn update(digest: &mut Sha256, bytes: &[u8]) {
    digest.update((bytes.len() as u64).to_le_bytes());
    digest.update(bytes);
}

async fn of_form(
    mut digest: Sha256,
    boundary: String,
    pieces: mpsc::Receiver<Bytes>,
) -> Option<Sha256> {
    let between = Arc::new(AtomicUsize::new(0));
    let mut form = Multipart::new(limited(pieces, Arc::clone(&between)), boundary);
    while let Some(mut field) = form.next_field().await.ok()? {
        between.store(0, Ordering::Relaxed);
        update(&mut digest, field.name().unwrap_or_default().as_bytes());
        let mut content = Sha256::new();
        while let Some(chunk) = field.chunk().await.ok()? {
            between.store(0, Ordering::Relaxed);
            content.update(&chunk);
        }
        digest.update(content.finalize());
    }
    Some(digest)
}

/// Returns the pieces as a stream that fails after [`MAX_BETWEEN`] bytes since `between` was zero.
fn limited(
    pieces: mpsc::Receiver<Bytes>,
    between: Arc<AtomicUsize>,
) -> impl Stream<Item = io::Result<Bytes>> + Send {
    stream::unfold(pieces, move |mut pieces| {
        let between = Arc::clone(&between);
        async move {
            let piece = pieces.recv().await?;
            let bytes = between.fetch_add(piece.len(), Ordering::Relaxed) + piece.len();
            let piece = match bytes {
                ..=MAX_BETWEEN => Ok(piece),
                _ => Err(io::ErrorKind::FileTooLarge.into()),
            };
            Some((piece, pieces))
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn digest(content_type: &str, body: &str) -> Option<String> {
        let mut digest = ContentDigest::new(&["component", "/path"], content_type);
        for piece in body.as_bytes().chunks(7) {
            digest.update(&Bytes::copy_from_slice(piece)).await;
        }
        digest.finish().await
    }

    fn form(boundary: &str, fields: &[(&str, &str)]) -> String {
        let mut text = String::new();
        for (name, value) in fields {
            text += &format!(
                "--{boundary}\r\nContent-Disposition: form-data; name=\"{name}\"\r\n\r\n{value}\r\n"
            );
        }
        text + format!("--{boundary}--\r\n").as_str()
    }

    #[tokio::test]
    async fn forms_with_the_same_fields_have_the_same_digest() {
        let of = async |boundary: &str, fields: &[(&str, &str)]| {
            let content_type = format!("multipart/form-data; boundary={boundary}");
            digest(&content_type, &form(boundary, fields))
                .await
                .unwrap()
        };
        let one = of("abc", &[("file", "RIFF"), ("language", "en")]).await;
        assert_eq!(one.len(), 64);
        assert_eq!(
            one,
            of("xyzzy", &[("file", "RIFF"), ("language", "en")]).await
        );
        assert_ne!(
            one,
            of("abc", &[("file", "RIFF"), ("language", "de")]).await
        );
        assert_ne!(
            one,
            of("abc", &[("fil", "RIFF"), ("elanguage", "en")]).await
        );
        assert_ne!(one, of("abc", &[("file", "RIFF")]).await);
    }

    #[tokio::test]
    async fn other_bodies_have_the_digest_of_their_bytes_and_type() {
        let one = digest("audio/wav", "RIFF").await;
        assert_eq!(one, digest("audio/wav", "RIFF").await);
        assert_ne!(one, digest("audio/wav", "RIFX").await);
        assert_ne!(one, digest("audio/mpeg", "RIFF").await);
    }

    #[tokio::test]
    async fn a_malformed_form_has_none() {
        let content_type = "multipart/form-data; boundary=abc";
        assert_eq!(digest(content_type, "--abc\r\nContent").await, None);
        let endless = "x".repeat(2 * MAX_BETWEEN);
        assert_eq!(digest(content_type, &endless).await, None);
    }
}
