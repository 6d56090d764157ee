//! Composition of a component and its dependencies into one component, before compilation.

use anyhow::Context as _;
use semver::Version;
use wac_graph::types::Package;
use wac_graph::{CompositionGraph, EncodeOptions, NodeId};

/// A component that satisfies imports of another.
pub(crate) struct Part {
    /// Its name in errors: the component's id or the file's path.
    pub(crate) name: String,
    pub(crate) wasm: Vec<u8>,
    /// Whether it may use what the other component is granted.
    pub(crate) inherits: bool,
    /// The imports it satisfies: an interface (`speech:pipeline/features`, with or without a version), or a package, for all of
    /// its interfaces; and the export to use, if it has another name.
    pub(crate) imports: Vec<(String, Option<String>)>,
}

/// Composes `wasm`, called `name` in errors, with its dependencies.
///
/// Imports that no part satisfies remain imports of the result. `restricted` returns whether an interface gives access to what
/// the component is granted; a part that does not inherit may import none of these.
pub(crate) fn compose(
    name: &str,
    wasm: Vec<u8>,
    parts: Vec<Part>,
    restricted: impl Fn(&str) -> bool,
) -> anyhow::Result<Vec<u8>> {
    if parts.is_empty() {
        return Ok(wasm);
    }
    let mut graph = CompositionGraph::new();
    let socket = Package::from_bytes(name, None, wasm, graph.types_mut())
        .with_context(|| format!("component {name} is not a WebAssembly component"))?;
    let world = graph.types()[socket.ty()].clone();
    let socket = graph.register_package(socket)?;
    let socket = graph.instantiate(socket);

    for part in parts {
        let package = Package::from_bytes(
            &format!("dependency:{}", part.name),
            None,
            part.wasm,
            graph.types_mut(),
        )
        .with_context(|| {
            format!(
                "dependency {} of component {name} is not a WebAssembly component",
                part.name
            )
        })?;
        let part_world = graph.types()[package.ty()].clone();
        if !part.inherits
            && let Some(import) = part_world.imports.keys().find(|import| restricted(import))
        {
            anyhow::bail!(
                "dependency {} of component {name} imports {import}, but is not given what {name} is granted: \
                 add `inherit_configuration = true` to the dependency, or remove the import from {}",
                part.name,
                part.name,
            );
        }
        let package = graph.register_package(package)?;
        let plug = graph.instantiate(package);
        for (wanted, export) in &part.imports {
            let imports: Vec<&String> = world
                .imports
                .keys()
                .filter(|import| matches(wanted, import))
                .collect();
            if imports.is_empty() {
                let foreign: Vec<&str> = world
                    .imports
                    .keys()
                    .map(String::as_str)
                    .filter(|import| !import.starts_with("wasi:"))
                    .collect();
                anyhow::bail!(
                    "component {name} has no import {wanted} for dependency {} to satisfy; apart from WASI it imports {}",
                    part.name,
                    if foreign.is_empty() {
                        "nothing".to_owned()
                    } else {
                        foreign.join(", ")
                    },
                );
            }
            for import in imports {
                let export = part_world
                    .exports
                    .keys()
                    .find(|candidate| matches(export.as_deref().unwrap_or(import), candidate) || compatible(import, candidate) && export.is_none())
                    .with_context(|| {
                        format!(
                            "dependency {} does not export {}, which component {name} imports; it exports: {}",
                            part.name,
                            export.as_deref().unwrap_or(import),
                            part_world.exports.keys().cloned().collect::<Vec<_>>().join(", "),
                        )
                    })?
                    .clone();
                connect(&mut graph, socket, plug, import, &export).with_context(|| {
                    format!("{export} of dependency {} does not match the {import} that component {name} imports", part.name)
                })?;
            }
        }
    }
    for export in world.exports.keys() {
        let node = graph.alias_instance_export(socket, export)?;
        graph.export(node, export.clone())?;
    }
    graph
        .encode(EncodeOptions::default())
        .with_context(|| format!("cannot compose component {name} with its dependencies"))
}

fn connect(
    graph: &mut CompositionGraph,
    socket: NodeId,
    plug: NodeId,
    import: &str,
    export: &str,
) -> anyhow::Result<()> {
    let node = graph.alias_instance_export(plug, export)?;
    graph.set_instantiation_argument(socket, import, node)?;
    Ok(())
}

/// Returns whether `wanted` (a package or an interface, with or without a version) refers to the interface `name`.
fn matches(wanted: &str, name: &str) -> bool {
    let (wanted, version) = split_version(wanted);
    let (name, name_version) = split_version(name);
    let path = wanted == name
        || name
            .strip_prefix(wanted)
            .is_some_and(|rest| rest.starts_with('/'));
    path && version.is_none_or(|version| Some(version) == name_version)
}

/// Returns whether two names refer to the same interface, at compatible versions.
fn compatible(a: &str, b: &str) -> bool {
    let (a, a_version) = split_version(a);
    let (b, b_version) = split_version(b);
    a == b
        && match (a_version.map(Version::parse), b_version.map(Version::parse)) {
            (Some(Ok(a)), Some(Ok(b))) => are_compatible(&a, &b),
            _ => a_version == b_version,
        }
}

/// Returns whether two versions are compatible by Cargo's rules: within `1.x.x`, `0.1.x` or `0.0.1`. A pre-release is compatible
/// with itself only.
fn are_compatible(a: &Version, b: &Version) -> bool {
    let series = |version: &Version| match (version.major, version.minor) {
        (0, 0) => (0, 0, version.patch),
        (0, minor) => (0, minor, 0),
        (major, _) => (major, 0, 0),
    };
    let is_release = |version: &Version| version.pre.is_empty();
    a == b || is_release(a) && is_release(b) && series(a) == series(b)
}

fn split_version(name: &str) -> (&str, Option<&str>) {
    match name.split_once('@') {
        Some((name, version)) => (name, Some(version)),
        None => (name, None),
    }
}

#[cfg(test)]
mod tests {
    use super::{compatible, matches};

    #[test]
    fn a_dependency_names_an_interface_or_a_package_with_or_without_a_version() {
        assert!(matches(
            "speech:pipeline/features",
            "speech:pipeline/features@0.1.0"
        ));
        assert!(matches(
            "speech:pipeline/features@0.1.0",
            "speech:pipeline/features@0.1.0"
        ));
        assert!(matches("speech:pipeline", "speech:pipeline/features@0.1.0"));
        assert!(!matches(
            "speech:pipeline/features@0.2.0",
            "speech:pipeline/features@0.1.0"
        ));
        assert!(!matches("speech:pipe", "speech:pipeline/features@0.1.0"));
        assert!(!matches(
            "speech:pipeline/front",
            "speech:pipeline/features@0.1.0"
        ));
    }

    #[test]
    fn versions_are_compatible_by_semver() {
        assert!(compatible("a:b/c@0.2.3", "a:b/c@0.2.12"));
        assert!(!compatible("a:b/c@0.2.3", "a:b/c@0.3.0"));
        assert!(compatible("a:b/c@1.2.3", "a:b/c@1.9.0"));
        assert!(!compatible("a:b/c@1.2.3", "a:b/d@1.2.3"));
        assert!(!compatible("a:b/c@0.0.1", "a:b/c@0.0.2"));
        assert!(compatible("a:b/c@0.2.0-rc.1", "a:b/c@0.2.0-rc.1"));
        assert!(!compatible("a:b/c@0.2.0-rc.1", "a:b/c@0.2.0"));
        assert!(!compatible("a:b/c@0.2.0-rc.1", "a:b/c@0.2.0-rc.2"));
        assert!(compatible("a:b/c", "a:b/c"));
        assert!(!compatible("a:b/c", "a:b/c@0.2.0"));
    }
}
