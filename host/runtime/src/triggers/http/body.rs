//! The body of a request, with limits on its size and its minimum rate.

use std::pin::{Pin, pin};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use http_body_util::BodyExt as _;
use manifest::Limits;
use tokio::time::{Instant, Sleep};
use wasmtime_wasi_http::{Error, WasiBody};

use super::buffered_body::{BufferedBody, empty};
use crate::invocation::Stop;

/// Bytes of a body that are read per interval while its request waits in the queue. TCP announces free buffer space only once there
/// is enough for a packet, which has 64 KiB on the loopback interface.
const READ_AHEAD: usize = 128 << 10;
/// Limit on the frames read per interval: each takes memory, however small it is.
const READ_AHEAD_FRAMES: usize = 64;
const READ_AHEAD_INTERVAL: Duration = Duration::from_secs(10);

/// The body of a request.
pub(crate) struct RequestBody(BufferedBody);

impl RequestBody {
    /// Wraps a body from a client.
    pub(crate) fn new<B>(body: B) -> Self
    where
        B: Body<Data = Bytes> + Send + 'static,
        B::Error: std::fmt::Display,
    {
        Self(BufferedBody::new(match body.is_end_stream() {
            true => empty(),
            false => body
                .map_err(|error| {
                    tracing::debug!(%error, "the client's body is incomplete");
                    Error::ConnectionTerminated
                })
                .boxed_unsync(),
        }))
    }

    /// Returns a body without bytes.
    pub(crate) fn empty() -> Self {
        Self(BufferedBody::new(empty()))
    }

    /// Returns whether it has no bytes.
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_end_stream()
    }

    /// Waits until it starts to arrive, or ends. Returns whether it did within `idle`.
    pub(crate) async fn wait_for_start(&mut self, idle: Duration) -> bool {
        self.0.wait_for_first(idle).await
    }

    /// Waits for `future`, and reads a little of the body at intervals: many clients and proxies close a connection that makes no
    /// progress for half a minute.
    pub(crate) async fn wait_for<T>(&mut self, future: impl Future<Output = T>) -> T {
        let mut future = pin!(future);
        loop {
            if let Ok(output) = tokio::time::timeout(READ_AHEAD_INTERVAL, &mut future).await {
                return output;
            }
            let read = async {
                let (mut read, mut frames) = (0, 0);
                while read < READ_AHEAD
                    && frames < READ_AHEAD_FRAMES
                    && !self.0.rest.is_end_stream()
                {
                    read += self.0.buffer_next().await;
                    frames += 1;
                }
            };
            tokio::select! {
                output = &mut future => return output,
                () = read => {}
            }
        }
    }

    /// Returns a lower bound of its size, in bytes.
    pub(crate) fn min_size(&self) -> u64 {
        self.0.size_hint().lower()
    }

    /// Returns the body with the component's limits applied: when it violates one, it fails, and `stop` is called with the limit.
    pub(crate) fn limited(
        self,
        limits: &Limits,
        stop: impl Fn(Stop) + Send + Unpin + 'static,
    ) -> WasiBody {
        if self.0.is_end_stream() {
            return self.0.rest;
        }
        LimitedBody {
            body: self.0,
            left: limits.request_body.as_u64(),
            rate: MinimumRate::new(limits),
            stop,
        }
        .boxed_unsync()
    }
}

struct LimitedBody<F> {
    body: BufferedBody,
    left: u64,
    rate: MinimumRate,
    stop: F,
}

/// Minimum rate of a body, measured only while the reader waits: a component may read slowly.
struct MinimumRate {
    /// Bytes that must arrive per `period`.
    progress: u64,
    period: Duration,
    /// Bytes missing in the current period, and the time left for them.
    missing: u64,
    left: Duration,
    /// Start of the current wait, and its timeout.
    pause: Option<(Instant, Pin<Box<Sleep>>)>,
}

impl MinimumRate {
    fn new(limits: &Limits) -> Self {
        let progress = limits.body_progress.as_u64().max(1);
        Self {
            progress,
            period: limits.body_idle,
            missing: progress,
            left: limits.body_idle,
            pause: None,
        }
    }

    /// Records the arrival of bytes.
    fn advance(&mut self, bytes: u64) {
        self.missing = self.missing.saturating_sub(bytes);
        if self.missing == 0 {
            (self.missing, self.left) = (self.progress, self.period);
        } else if let Some((since, _)) = &self.pause {
            self.left = self.left.saturating_sub(since.elapsed());
        }
        self.pause = None;
    }

    /// Returns `Ready` if the body arrives too slowly.
    fn poll_too_slow(&mut self, context: &mut Context<'_>) -> Poll<()> {
        let left = self.left;
        let (_, pause) = self.pause.get_or_insert_with(|| {
            let now = Instant::now();
            (now, Box::pin(tokio::time::sleep_until(now + left)))
        });
        pause.as_mut().poll(context)
    }
}

impl<F: Fn(Stop) + Unpin> Body for LimitedBody<F> {
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
            this.rate.advance(length);
            let Some(left) = this.left.checked_sub(length) else {
                (this.stop)(Stop::BodyTooLarge);
                return Poll::Ready(Some(Err(Error::HttpRequestBodySize(None))));
            };
            this.left = left;
            return Poll::Ready(Some(Ok(frame)));
        }
        ready!(this.rate.poll_too_slow(cx));
        (this.stop)(Stop::BodyIdle);
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

    fn body(frames: Vec<Result<&'static [u8], &'static str>>) -> RequestBody {
        let frames = frames.into_iter();
        let frames = frames.map(|frame| frame.map(|data| Frame::data(Bytes::from_static(data))));
        RequestBody::new(StreamBody::new(futures::stream::iter(frames)))
    }

    /// Reads the rest of the body. Returns it, and whether it is incomplete.
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
    async fn bytes_read_while_a_request_waits_are_the_start_of_its_body() {
        static FRAME: [u8; READ_AHEAD] = [7; READ_AHEAD];
        let mut long = body(vec![Ok(&FRAME), Ok(&FRAME), Ok(b"end")]);
        long.wait_for(tokio::time::sleep(READ_AHEAD_INTERVAL * 3 / 2))
            .await;
        assert_eq!(long.0.buffered.len(), 1);
        assert_eq!(long.min_size(), READ_AHEAD as u64);
        let (whole, broken) = read(long).await;
        assert_eq!((whole.len(), broken), (2 * READ_AHEAD + 3, false));

        let mut tiny = body(vec![Ok(b"x"); 10_000]);
        tiny.wait_for(tokio::time::sleep(READ_AHEAD_INTERVAL * 5 / 2))
            .await;
        assert_eq!(tiny.0.buffered.len(), 2 * READ_AHEAD_FRAMES);
        assert_eq!(read(tiny).await, (vec![b'x'; 10_000], false));

        let mut short = body(vec![Ok(b"all"), Ok(b" of it")]);
        short
            .wait_for(tokio::time::sleep(3 * READ_AHEAD_INTERVAL))
            .await;
        assert_eq!(short.0.size_hint().exact(), Some(9));
        assert_eq!(read(short).await, (b"all of it".to_vec(), false));
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_that_fails_while_its_request_waits_is_not_complete() {
        let mut broken = body(vec![Ok(b"part"), Err("gone"), Ok(b"never")]);
        broken
            .wait_for(tokio::time::sleep(3 * READ_AHEAD_INTERVAL))
            .await;
        assert_eq!(broken.min_size(), 4);
        assert_eq!(broken.0.size_hint().upper(), None);
        assert!(!broken.0.is_end_stream());
        assert_eq!(read(broken).await, (b"part".to_vec(), true));
    }
}
