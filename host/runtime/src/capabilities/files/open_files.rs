//! Limit on the files that an instance has open. WASI has none: a component could use up the file descriptors and the memory of the
//! whole host.

use std::collections::HashMap;
use std::fs::File;
use std::pin::Pin;
use std::sync::{Arc, Weak};
use std::task::{Context, Poll};

use rustix::fs::{Dir, FileType, Mode, OFlags, openat};
use tokio::sync::oneshot;
use wasmtime::StoreContextMut;
use wasmtime::component::{
    Accessor, Destination, FutureReader, Linker, Resource, ResourceTable, ResourceType,
    StreamProducer, StreamReader, StreamResult,
};
use wasmtime_wasi::WasiView;
use wasmtime_wasi::filesystem::{Descriptor, WasiFilesystem, WasiFilesystemView as _};
use wasmtime_wasi::p2::bindings::filesystem::types as p2;
use wasmtime_wasi::p2::{DynInputStream, ReaddirIterator};
use wasmtime_wasi::p3::bindings::filesystem::types as p3;
use wasmtime_wasi::p3::filesystem::FilesystemError;

use super::operations::{self, Operations};
use super::streams::{InputOf, Reader};

/// Maximum number of files and folders that an instance has open.
pub const MAX_OPEN_FILES: usize = 64;

/// The files that an instance has opened. Its streams keep them open, and count, too.
pub(crate) struct OpenFiles {
    open: Vec<Weak<File>>,
    /// Shared with each [`Reservation`].
    reserved: Arc<()>,
    /// Listings of WASI 0.2, by their index in the table of resources: wasmtime reads a folder as a whole.
    listings: HashMap<u32, Reservation>,
    operations: Operations,
    /// Files whose opening the component may have cancelled when it was about to end, by their index in the table of resources. The
    /// component will not close them.
    unclaimed: Vec<(Weak<()>, u32)>,
}

/// Room for a file that is being opened.
struct Reservation(#[expect(dead_code, reason = "it is counted")] Arc<()>);

impl OpenFiles {
    pub(super) fn new(operations: Operations) -> Self {
        Self {
            open: Vec::new(),
            reserved: Arc::default(),
            listings: HashMap::new(),
            operations,
            unclaimed: Vec::new(),
        }
    }

    /// Returns room for another file, if there is any.
    fn reserve(&mut self, table: &mut ResourceTable) -> Option<Reservation> {
        self.unclaimed.retain(|(is_awaited, index)| {
            let is_awaited = is_awaited.strong_count() > 0;
            if !is_awaited {
                // Fails only if it is closed already.
                let _ = table.delete(Resource::<Descriptor>::new_own(*index));
            }
            is_awaited
        });
        self.open.retain(|file| file.strong_count() > 0);
        let reserved = Arc::strong_count(&self.reserved) - 1;
        (self.open.len() + reserved < MAX_OPEN_FILES)
            .then(|| Reservation(Arc::clone(&self.reserved)))
    }

    fn add(&mut self, descriptor: &Descriptor) {
        self.open.push(Arc::downgrade(match descriptor {
            Descriptor::File(file) => &file.file,
            Descriptor::Dir(folder) => &folder.dir,
        }));
    }
}

/// Returns the open files of an instance, and its resources.
type GetFiles<T> = fn(&mut T) -> (&mut OpenFiles, &mut ResourceTable);

/// Replaces the functions that open files, and those that take a thread.
pub(super) fn link<T: WasiView + 'static>(
    linker: &mut Linker<T>,
    files: GetFiles<T>,
) -> wasmtime::Result<()> {
    const OPEN_AT: &str = "[method]descriptor.open-at";
    const READ_VIA_STREAM: &str = "[method]descriptor.read-via-stream";
    const READ_DIRECTORY: &str = "[method]descriptor.read-directory";
    linker.allow_shadowing(true);
    let mut types = linker.instance("wasi:filesystem/types@0.2.12")?;
    types.func_wrap_async(
        OPEN_AT,
        move |mut store: StoreContextMut<'_, T>, (folder, path_flags, path, open_flags, flags)| {
            Box::new(async move {
                let instance = store.data_mut();
                let (open, table) = files(instance);
                let Some(_reservation) = open.reserve(table) else {
                    return Ok((Err(p2::ErrorCode::Quota),));
                };
                let mut view = instance.filesystem();
                let opened = p2::HostDescriptor::open_at(
                    &mut view, folder, path_flags, path, open_flags, flags,
                );
                match opened.await {
                    Ok(opened) => {
                        let (open, table) = files(instance);
                        open.add(table.get(&opened)?);
                        Ok((Ok(opened),))
                    }
                    Err(error) => Ok((Err(error.downcast()?),)),
                }
            })
        },
    )?;
    types.func_wrap(
        READ_VIA_STREAM,
        move |mut store: StoreContextMut<'_, T>, (file, offset): (Resource<Descriptor>, u64)| {
            let instance = store.data_mut();
            let (open, table) = files(instance);
            let operations = open.operations.clone();
            let Some(reservation) = open.reserve(table) else {
                return Ok((Err(p2::ErrorCode::Quota),));
            };
            let mut view = instance.filesystem();
            let stream = match p2::HostDescriptor::read_via_stream(&mut view, file, offset) {
                Ok(stream) => stream,
                Err(error) => return Ok((Err(error.downcast()?),)),
            };
            let (_, table) = files(instance);
            let inner = table.delete(stream)?;
            let stream: DynInputStream = Box::new(InputOf {
                inner,
                operations,
                permit: None,
                is_ready: false,
                _reservation: reservation,
            });
            Ok((Ok(table.push(stream)?),))
        },
    )?;
    types.func_wrap_async(
        READ_DIRECTORY,
        move |mut store: StoreContextMut<'_, T>, (folder,): (Resource<Descriptor>,)| {
            Box::new(async move {
                let instance = store.data_mut();
                let (open, table) = files(instance);
                let Some(reservation) = open.reserve(table) else {
                    return Ok((Err(p2::ErrorCode::Quota),));
                };
                let mut view = instance.filesystem();
                match p2::HostDescriptor::read_directory(&mut view, folder).await {
                    Ok(listing) => {
                        let (open, _) = files(instance);
                        open.listings.insert(listing.rep(), reservation);
                        Ok((Ok(listing),))
                    }
                    Err(error) => Ok((Err(error.downcast()?),)),
                }
            })
        },
    )?;
    types.resource(
        "directory-entry-stream",
        ResourceType::host::<ReaddirIterator>(),
        move |mut store, index| {
            let (open, table) = files(store.data_mut());
            open.listings.remove(&index);
            table.delete(Resource::<ReaddirIterator>::new_own(index))?;
            Ok(())
        },
    )?;
    let mut types = linker.instance("wasi:filesystem/types@0.3.0")?;
    types.func_wrap_concurrent(
        OPEN_AT,
        move |store: &Accessor<T>, (folder, path_flags, path, open_flags, flags)| {
            Box::pin(async move {
                let (reserved, operations) = store.with(|mut store| {
                    let (open, table) = files(store.get());
                    (open.reserve(table), open.operations.clone())
                });
                let Some(reservation) = reserved else {
                    return Ok((Err(p3::ErrorCode::Quota),));
                };
                let waiting = Arc::new(());
                let is_awaited = Arc::downgrade(&waiting);
                let opened = operations.run(store, move |store| {
                    Box::pin(async move {
                        let view = store.with_getter::<WasiFilesystem>(T::filesystem);
                        let opened = <WasiFilesystem as p3::HostDescriptorWithStore<T>>::open_at(
                            &view, folder, path_flags, path, open_flags, flags,
                        );
                        let opened = opened.await?;
                        let added = store.with(|mut store| {
                            let (open, table) = files(store.get());
                            open.add(table.get(&opened)?);
                            open.unclaimed.push((is_awaited, opened.rep()));
                            wasmtime::error::Ok(())
                        });
                        added.map_err(FilesystemError::trap)?;
                        drop(reservation);
                        Ok(opened)
                    })
                });
                let opened = opened.await?;
                if let Ok(opened) = &opened {
                    store.with(|mut store| {
                        let (open, _) = files(store.get());
                        open.unclaimed.retain(|(_, index)| *index != opened.rep());
                    });
                }
                drop(waiting);
                operations::result(opened)
            })
        },
    )?;
    // wasmtime's keeps the folder open, and a thread of the host waiting, until the component has read everything.
    types.func_wrap(
        READ_DIRECTORY,
        move |mut store: StoreContextMut<'_, T>, (folder,): (Resource<Descriptor>,)| {
            let (open, table) = files(store.data_mut());
            let reserved = open.reserve(table);
            let entries = match (table.get(&folder)?, reserved) {
                (Descriptor::File(_), _) => Err(p3::ErrorCode::NotDirectory),
                (_, None) => Err(p3::ErrorCode::Quota),
                (Descriptor::Dir(folder), Some(reservation)) => {
                    entries(&folder.dir).map(|entries| Entries {
                        entries: entries.into_iter(),
                        _reservation: reservation,
                    })
                }
            };
            let (entries, result) = match entries {
                Ok(entries) => (StreamReader::new(&mut store, entries)?, Ok(())),
                Err(error) => (StreamReader::new(&mut store, Vec::new())?, Err(error)),
            };
            let result = FutureReader::new(&mut store, async { Ok::<_, wasmtime::Error>(result) })?;
            Ok(((entries, result),))
        },
    )?;
    types.func_wrap(
        READ_VIA_STREAM,
        move |mut store: StoreContextMut<'_, T>, (file, offset): (Resource<Descriptor>, u64)| {
            let (open, table) = files(store.data_mut());
            let reserved = open.reserve(table);
            let reader = match (table.get(&file)?, reserved) {
                (Descriptor::Dir(_), _) => Err(p3::ErrorCode::IsDirectory),
                (_, None) => Err(p3::ErrorCode::Quota),
                (Descriptor::File(file), Some(reservation)) => {
                    let (sender, result) = oneshot::channel();
                    let reader = Reader {
                        file: Arc::clone(&file.file),
                        offset,
                        operations: open.operations.clone(),
                        result: Some(sender),
                        reading: None,
                        _reservation: reservation,
                    };
                    Ok((reader, result))
                }
            };
            Ok((match reader {
                Ok((reader, result)) => (
                    StreamReader::new(&mut store, reader)?,
                    FutureReader::new(&mut store, result)?,
                ),
                Err(error) => (
                    StreamReader::new(&mut store, Vec::new())?,
                    FutureReader::new(
                        &mut store,
                        async move { Ok::<_, wasmtime::Error>(Err(error)) },
                    )?,
                ),
            },))
        },
    )?;
    operations::link(linker, move |instance| files(instance).0.operations.clone())?;
    linker.allow_shadowing(false);
    Ok(())
}

/// The entries of a folder. They count as an open file until all are read.
struct Entries {
    entries: std::vec::IntoIter<p3::DirectoryEntry>,
    _reservation: Reservation,
}

impl<D> StreamProducer<D> for Entries {
    type Item = p3::DirectoryEntry;
    type Buffer = Option<p3::DirectoryEntry>;

    fn poll_produce<'a>(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
        mut store: StoreContextMut<'a, D>,
        mut destination: Destination<'a, Self::Item, Self::Buffer>,
        _: bool,
    ) -> Poll<wasmtime::Result<StreamResult>> {
        if destination.remaining(&mut store) == Some(0) {
            return Poll::Ready(Ok(StreamResult::Completed));
        }
        Poll::Ready(Ok(match self.entries.next() {
            Some(entry) => {
                destination.set_buffer(Some(entry));
                StreamResult::Completed
            }
            None => StreamResult::Dropped,
        }))
    }
}

/// Reads a folder.
fn entries(folder: &File) -> Result<Vec<p3::DirectoryEntry>, p3::ErrorCode> {
    let mut entries = Vec::new();
    // The descriptor itself may not be readable.
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let folder = openat(folder, ".", flags, Mode::empty()).map_err(std::io::Error::from)?;
    for entry in Dir::new(folder).map_err(std::io::Error::from)? {
        let entry = entry.map_err(std::io::Error::from)?;
        let name = entry.file_name().to_bytes();
        if name == b"." || name == b".." {
            continue;
        }
        let name = std::str::from_utf8(name).map_err(|_| p3::ErrorCode::IllegalByteSequence)?;
        entries.push(p3::DirectoryEntry {
            // Copies of files are regular files in folders.
            type_: match entry.file_type() {
                FileType::Directory => p3::DescriptorType::Directory,
                FileType::RegularFile => p3::DescriptorType::RegularFile,
                FileType::Symlink => p3::DescriptorType::SymbolicLink,
                _ => p3::DescriptorType::Other(None),
            },
            name: name.to_owned(),
        });
    }
    Ok(entries)
}
