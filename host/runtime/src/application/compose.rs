//! The bytes of a component: read from files and composed with its dependencies.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use fetch::components::{MAX_COMPONENT, read_component};
use manifest::{Dependency, Implementation, Manifest, Source};

use crate::capabilities::{Capabilities, selected_files};
use crate::engine::{Part, compose};

/// Returns the local files that an application is made of, apart from its manifest. Missing ones are left out: loading reports
/// them.
#[must_use]
pub fn files_of(manifest: &Manifest) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for component in manifest.components.values() {
        if let Source::Path(path) = &component.source {
            files.push(manifest.folder.join(path));
        }
        let paths = component.dependencies.values().filter_map(|dependency| {
            match &dependency.implementation {
                Implementation::Path(path) => Some(path),
                Implementation::Component(_) => None,
            }
        });
        files.extend(paths.map(|path| manifest.folder.join(path)));
        files.extend(selected_files(manifest, component).unwrap_or_default());
    }
    files
}

/// Returns the bytes of a component, composed with its dependencies. Components in `known` are not composed again.
pub(super) fn composed(
    manifest: &Manifest,
    id: &str,
    known: &mut BTreeMap<String, Vec<u8>>,
) -> anyhow::Result<Vec<u8>> {
    if let Some(wasm) = known.get(id) {
        return Ok(wasm.clone());
    }
    let entry = &manifest.components[id];
    let Source::Path(path) = &entry.source else {
        anyhow::bail!("component {id}: {} was not fetched", &entry.source);
    };
    let wasm = read(manifest, path, id)?;
    let mut size = wasm.len() as u64;
    // One instance of a dependency satisfies all imports that name it.
    let mut parts: BTreeMap<String, Part> = BTreeMap::new();
    for (import, dependency) in &entry.dependencies {
        let name = dependency_name(dependency);
        let inherits = dependency.inherit_configuration || entry.dependencies_inherit_configuration;
        let part = match parts.entry(name.clone()) {
            Entry::Occupied(part) => part.into_mut(),
            Entry::Vacant(vacant) => {
                let wasm = match &dependency.implementation {
                    Implementation::Component(other) => composed(manifest, other, known)?,
                    Implementation::Path(path) => read(manifest, path, id)?,
                };
                size += wasm.len() as u64;
                anyhow::ensure!(
                    size <= MAX_COMPONENT,
                    "component {id} has more than {} MiB with its dependencies and theirs; reduce them",
                    MAX_COMPONENT >> 20
                );
                vacant.insert(Part {
                    name,
                    wasm,
                    inherits,
                    imports: Vec::new(),
                })
            }
        };
        part.inherits &= inherits;
        part.imports
            .push((import.clone(), dependency.export.clone()));
    }
    let wasm = compose(id, wasm, parts.into_values().collect(), |import| {
        Capabilities::grants_access(entry, import)
    })?;
    known.insert(id.to_owned(), wasm.clone());
    Ok(wasm)
}

fn dependency_name(dependency: &Dependency) -> String {
    match &dependency.implementation {
        Implementation::Component(other) => other.clone(),
        Implementation::Path(path) => path.display().to_string(),
    }
}

fn read(manifest: &Manifest, source: &Path, id: &str) -> anyhow::Result<Vec<u8>> {
    read_component(&manifest.folder.join(source)).with_context(|| format!("component {id}"))
}
