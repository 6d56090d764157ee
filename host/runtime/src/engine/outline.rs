//! What can be said of a component before it is compiled: what it imports and exports, and that compiling it has bounds.

use wasmparser::{FunctionBody, Parser, Payload};

/// Functions of a component with all its modules. The engine of JavaScript has 13 thousand; a million empty ones take
/// Cranelift a minute and 7 GB.
const MAX_FUNCTIONS: usize = 100_000;
/// Bytes of one function. The largest of CPython has 427 kB.
const MAX_FUNCTION: usize = 1 << 20;
/// Bytes of all functions; two cores compile about one or two million a second.
const MAX_CODE: usize = 64 << 20;
/// Bytes of one function times its variables, and the sum over all: the time and memory of the compiler's data flow grow with
/// both. Of the engine of JavaScript, 9 million and 130 million; at these bounds, a minute and 3 GB.
const MAX_FUNCTION_WEIGHT: u64 = 64_000_000;
const MAX_WEIGHT: u64 = 1_000_000_000;

/// A component, from outside.
pub(crate) struct Outline {
    /// The names of what it imports.
    pub(crate) imports: Vec<String>,
    /// The names of what it exports.
    pub(crate) exports: Vec<String>,
}

/// What compiling a component costs.
#[derive(Default)]
struct Cost {
    functions: usize,
    code: usize,
    weight: u64,
}

impl Outline {
    /// Reads a component.
    ///
    /// # Errors
    /// When the bytes are no component, or one that would take too long to compile.
    pub(crate) fn of(wasm: &[u8]) -> anyhow::Result<Self> {
        anyhow::ensure!(
            Parser::is_component(wasm),
            "it is not a WebAssembly component"
        );
        let mut outline = Self {
            imports: Vec::new(),
            exports: Vec::new(),
        };
        let mut cost = Cost::default();
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
                Payload::CodeSectionEntry(body) => cost.add(&body)?,
                _ => {}
            }
        }
        Ok(outline)
    }
}

impl Cost {
    fn add(&mut self, body: &FunctionBody<'_>) -> anyhow::Result<()> {
        let bytes = body.range().len();
        let mut variables = 0_u64;
        for group in body.get_locals_reader()? {
            variables += u64::from(group?.0);
        }
        let weight = variables.saturating_mul(bytes as u64);
        self.functions += 1;
        self.code += bytes;
        self.weight = self.weight.saturating_add(weight);
        anyhow::ensure!(
            bytes <= MAX_FUNCTION && weight <= MAX_FUNCTION_WEIGHT,
            "one of its functions has {bytes} bytes and {variables} variables, which is too much to compile; let its compiler optimize it, or split the function"
        );
        anyhow::ensure!(
            self.functions <= MAX_FUNCTIONS && self.code <= MAX_CODE && self.weight <= MAX_WEIGHT,
            "it has more functions, or larger ones, than the host compiles (at most {MAX_FUNCTIONS}, with {} MiB); let its compiler optimize it for size, or split it into several components",
            MAX_CODE >> 20
        );
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use wasm_encoder::{
        CodeSection, Component, Function, FunctionSection, Module, ModuleSection,
        NestedComponentSection, TypeSection, ValType,
    };

    use super::{MAX_FUNCTION, MAX_FUNCTIONS, Outline};

    /// A component of a component with a module, which has so many functions of so many variables and bytes.
    fn component(functions: usize, variables: u32, bytes: usize) -> Vec<u8> {
        let mut types = TypeSection::new();
        types.ty().function([], []);
        let mut declared = FunctionSection::new();
        let mut code = CodeSection::new();
        let mut function = Function::new([(variables, ValType::I32)]);
        for _ in 0..bytes {
            function.instructions().nop();
        }
        function.instructions().end();
        for _ in 0..functions {
            declared.function(0);
            code.function(&function);
        }
        let mut module = Module::new();
        module.section(&types).section(&declared).section(&code);
        let mut inner = Component::new();
        inner.section(&ModuleSection(&module));
        let mut outer = Component::new();
        outer.section(&NestedComponentSection(&inner));
        outer.finish()
    }

    fn refused(component: &[u8]) -> String {
        let outline = Outline::of(component);
        outline.err().expect("it is to be refused").to_string()
    }

    #[test]
    fn what_would_take_too_long_to_compile_is_refused() {
        let whole = "more functions, or larger ones";
        let one = "one of its functions has";
        assert!(Outline::of(&component(MAX_FUNCTIONS, 0, 0)).is_ok());
        assert!(refused(&component(MAX_FUNCTIONS + 1, 0, 0)).contains(whole));
        assert!(Outline::of(&component(1, 0, MAX_FUNCTION - 10)).is_ok());
        assert!(refused(&component(1, 0, MAX_FUNCTION)).contains(one));
        assert!(refused(&component(65, 0, MAX_FUNCTION - 10)).contains(whole));
        assert!(Outline::of(&component(1, 50_000, 1_000)).is_ok());
        assert!(refused(&component(1, 50_000, 2_000)).contains(one));
        assert!(refused(&component(25, 50_000, 1_000)).contains(whole));
    }

    #[test]
    fn what_is_no_component_is_refused() {
        for bytes in [&b""[..], b"text", b"\0asm\x01\0\0\0"] {
            assert!(refused(bytes).contains("not a WebAssembly component"));
        }
        let mut cut = component(1, 0, 0);
        cut.truncate(cut.len() - 3);
        assert!(Outline::of(&cut).is_err());
    }
}
