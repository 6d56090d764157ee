//! Turning a request into a job: its body is stored, then the job is handed to the workers.

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures::stream::{self, Stream, StreamExt as _};
use http_body_util::BodyExt as _;
use queue::jobs::{Error, Jobs, Record};
use tokio_util::io::StreamReader;
use tokio_util::sync::CancellationToken;
use tracing::Instrument as _;
use uuid::Uuid;
use wasmtime_wasi_http::WasiBody;

use super::content::ContentDigest;
use crate::error::{Code, Failure};
use crate::invocation::{Stop, Target};
use crate::triggers::http::body::RequestBody;

/// Size of the pieces in which a body is stored, in bytes, however small those are in which it arrives.
const PIECE: usize = 128 << 10;

/// How long clients are asked to wait before a retry when JetStream is not available.
const RETRY_AFTER: Duration = Duration::from_secs(5);

/// A request that becomes a job.
pub(super) struct Submission {
    pub(super) jobs: Arc<Jobs>,
    pub(super) target: Arc<Target>,
    pub(super) id: Uuid,
    pub(super) record: Record,
    /// If a job with the same content is to stand for this one.
    pub(super) digest: Option<ContentDigest>,
    /// Cancelled when nobody wants the job any more.
    pub(super) abandoned: CancellationToken,
}

/// Returns the failure of a request that needs JetStream.
pub(super) fn unavailable(error: &Error) -> Failure {
    tracing::warn!(%error, "a request for a job failed");
    Failure::new(
        Code::Overloaded,
        "jobs cannot be reached at the moment; try again shortly".into(),
    )
    .retry_after(RETRY_AFTER)
}

impl Submission {
    /// Stores the body and creates the job. Returns the job that stands for it: itself, or an earlier one with the same content.
    ///
    /// Runs to its end even if the future is dropped, so that no part of a body is left over.
    pub(super) async fn run(self, body: RequestBody) -> Result<Uuid, Failure> {
        let in_flight = self.target.track();
        let span = tracing::Span::current();
        let running = tokio::spawn(self.store_and_create(body).instrument(span));
        let result = running.await.unwrap_or_else(|error| {
            tracing::error!(%error, "the creation of a job failed");
            Err(Failure::new(
                Code::Internal,
                "the host failed; its log has the reason".into(),
            ))
        });
        drop(in_flight);
        result
    }

    async fn store_and_create(mut self, body: RequestBody) -> Result<Uuid, Failure> {
        let (jobs, id) = (Arc::clone(&self.jobs), self.id);
        if self.record.request.has_body {
            self.store(body).await?;
        }
        let digest = match self.digest.take() {
            Some(digest) => digest.finish().await,
            None => None,
        };
        if self.abandoned.is_cancelled() {
            self.remove_body().await;
            return Ok(id);
        }
        let created = jobs.create(id, &self.record).await;
        created.map_err(|error| unavailable(&error))?;
        if self.abandoned.is_cancelled() {
            // Its record was not there yet when it was removed.
            let removed = jobs.remove(id).await;
            removed.map_err(|error| unavailable(&error))?;
        }
        let Some(digest) = digest else {
            return Ok(id);
        };
        let first = jobs.first_with(&digest, id).await;
        let first = first.map_err(|error| unavailable(&error))?;
        if first != id {
            let removed = jobs.remove(id).await;
            removed.map_err(|error| unavailable(&error))?;
        }
        Ok(first)
    }

    /// Stores the body, or removes what is stored of it if it is incomplete.
    async fn store(&mut self, body: RequestBody) -> Result<(), Failure> {
        // The limit that the body violated: its reader has no other error than its own.
        let violated = Arc::new(OnceLock::new());
        let limits = self.target.limits.clone();
        let body = body.limited(&limits, {
            let violated = Arc::clone(&violated);
            move |limit: Stop| {
                let _ = violated.set(limit);
            }
        });
        let is_broken = Arc::new(AtomicBool::new(false));
        // An error would leave the pieces so far in the object store, where nothing refers to them.
        let pieces = pieces(body, Arc::clone(&is_broken));
        let digest = self.digest.as_mut();
        let pieces = stream::unfold(
            (Box::pin(pieces), digest),
            async |(mut pieces, mut digest)| {
                let piece = pieces.next().await?;
                if let Some(digest) = &mut digest {
                    digest.update(&piece).await;
                }
                Some((io::Result::Ok(piece), (pieces, digest)))
            },
        );
        let mut reader = StreamReader::new(Box::pin(pieces));
        let stored = self.jobs.store_body(self.id, &mut reader).await;
        drop(reader);
        stored.map_err(|error| unavailable(&error))?;
        if !is_broken.load(Ordering::Relaxed) {
            return Ok(());
        }
        self.remove_body().await;
        Err(match violated.get() {
            Some(&limit) => self.target.failure(limit),
            None => Failure::new(
                Code::BadRequest,
                "the body is incomplete: send it again".into(),
            ),
        })
    }

    async fn remove_body(&self) {
        if let Err(error) = self.jobs.remove_body(self.id).await {
            tracing::warn!(%error, "a part of a body stays in JetStream until it expires");
        }
    }
}

/// Returns the pieces of a body. If it breaks, ends and sets `is_broken`.
fn pieces(body: WasiBody, is_broken: Arc<AtomicBool>) -> impl Stream<Item = Bytes> + Send {
    stream::unfold(Some(body), move |body| {
        let is_broken = Arc::clone(&is_broken);
        async move {
            let mut body = body?;
            let mut piece = BytesMut::new();
            let rest = loop {
                match body.frame().await {
                    Some(Ok(frame)) => {
                        piece.extend_from_slice(frame.data_ref().unwrap_or(&Bytes::new()));
                        if piece.len() >= PIECE {
                            break Some(body);
                        }
                    }
                    Some(Err(_)) => {
                        is_broken.store(true, Ordering::Relaxed);
                        break None;
                    }
                    None => break None,
                }
            };
            (!piece.is_empty()).then(|| (piece.freeze(), rest))
        }
    })
}
