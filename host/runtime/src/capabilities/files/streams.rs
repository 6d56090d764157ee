//! Streams of the contents of files. Each counts as an open file, and each of its reads as an operation.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use futures::FutureExt as _;
use futures::future::BoxFuture;
use tokio::sync::{OwnedSemaphorePermit, oneshot};
use wasmtime::StoreContextMut;
use wasmtime::component::{Destination, StreamProducer, StreamResult, VecBuffer};
use wasmtime_wasi::p2::{DynInputStream, InputStream, Pollable};
use wasmtime_wasi::p3::bindings::filesystem::types::ErrorCode;

use super::operations::Operations;

/// Maximum size of one read, in bytes.
const READ_SIZE: usize = 64 << 10;

/// A stream of WASI 0.2. `R` is its reservation of an open file.
pub(super) struct InputOf<R> {
    pub inner: DynInputStream,
    pub operations: Operations,
    /// The permit of a read that has begun.
    pub permit: Option<OwnedSemaphorePermit>,
    /// Whether a read has ended whose bytes were not taken.
    pub is_ready: bool,
    pub _reservation: R,
}

#[async_trait::async_trait]
impl<R: Send + Sync + 'static> Pollable for InputOf<R> {
    async fn ready(&mut self) {
        if self.is_ready {
            return;
        }
        // If this future is dropped, the read goes on, and keeps its permit.
        if self.permit.is_none() {
            self.permit = self.operations.permit().await;
        }
        self.inner.ready().await;
        self.permit = None;
        self.is_ready = true;
    }
}

#[async_trait::async_trait]
impl<R: Send + Sync + 'static> InputStream for InputOf<R> {
    fn read(&mut self, size: usize) -> wasmtime_wasi::p2::StreamResult<Bytes> {
        match size == 0 || std::mem::take(&mut self.is_ready) {
            true => self.inner.read(size),
            // It would begin a read.
            false => Ok(Bytes::new()),
        }
    }

    async fn blocking_read(&mut self, size: usize) -> wasmtime_wasi::p2::StreamResult<Bytes> {
        if self.permit.is_none() {
            self.permit = self.operations.permit().await;
        }
        let read = self.inner.blocking_read(size).await;
        self.permit = None;
        self.is_ready = false;
        read
    }

    async fn cancel(&mut self) {
        self.inner.cancel().await;
    }
}

/// A stream of WASI 0.3. `R` is its reservation of an open file.
pub(super) struct Reader<R> {
    pub file: Arc<File>,
    pub offset: u64,
    pub operations: Operations,
    /// Told how the stream ends.
    pub result: Option<oneshot::Sender<Result<(), ErrorCode>>>,
    pub reading: Option<BoxFuture<'static, io::Result<Vec<u8>>>>,
    pub _reservation: R,
}

impl<R> Reader<R> {
    fn end(&mut self, result: Result<(), ErrorCode>) -> StreamResult {
        if let Some(sender) = self.result.take() {
            // The component may have dropped the other side.
            let _ = sender.send(result);
        }
        StreamResult::Dropped
    }
}

impl<R> Drop for Reader<R> {
    fn drop(&mut self) {
        self.end(Ok(()));
    }
}

impl<D, R: Send + Unpin + 'static> StreamProducer<D> for Reader<R> {
    type Item = u8;
    type Buffer = VecBuffer<u8>;

    fn poll_produce<'a>(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        mut store: StoreContextMut<'a, D>,
        mut destination: Destination<'a, Self::Item, Self::Buffer>,
        finish: bool,
    ) -> Poll<wasmtime::Result<StreamResult>> {
        if destination.remaining(&mut store) == Some(0) {
            return Poll::Ready(Ok(StreamResult::Completed));
        }
        let reader = &mut *self;
        let reading = reader.reading.get_or_insert_with(|| {
            let (file, offset, operations) = (
                Arc::clone(&reader.file),
                reader.offset,
                reader.operations.clone(),
            );
            async move {
                let permit = operations.permit().await;
                let read = tokio::task::spawn_blocking(move || {
                    // Held until the read ends, even if nobody waits for it.
                    let _permit = permit;
                    read_at(&file, offset)
                });
                read.await.map_err(io::Error::other)?
            }
            .boxed()
        });
        let read = match reading.as_mut().poll(context) {
            Poll::Ready(read) => read,
            Poll::Pending if finish => {
                reader.reading = None;
                return Poll::Ready(Ok(StreamResult::Cancelled));
            }
            Poll::Pending => return Poll::Pending,
        };
        reader.reading = None;
        Poll::Ready(Ok(match read {
            Ok(bytes) if bytes.is_empty() => reader.end(Ok(())),
            Ok(bytes) => match reader.offset.checked_add(bytes.len() as u64) {
                Some(offset) => {
                    reader.offset = offset;
                    destination.set_buffer(bytes.into());
                    StreamResult::Completed
                }
                None => reader.end(Err(ErrorCode::Overflow)),
            },
            Err(error) => reader.end(Err(error.into())),
        }))
    }
}

fn read_at(file: &File, offset: u64) -> io::Result<Vec<u8>> {
    let mut bytes = vec![0; READ_SIZE];
    loop {
        match file.read_at(&mut bytes, offset) {
            Ok(length) => {
                bytes.truncate(length);
                return Ok(bytes);
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}
