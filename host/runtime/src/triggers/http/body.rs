//! The body of a request, watched for its size and its pace.

use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use http_body_util::BodyExt as _;
use manifest::Limits;
use tokio::time::{Instant, Sleep};
use wasmtime_wasi_http::{Error, WasiBody};

use super::peeked::{Peeked, nothing};
use crate::invocation::{Invocation, Stop};
use crate::timer::SharedTimer;

/// How much of a body is taken while its request waits for its turn, and how often. A receiver tells of new room only once
/// there is enough for a packet, which has 64 KiB on the loopback interface.
const READ_AHEAD: usize = 128 << 10;
/// Pieces of that, at most: each takes memory of its own, however little is in it.
const READ_AHEAD_PIECES: usize = 64;
const READ_AHEAD_INTERVAL: Duration = Duration::from_secs(10);

/// The body of a request, from whichever trigger.
pub(crate) struct RequestBody(Peeked);

impl RequestBody {
    /// A body as it comes from a client.
    pub(crate) fn new<B>(body: B) -> Self
    where
        B: Body<Data = Bytes> + Send + 'static,
        B::Error: std::fmt::Display,
    {
        Self(Peeked::new(match body.is_end_stream() {
            true => nothing(),
            false => body
                .map_err(|error| {
                    tracing::debug!(%error, "the client's body broke off");
                    Error::ConnectionTerminated
                })
                .boxed_unsync(),
        }))
    }

    /// Waits until it has begun to arrive, or ended. Whether it has within `idle`.
    pub(crate) async fn begin(&mut self, idle: Duration, timer: &SharedTimer) -> bool {
        self.0.peek(idle, timer).await
    }

    /// Waits for `turn`, and takes a little of the body from time to time: many clients and proxies give up a connection
    /// that takes nothing for half a minute.
    pub(crate) async fn wait_for<T>(&mut self, turn: impl Future<Output = T>) -> T {
        let mut turn = pin!(turn);
        loop {
            if let Ok(output) = tokio::time::timeout(READ_AHEAD_INTERVAL, &mut turn).await {
                return output;
            }
            let read = async {
                let (mut read, mut pieces) = (0, 0);
                while read < READ_AHEAD
                    && pieces < READ_AHEAD_PIECES
                    && !self.0.rest.is_end_stream()
                {
                    read += self.0.take().await;
                    pieces += 1;
                }
            };
            tokio::select! {
                output = &mut turn => return output,
                () = read => {}
            }
        }
    }

    /// The least that it will have, in bytes.
    pub(crate) fn least(&self) -> u64 {
        self.0.size_hint().lower()
    }

    /// The body, with an end put to it when it exceeds the limits of size and pace.
    pub(crate) fn watched(self, invocation: &Arc<Invocation>, limits: &Limits) -> WasiBody {
        if self.0.is_end_stream() {
            return self.0.rest;
        }
        Watched {
            body: self.0,
            left: limits.request_body.as_u64(),
            pace: Pace::new(limits),
            invocation: Arc::clone(invocation),
        }
        .boxed_unsync()
    }
}

struct Watched {
    body: Peeked,
    left: u64,
    pace: Pace,
    invocation: Arc<Invocation>,
}

/// How fast a body comes, while the reader waits for it: a component that reads slowly is its own affair.
struct Pace {
    /// What must arrive in `within`.
    progress: u64,
    within: Duration,
    /// What is still to arrive, and in which time.
    missing: u64,
    left: Duration,
    /// Since when the reader waits, and until when it may.
    pause: Option<(Instant, Pin<Box<Sleep>>)>,
}

impl Pace {
    fn new(limits: &Limits) -> Self {
        let progress = limits.body_progress.as_u64().max(1);
        Self {
            progress,
            within: limits.body_idle,
            missing: progress,
            left: limits.body_idle,
            pause: None,
        }
    }

    /// So many bytes have come.
    fn advance(&mut self, bytes: u64) {
        self.missing = self.missing.saturating_sub(bytes);
        if self.missing == 0 {
            (self.missing, self.left) = (self.progress, self.within);
        } else if let Some((since, _)) = &self.pause {
            self.left = self.left.saturating_sub(since.elapsed());
        }
        self.pause = None;
    }

    /// Ready when it has come too slowly.
    fn poll_too_slow(&mut self, context: &mut Context<'_>) -> Poll<()> {
        let left = self.left;
        let (_, pause) = self.pause.get_or_insert_with(|| {
            let now = Instant::now();
            (now, Box::pin(tokio::time::sleep_until(now + left)))
        });
        pause.as_mut().poll(context)
    }
}

impl Body for Watched {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        let this = &mut *self;
        if let Poll::Ready(frame) = Pin::new(&mut this.body).poll_frame(cx) {
            let Some(frame) = frame else {
                return Poll::Ready(None);
            };
            let frame = frame?;
            let length = frame.data_ref().map_or(0, |data| data.len() as u64);
            this.pace.advance(length);
            let Some(left) = this.left.checked_sub(length) else {
                this.invocation.stop_at(Stop::BodyTooLarge);
                return Poll::Ready(Some(Err(Error::HttpRequestBodySize(None))));
            };
            this.left = left;
            return Poll::Ready(Some(Ok(frame)));
        }
        ready!(this.pace.poll_too_slow(cx));
        this.invocation.stop_at(Stop::BodyIdle);
        Poll::Ready(Some(Err(Error::ConnectionReadTimeout)))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use http_body_util::StreamBody;

    use super::*;

    fn body(pieces: Vec<Result<&'static [u8], &'static str>>) -> RequestBody {
        let frames = pieces.into_iter();
        let frames = frames.map(|piece| piece.map(|data| Frame::data(Bytes::from_static(data))));
        RequestBody::new(StreamBody::new(futures::stream::iter(frames)))
    }

    /// What is left of the body, and whether it breaks off.
    async fn read(mut body: RequestBody) -> (Vec<u8>, bool) {
        let mut whole = Vec::new();
        while let Some(frame) = poll_fn(|context| Pin::new(&mut body.0).poll_frame(context)).await {
            match frame {
                Ok(frame) => whole.extend(frame.into_data().unwrap()),
                Err(_) => return (whole, true),
            }
        }
        (whole, false)
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_taken_in_while_a_request_waits_is_the_beginning_of_its_body() {
        static PIECE: [u8; READ_AHEAD] = [7; READ_AHEAD];
        let mut long = body(vec![Ok(&PIECE), Ok(&PIECE), Ok(b"end")]);
        long.wait_for(tokio::time::sleep(READ_AHEAD_INTERVAL * 3 / 2))
            .await;
        assert_eq!(long.0.taken.len(), 1);
        assert_eq!(long.least(), READ_AHEAD as u64);
        let (whole, broken) = read(long).await;
        assert_eq!((whole.len(), broken), (2 * READ_AHEAD + 3, false));

        let mut tiny = body(vec![Ok(b"x"); 10_000]);
        tiny.wait_for(tokio::time::sleep(READ_AHEAD_INTERVAL * 5 / 2))
            .await;
        assert_eq!(tiny.0.taken.len(), 2 * READ_AHEAD_PIECES);
        assert_eq!(read(tiny).await, (vec![b'x'; 10_000], false));

        let mut short = body(vec![Ok(b"all"), Ok(b" of it")]);
        short
            .wait_for(tokio::time::sleep(3 * READ_AHEAD_INTERVAL))
            .await;
        assert_eq!(short.0.size_hint().exact(), Some(9));
        assert_eq!(read(short).await, (b"all of it".to_vec(), false));
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_that_breaks_off_while_its_request_waits_is_not_taken_for_complete() {
        let mut broken = body(vec![Ok(b"part"), Err("gone"), Ok(b"never")]);
        broken
            .wait_for(tokio::time::sleep(3 * READ_AHEAD_INTERVAL))
            .await;
        assert_eq!(broken.least(), 4);
        assert_eq!(broken.0.size_hint().upper(), None);
        assert!(!broken.0.is_end_stream());
        assert_eq!(read(broken).await, (b"part".to_vec(), true));
    }
}
