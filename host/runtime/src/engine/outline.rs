//! What a component imports and exports, read before it is compiled.

use wasmparser::{
    ComponentAlias, ComponentExternalKind, ComponentInstance, ComponentOuterAliasKind, Parser,
    Payload, Validator, WasmFeatures,
};

/// The names of a component's imports and exports.
#[derive(Debug)]
pub struct Outline {
    /// Names of imports.
    pub imports: Vec<String>,
    /// Names of exports.
    pub exports: Vec<String>,
    /// Number of component instances that an instance consists of, itself included.
    pub instances: usize,
}

/// A component within the one that is read.
#[derive(Default)]
struct Nested {
    /// Number of instances in each of the components that it can instantiate; of one that is given to it, unknown.
    components: Vec<Option<usize>>,
    /// Number of instances that it consists of.
    instances: usize,
}

impl Outline {
    /// Reads a component and validates all of it.
    ///
    /// # Errors
    /// When the bytes are not a valid component.
    pub fn validated(wasm: &[u8]) -> anyhow::Result<Self> {
        let outline = Self::of(wasm)?;
        Validator::new_with_features(WasmFeatures::all()).validate_all(wasm)?;
        Ok(outline)
    }

    /// Reads a component.
    ///
    /// # Errors
    /// When the bytes are not a component.
    pub(crate) fn of(wasm: &[u8]) -> anyhow::Result<Self> {
        anyhow::ensure!(Parser::is_component(wasm), "not a WebAssembly component");
        let mut outline = Self {
            imports: Vec::new(),
            exports: Vec::new(),
            instances: 0,
        };
        // The components that the parser is in, and `None` for a module.
        let mut inside: Vec<Option<Nested>> = vec![Some(Nested::default())];
        for payload in Parser::new(0).parse_all(wasm) {
            let payload = payload?;
            match &payload {
                Payload::ModuleSection { .. } => inside.push(None),
                Payload::ComponentSection { .. } => inside.push(Some(Nested::default())),
                Payload::End(_) => {
                    if let Some(Some(ended)) = inside.pop() {
                        let instances = ended.instances.saturating_add(1);
                        match inside.last_mut() {
                            Some(Some(outer)) => outer.components.push(Some(instances)),
                            _ => outline.instances = instances,
                        }
                    }
                }
                Payload::ComponentImportSection(imports) if inside.len() == 1 => {
                    for import in imports.clone() {
                        outline.imports.push(import?.name.name.to_owned());
                    }
                }
                Payload::ComponentExportSection(exports) if inside.len() == 1 => {
                    for export in exports.clone() {
                        outline.exports.push(export?.name.name.to_owned());
                    }
                }
                _ => {}
            }
            count_instances(&mut inside, payload)?;
        }
        Ok(outline)
    }
}

/// Keeps track of the components that can be instantiated, and counts instances.
fn count_instances(inside: &mut [Option<Nested>], payload: Payload<'_>) -> anyhow::Result<()> {
    let Some((Some(current), outer)) = inside.split_last_mut() else {
        return Ok(());
    };
    match payload {
        Payload::ComponentImportSection(imports) => {
            for import in imports {
                if import?.ty.kind() == ComponentExternalKind::Component {
                    current.components.push(None);
                }
            }
        }
        Payload::ComponentExportSection(exports) => {
            // An export defines the component once more.
            for export in exports {
                let export = export?;
                if export.kind == ComponentExternalKind::Component {
                    let count = current.components.get(export.index as usize).copied();
                    current.components.push(count.flatten());
                }
            }
        }
        Payload::ComponentAliasSection(aliases) => {
            for alias in aliases {
                match alias? {
                    ComponentAlias::InstanceExport {
                        kind: ComponentExternalKind::Component,
                        ..
                    } => current.components.push(None),
                    ComponentAlias::Outer {
                        kind: ComponentOuterAliasKind::Component,
                        count,
                        index,
                    } => {
                        let from = (outer.len()).checked_sub(count as usize);
                        let from = from.and_then(|at| outer.get(at)?.as_ref());
                        let count = from.and_then(|from| from.components.get(index as usize));
                        current.components.push(count.copied().flatten());
                    }
                    _ => {}
                }
            }
        }
        Payload::ComponentInstanceSection(instances) => {
            for instance in instances {
                if let ComponentInstance::Instantiate {
                    component_index, ..
                } = instance?
                {
                    let count = current.components.get(component_index as usize).copied();
                    let count = count.flatten().unwrap_or(usize::MAX);
                    current.instances = current.instances.saturating_add(count);
                }
            }
        }
        _ => {}
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use wasm_encoder::{
        Component, ComponentExportKind, ComponentExportSection, ComponentImportSection,
        ComponentTypeRef, InstanceType, NestedComponentSection,
    };

    use super::Outline;

    #[test]
    fn nested_components_are_ignored() {
        let component = |import: &str, inner: Option<&Component>| {
            let mut types = wasm_encoder::ComponentTypeSection::new();
            types.instance(&InstanceType::new());
            let mut imports = ComponentImportSection::new();
            imports.import(import, ComponentTypeRef::Instance(0));
            let mut exports = ComponentExportSection::new();
            exports.export(
                format!("{import}-out"),
                ComponentExportKind::Instance,
                0,
                None,
            );
            let mut component = Component::new();
            if let Some(inner) = inner {
                component.section(&NestedComponentSection(inner));
            }
            component
                .section(&types)
                .section(&imports)
                .section(&exports);
            component
        };
        let inner = component("a:b/inner", None);
        let outline = Outline::of(&component("a:b/outer", Some(&inner)).finish()).unwrap();
        assert_eq!(outline.imports, ["a:b/outer"]);
        assert_eq!(outline.exports, ["a:b/outer-out"]);
    }

    #[test]
    fn instances_of_nested_components_are_counted_each_time() {
        use wasm_encoder::{ComponentInstanceSection, InstanceSection};

        let nest = |inner: &Component, times: u32| {
            let mut instances = ComponentInstanceSection::new();
            for _ in 0..times {
                instances.instantiate(0, [] as [(&str, ComponentExportKind, u32); 0]);
            }
            let mut component = Component::new();
            component.section(&NestedComponentSection(inner));
            component.section(&instances);
            component
        };
        // Core modules do not count.
        let mut leaf = Component::new();
        leaf.section(&wasm_encoder::ModuleSection(&wasm_encoder::Module::new()));
        let mut cores = InstanceSection::new();
        cores.instantiate(0, [] as [(&str, wasm_encoder::ModuleArg); 0]);
        leaf.section(&cores);
        let count = |component: Component| Outline::of(&component.finish()).unwrap().instances;
        assert_eq!(count(leaf.clone()), 1);
        assert_eq!(count(nest(&leaf, 3)), 4);
        assert_eq!(count(nest(&nest(&leaf, 3), 5)), 1 + 5 * 4);
    }

    #[test]
    fn bytes_that_are_not_a_component_are_refused() {
        for bytes in [&b""[..], b"text", b"\0asm\x01\0\0\0"] {
            assert!(Outline::of(bytes).is_err());
        }
    }
}
