//! Limit on the file operations of a component at once. Each takes one of the process's threads for blocking work, which the whole
//! host shares, and an instance of WASI 0.3 may have any number of them in flight.

use std::sync::Arc;

use futures::future::BoxFuture;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};
use wasmtime::component::{Accessor, AccessorTask, Linker, Resource};
use wasmtime_wasi::WasiView;
use wasmtime_wasi::filesystem::{Descriptor, WasiFilesystem, WasiFilesystemView as _};
use wasmtime_wasi::p3::bindings::filesystem::types::{
    Advice, ErrorCode, HostDescriptorWithStore, PathFlags,
};
use wasmtime_wasi::p3::filesystem::FilesystemResult;

/// Maximum number of operations of a component at once.
const MAX_OPERATIONS: usize = 32;

/// Permits for the file operations of a component.
#[derive(Clone)]
pub(crate) struct Operations(Arc<Semaphore>);

impl Default for Operations {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new(MAX_OPERATIONS)))
    }
}

impl Operations {
    pub(super) async fn permit(&self) -> Option<OwnedSemaphorePermit> {
        // The semaphore is never closed.
        Arc::clone(&self.0).acquire_owned().await.ok()
    }

    /// Runs an operation once there is a permit for it. If the component cancels the operation, it goes on, and keeps its permit: a
    /// thread that has begun it cannot be stopped.
    pub(super) async fn run<T, R, F>(self, store: &Accessor<T>, operation: F) -> wasmtime::Result<R>
    where
        T: 'static,
        R: Send + 'static,
        F: for<'a> FnOnce(&'a Accessor<T>) -> BoxFuture<'a, R> + Send + 'static,
    {
        let permit = self.permit().await;
        let (result, received) = oneshot::channel();
        store.spawn(Running {
            operation,
            result,
            permit,
        })?;
        Ok(received.await?)
    }
}

/// An operation with its permit.
struct Running<R, F> {
    operation: F,
    result: oneshot::Sender<R>,
    permit: Option<OwnedSemaphorePermit>,
}

impl<T, R, F> AccessorTask<T> for Running<R, F>
where
    T: 'static,
    R: Send + 'static,
    F: for<'a> FnOnce(&'a Accessor<T>) -> BoxFuture<'a, R> + Send + 'static,
{
    async fn run(self, store: &Accessor<T>) -> wasmtime::Result<()> {
        let result = (self.operation)(store).await;
        drop(self.permit);
        // The component may have cancelled the operation.
        let _ = self.result.send(result);
        Ok(())
    }
}

/// Turns an error of wasmtime's implementation into a result of the interface.
pub(super) fn result<R>(result: FilesystemResult<R>) -> wasmtime::Result<(Result<R, ErrorCode>,)> {
    Ok((match result {
        Ok(value) => Ok(value),
        Err(error) => Err(error.downcast()?),
    },))
}

/// Replaces the asynchronous functions of WASI 0.3 that only read, except for `open-at`. The others fail before they do anything,
/// since files are read-only. `operations` returns the permits of an instance's component.
pub(super) fn link<T: WasiView + 'static>(
    linker: &mut Linker<T>,
    operations: impl Fn(&mut T) -> Operations + Copy + Send + Sync + 'static,
) -> wasmtime::Result<()> {
    let mut types = linker.instance("wasi:filesystem/types@0.3.0")?;
    macro_rules! limit {
        ($name:literal, $function:ident($($argument:ident: $type:ty),*), $result:expr) => {
            types.func_wrap_concurrent(
                concat!("[method]descriptor.", $name),
                move |store: &Accessor<T>, (file, $($argument,)*): (Resource<Descriptor>, $($type,)*)| {
                    Box::pin(async move {
                        let operations = store.with(|mut store| operations(store.get()));
                        let result = operations.run(store, move |store| {
                            Box::pin(async move {
                                let view = store.with_getter::<WasiFilesystem>(T::filesystem);
                                <WasiFilesystem as HostDescriptorWithStore<T>>::$function(
                                    &view, file, $($argument),*
                                )
                                .await
                            })
                        });
                        $result(result.await?)
                    })
                },
            )?;
        };
    }
    limit!("advise", advise(offset: u64, length: u64, advice: Advice), result);
    limit!("sync-data", sync_data(), result);
    limit!("get-flags", get_flags(), result);
    limit!("get-type", get_type(), result);
    limit!("sync", sync(), result);
    limit!("stat", stat(), result);
    limit!("stat-at", stat_at(flags: PathFlags, path: String), result);
    limit!("readlink-at", readlink_at(path: String), result);
    limit!("is-same-object", is_same_object(other: Resource<Descriptor>), |is_same: wasmtime::Result<bool>| {
        Ok((is_same?,))
    });
    limit!("metadata-hash", metadata_hash(), result);
    limit!("metadata-hash-at", metadata_hash_at(flags: PathFlags, path: String), result);
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use futures::FutureExt as _;
    use tokio::sync::Semaphore;
    use wasmtime::component::Accessor;
    use wasmtime::{Config, Engine, Store};

    use super::{MAX_OPERATIONS, Operations};

    /// Operations that wait until the test ends them.
    #[derive(Clone)]
    struct Waiting {
        begun: Arc<AtomicUsize>,
        end: Arc<Semaphore>,
    }

    impl Waiting {
        async fn run(&self, store: &Accessor<()>, operations: &Operations) {
            let Self { begun, end } = self.clone();
            let run = operations.clone().run(store, move |_| {
                async move {
                    begun.fetch_add(1, Ordering::Relaxed);
                    end.acquire().await.unwrap().forget();
                }
                .boxed()
            });
            run.await.unwrap();
        }

        /// Returns how many operations have begun once no more begin.
        async fn begun(&self) -> usize {
            for _ in 0..1000 {
                tokio::task::yield_now().await;
            }
            self.begun.load(Ordering::Relaxed)
        }
    }

    #[tokio::test]
    async fn a_limited_number_of_operations_runs_at_once_even_if_they_are_cancelled() {
        let engine = Engine::new(&Config::new()).unwrap();
        let waiting = Waiting {
            begun: Arc::default(),
            end: Arc::new(Semaphore::new(0)),
        };
        let operations = Operations::default();
        let mut store = Store::new(&engine, ());
        let run = store.run_concurrent(async |store| {
            let all =
                || futures::future::join_all((0..100).map(|_| waiting.run(store, &operations)));
            {
                let mut cancelled = std::pin::pin!(all());
                assert!(futures::poll!(&mut cancelled).is_pending());
                assert_eq!(waiting.begun().await, MAX_OPERATIONS);
            }
            let mut rest = std::pin::pin!(all());
            assert!(futures::poll!(&mut rest).is_pending());
            assert_eq!(waiting.begun().await, MAX_OPERATIONS);
            waiting.end.add_permits(MAX_OPERATIONS);
            assert_eq!(waiting.begun().await, MAX_OPERATIONS);
            assert!(futures::poll!(&mut rest).is_pending());
            assert_eq!(waiting.begun().await, 2 * MAX_OPERATIONS);
            waiting.end.add_permits(100);
            rest.await;
            assert_eq!(waiting.begun().await, MAX_OPERATIONS + 100);
        });
        run.await.unwrap();
    }
}
