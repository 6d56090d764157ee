//! What a component imports and exports, read before it is compiled.

use wasmparser::{Parser, Payload, Validator, WasmFeatures};

/// The names of a component's imports and exports.
#[derive(Debug)]
pub struct Outline {
    /// Names of imports.
    pub imports: Vec<String>,
    /// Names of exports.
    pub exports: Vec<String>,
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
        };
        let mut depth = 0_usize;
        for payload in Parser::new(0).parse_all(wasm) {
            match payload? {
                Payload::ModuleSection { .. } | Payload::ComponentSection { .. } => depth += 1,
                Payload::End(_) => depth = depth.saturating_sub(1),
                Payload::ComponentImportSection(imports) if depth == 0 => {
                    for import in imports {
                        outline.imports.push(import?.name.name.to_owned());
                    }
                }
                Payload::ComponentExportSection(exports) if depth == 0 => {
                    for export in exports {
                        outline.exports.push(export?.name.name.to_owned());
                    }
                }
                _ => {}
            }
        }
        Ok(outline)
    }
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
    fn bytes_that_are_not_a_component_are_refused() {
        for bytes in [&b""[..], b"text", b"\0asm\x01\0\0\0"] {
            assert!(Outline::of(bytes).is_err());
        }
    }
}
