//! A graph builder: nodes, weights, inputs and outputs, and the session created from them in memory.

use std::collections::HashMap;
use std::sync::Arc;

use half::f16;
use memmap2::Mmap;
use ort::AsPointer;
use ort::editor::{self, Node, ONNX_DOMAIN, Opset};
use ort::memory::{Allocator, MemoryInfo};
use ort::operator::Attribute;
use ort::session::Session;
use ort::session::builder::SessionBuilder;
use ort::value::{
    DynValue, Outlet, Shape, SymbolicDimensions, Tensor, TensorElementType, ValueType,
};

use crate::kernels::ZERO_POINT;
use crate::weights::{Affine, BLOCK, Element, Form, Matrix, Prepared, View, release};

/// The domain of ONNX Runtime's fused operators.
pub(super) const FUSED: &str = "com.microsoft";

/// The domain of the custom operators.
pub(super) const CUSTOM: &str = "whisper_host";

/// The versions of the operators, by domain.
const OPSETS: [(&str, u32); 3] = [(ONNX_DOMAIN, 17), (FUSED, 1), (CUSTOM, 1)];

/// Smaller initializers, in bytes, are copied into the graph: ONNX Runtime does not accept them as external data.
const MIN_EXTERNAL: usize = 128;

/// How a graph computes with its weights.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Arithmetic {
    /// Floats of the graph's type.
    Float,
    /// Bytes with a scale per block, multiplied with rows that are quantised one by one. Fast for few rows.
    Blocks,
    /// Bytes with a scale per output, multiplied with rows that have a scale each. Custom kernels compute everything between the
    /// products. Fast for many rows of one window.
    Rows,
}

/// The output of a linear layer. The next operator has to multiply each row by its scale and to add the bias.
pub(super) struct Linear {
    pub product: String,
    /// Only with [`Arithmetic::Rows`].
    pub scales: Option<String>,
    pub bias: Option<String>,
}

impl Linear {
    /// Returns the inputs for a custom operator.
    pub fn inputs(&self) -> ort::Result<[&str; 3]> {
        match self {
            Linear {
                product,
                scales: Some(scales),
                bias: Some(bias),
            } => Ok([product, scales, bias]),
            _ => Err(ort::Error::new("a linear layer has no scales or no bias")),
        }
    }
}

/// A graph builder. Values are identified by name.
pub(super) struct Graph {
    nodes: Vec<Node>,
    initializers: Vec<(String, Initializer)>,
    inputs: Vec<Outlet>,
    outputs: Vec<Outlet>,
    /// The type of states: f32 or f16.
    pub element: TensorElementType,
    /// How linear layers compute.
    pub arithmetic: Arithmetic,
    /// The values quantised by rows, with the names of their bytes and scales.
    quantised_rows: HashMap<String, (String, String)>,
}

enum Initializer {
    Weights(Matrix, Form, Vec<usize>),
    Bytes(TensorElementType, Vec<usize>, Vec<u8>),
}

/// A session and the files with its weights, which must stay mapped while it exists.
pub(super) struct Built {
    pub session: Session,
    pub maps: Vec<Arc<Mmap>>,
}

impl Graph {
    pub fn new(element: TensorElementType, arithmetic: Arithmetic) -> Self {
        Self {
            nodes: Vec::new(),
            initializers: Vec::new(),
            inputs: Vec::new(),
            outputs: Vec::new(),
            element,
            arithmetic,
            quantised_rows: HashMap::new(),
        }
    }

    /// Adds an input of the graph; a dimension of -1 is variable.
    pub fn input(&mut self, name: &str, element: TensorElementType, shape: &[i64]) -> String {
        self.inputs.push(outlet(name, element, shape));
        name.to_owned()
    }

    /// Makes the value `name` an output of the graph.
    pub fn output(&mut self, name: &str, element: TensorElementType, shape: &[i64]) {
        self.outputs.push(outlet(name, element, shape));
    }

    /// Adds a node with the named outputs. An empty name omits an input or output.
    pub fn node<const N: usize>(
        &mut self,
        operator: &str,
        domain: &str,
        inputs: &[&str],
        outputs: &[&str],
        attributes: [Attribute; N],
    ) -> ort::Result<()> {
        let name = format!("{operator}_{}", self.nodes.len());
        let node = Node::new(operator, domain, name, inputs, outputs, attributes)?;
        self.nodes.push(node);
        Ok(())
    }

    /// Adds a node with one output, and returns its name.
    pub fn op<const N: usize>(
        &mut self,
        operator: &str,
        domain: &str,
        inputs: &[&str],
        attributes: [Attribute; N],
    ) -> ort::Result<String> {
        let output = self.fresh(operator);
        self.node(operator, domain, inputs, &[&output], attributes)?;
        Ok(output)
    }

    /// Returns a unique name.
    pub fn fresh(&self, what: &str) -> String {
        format!("{what}_{}_out", self.nodes.len())
    }

    /// Adds a constant of integers.
    pub fn integers(&mut self, name: &str, shape: &[usize], values: &[i64]) -> String {
        let bytes = values
            .iter()
            .flat_map(|value| value.to_le_bytes())
            .collect();
        self.constant(name, TensorElementType::Int64, shape, bytes)
    }

    /// Adds a constant of floats, in the type of the graph.
    pub fn floats(&mut self, name: &str, shape: &[usize], values: &[f32]) -> String {
        let bytes = match self.element {
            TensorElementType::Float16 => values
                .iter()
                .flat_map(|&x| f16::from_f32(x).to_le_bytes())
                .collect(),
            _ => values.iter().flat_map(|x| x.to_le_bytes()).collect(),
        };
        self.constant(name, self.element, shape, bytes)
    }

    fn constant(
        &mut self,
        name: &str,
        element: TensorElementType,
        shape: &[usize],
        bytes: Vec<u8>,
    ) -> String {
        if !self.initializers.iter().any(|(other, _)| other == name) {
            let initializer = Initializer::Bytes(element, shape.to_vec(), bytes);
            self.initializers.push((name.to_owned(), initializer));
        }
        name.to_owned()
    }

    /// Adds a matrix in the type of the graph, with another shape of the same size.
    pub fn matrix(&mut self, name: &str, matrix: &Matrix, shape: &[usize]) -> String {
        self.reshaped(name, matrix, self.form(), shape.to_vec())
    }

    /// Returns the form of weights that are not quantised.
    fn form(&self) -> Form {
        match self.element {
            TensorElementType::Float16 => Form::F16,
            _ => Form::F32,
        }
    }

    fn weights(&mut self, name: &str, matrix: &Matrix, form: Form) -> String {
        self.reshaped(name, matrix, form, matrix.shape(form))
    }

    fn reshaped(&mut self, name: &str, matrix: &Matrix, form: Form, shape: Vec<usize>) -> String {
        let name = format!("{name}.{}", suffix(form));
        let weights = Initializer::Weights(matrix.clone(), form, shape);
        self.initializers.push((name.clone(), weights));
        name
    }

    /// Computes `input · weightᵀ + bias`; `input` is `[…, columns]`.
    pub fn affine(&mut self, name: &str, input: &str, affine: &Affine) -> ort::Result<String> {
        let Linear {
            product,
            bias,
            scales,
        } = self.linear(name, input, affine)?;
        if scales.is_some() {
            return Err(ort::Error::new(
                "nothing multiplies the rows by their scales",
            ));
        }
        match bias {
            Some(bias) => self.op("Add", ONNX_DOMAIN, &[&product, &bias], []),
            None => Ok(product),
        }
    }

    /// As [`Graph::affine`], for an operator that can add a bias to its input.
    pub fn linear(&mut self, name: &str, input: &str, affine: &Affine) -> ort::Result<Linear> {
        let Affine { weight, bias } = affine;
        let zeros = vec![0.0; weight.rows];
        let bias = match self.arithmetic {
            Arithmetic::Rows if bias.is_empty() => &zeros, // custom operators always add one
            _ => bias,
        };
        let bias =
            (!bias.is_empty()).then(|| self.floats(&format!("{name}.bias"), &[bias.len()], bias));
        Ok(match self.arithmetic {
            Arithmetic::Blocks => Linear {
                product: self.product_of_blocks(name, input, weight, bias.as_deref())?,
                scales: None,
                bias: None,
            },
            Arithmetic::Float => Linear {
                product: self.product(name, input, weight)?,
                scales: None,
                bias,
            },
            Arithmetic::Rows => Linear {
                product: self.product(name, input, weight)?,
                scales: Some(self.quantise_rows(input)?.1),
                bias,
            },
        })
    }

    /// Computes `input · weightᵀ`. With [`Arithmetic::Rows`], its rows have to be multiplied by the scales of `input`'s rows.
    pub fn product(&mut self, name: &str, input: &str, weight: &Matrix) -> ort::Result<String> {
        match self.arithmetic {
            Arithmetic::Float => {
                let weight = self.weights(name, weight, self.form());
                let transposed = Attribute::new("transB", 1i64)?;
                self.op("FusedMatMul", FUSED, &[input, &weight], [transposed])
            }
            Arithmetic::Blocks => self.product_of_blocks(name, input, weight, None),
            Arithmetic::Rows => self.product_of_rows(name, input, weight),
        }
    }

    fn product_of_blocks(
        &mut self,
        name: &str,
        input: &str,
        weight: &Matrix,
        bias: Option<&str>,
    ) -> ort::Result<String> {
        let bytes = self.weights(name, weight, Form::BlockBytes);
        let scales = self.block_scales(name, weight)?;
        self.op(
            "MatMulNBits",
            FUSED,
            &[input, &bytes, &scales, "", "", bias.unwrap_or_default()],
            [
                Attribute::new("K", weight.columns as i64)?,
                Attribute::new("N", weight.rows as i64)?,
                Attribute::new("bits", 8i64)?,
                Attribute::new("block_size", BLOCK as i64)?,
                // Integer products: the rows of the input are quantised one by one.
                Attribute::new("accuracy_level", 4i64)?,
            ],
        )
    }

    fn product_of_rows(&mut self, name: &str, input: &str, weight: &Matrix) -> ort::Result<String> {
        let (bytes, _) = self.quantise_rows(input)?;
        let weights = self.weights(name, weight, Form::ColumnBytes);
        let columns = self.weights(name, weight, Form::ColumnScales);
        let one = self.floats("one", &[], &[1.0]);
        let zero = vec![ZERO_POINT as u8];
        let zero = self.constant("zero_point", TensorElementType::Uint8, &[], zero);
        let inputs = [&bytes, &weights, &one, &columns, &zero];
        self.op(
            "MatMulIntegerToFloat",
            FUSED,
            &inputs.map(String::as_str),
            [],
        )
    }

    /// Quantises the rows of `input`. Returns its bytes, `[1, rows, columns]`, and the scales of its rows, `[rows]`.
    pub fn quantise_rows(&mut self, input: &str) -> ort::Result<(String, String)> {
        if let Some(known) = self.quantised_rows.get(input) {
            return Ok(known.clone());
        }
        self.row_op("QuantiseRows", &[input], &[], input.to_owned())?;
        self.quantise_rows(input)
    }

    /// Adds a custom node that outputs bytes and scales of rows, which then represent the value `name`, and `more` outputs.
    pub fn row_op(
        &mut self,
        operator: &str,
        inputs: &[&str],
        more: &[&str],
        name: String,
    ) -> ort::Result<()> {
        let (bytes, scales) = (self.fresh("bytes"), self.fresh("scales"));
        let outputs = [&[bytes.as_str(), &scales], more].concat();
        self.node(operator, CUSTOM, inputs, &outputs, [])?;
        self.quantised_rows.insert(name, (bytes, scales));
        Ok(())
    }

    /// Adds the block scales of a matrix, in the type of the graph.
    fn block_scales(&mut self, name: &str, weight: &Matrix) -> ort::Result<String> {
        let scales = self.weights(name, weight, Form::BlockScales);
        self.cast_to_graph_type(scales)
    }

    /// Casts an f32 value to the type of the graph.
    fn cast_to_graph_type(&mut self, value: String) -> ort::Result<String> {
        match self.element {
            TensorElementType::Float16 => {
                let to = Attribute::new("to", 10i64)?; // FLOAT16 of ONNX's TensorProto
                self.op("Cast", ONNX_DOMAIN, &[&value], [to])
            }
            _ => Ok(value),
        }
    }

    /// Gathers the rows `indices` of `matrix`. In blocks, it shares the bytes of the linear layer `twin` with the same matrix.
    pub fn gather(
        &mut self,
        name: &str,
        twin: &str,
        matrix: &Matrix,
        indices: &str,
    ) -> ort::Result<String> {
        if self.arithmetic != Arithmetic::Blocks {
            // A half-precision table in a file is equally exact, and stays mapped.
            let halves = matrix.mapped(Form::F16).is_some();
            let form = if halves { Form::F16 } else { self.form() };
            let rows = self.weights(name, matrix, form);
            let gathered = self.op("Gather", ONNX_DOMAIN, &[&rows, indices], [])?;
            return match self.element {
                TensorElementType::Float32 if halves => {
                    let to = Attribute::new("to", 1i64)?; // FLOAT of ONNX's TensorProto
                    self.op("Cast", ONNX_DOMAIN, &[&gathered], [to])
                }
                _ => Ok(gathered),
            };
        }
        let shape = vec![matrix.rows, matrix.columns];
        let bytes = self.shared_weights(name, twin, matrix, Form::BlockBytes, shape);
        let shape = matrix.shape(Form::BlockScales);
        let scales = self.shared_weights(name, twin, matrix, Form::BlockScales, shape);
        let gathered = self.op(
            "GatherBlockQuantized",
            FUSED,
            &[&bytes, indices, &scales],
            [
                Attribute::new("gather_axis", 0i64)?,
                Attribute::new("quantize_axis", 1i64)?,
                Attribute::new("block_size", BLOCK as i64)?,
                Attribute::new("bits", 8i64)?,
            ],
        )?;
        self.cast_to_graph_type(gathered)
    }

    /// Adds an initializer with the bytes of `twin`'s.
    fn shared_weights(
        &mut self,
        name: &str,
        twin: &str,
        matrix: &Matrix,
        form: Form,
        shape: Vec<usize>,
    ) -> String {
        let name = format!("{name}.{}@{twin}", suffix(form));
        self.initializers.push((
            name.clone(),
            Initializer::Weights(matrix.clone(), form, shape),
        ));
        name
    }

    /// Returns the quantised weights, by their names in the cache.
    pub fn quantised(&self) -> Vec<(String, Matrix, Form)> {
        let mut weights: Vec<(String, Matrix, Form)> = self
            .initializers
            .iter()
            .filter_map(|(name, initializer)| match initializer {
                Initializer::Weights(matrix, form, _) if form.is_quantised() => {
                    Some((cached_name(name), matrix.clone(), *form))
                }
                _ => None,
            })
            .collect();
        weights.sort_by(|one, other| one.0.cmp(&other.0));
        weights.dedup_by(|one, other| one.0 == other.0);
        weights
    }

    /// Builds the session. Quantised weights are taken from `prepared` if it has them.
    pub fn build(
        self,
        builder: &mut SessionBuilder,
        prepared: Option<&Prepared>,
    ) -> ort::Result<Built> {
        let mut maps: Vec<Arc<Mmap>> = Vec::new();
        let mut graph = editor::Graph::new()?;
        graph.set_inputs(self.inputs)?;
        graph.set_outputs(self.outputs)?;
        for (name, initializer) in self.initializers {
            let (value, bytes) = match &initializer {
                Initializer::Bytes(element, shape, bytes) => {
                    (owned(*element, shape, bytes)?, bytes.len())
                }
                Initializer::Weights(matrix, form, shape) => {
                    let cached = prepared.and_then(|prepared| prepared.get(&cached_name(&name)));
                    match cached.or_else(|| matrix.mapped(*form)) {
                        Some(view) => {
                            if !maps.iter().any(|map| Arc::ptr_eq(map, view.file())) {
                                maps.push(Arc::clone(view.file()));
                            }
                            (mapped(view, shape)?, view.bytes().len())
                        }
                        None => {
                            let bytes = matrix.fill(*form);
                            (owned(element(form.element()), shape, &bytes)?, bytes.len())
                        }
                    }
                }
            };
            graph.add_initializer(name, value, bytes >= MIN_EXTERNAL)?;
        }
        for node in self.nodes {
            graph.add_node(node)?;
        }
        let opsets = OPSETS
            .iter()
            .map(|&(domain, version)| Opset::new(domain, version))
            .collect::<ort::Result<Vec<_>>>()?;
        let mut model = editor::Model::new(opsets)?;
        model.set_graph(graph)?;
        // `Model::into_session` would resolve the graph before the custom operators are registered.
        let mut session = builder.edit_from_memory(&empty_model())?;
        session.apply_model(&model)?;
        let session = session.into_session()?;
        // Weights that ONNX Runtime has repacked are not read again; the others are read from the file again.
        for map in &maps {
            release(map, 0..map.len());
        }
        Ok(Built { session, maps })
    }
}

/// Returns a serialised ONNX `ModelProto` without nodes, to which a graph is added.
pub(super) fn empty_model() -> Vec<u8> {
    const IR_VERSION: u8 = 10;
    // Each field is its number and wire type, its length if variable, and the value.
    let mut bytes = vec![0x08, IR_VERSION];
    bytes.extend([0x3a, 3, 0x12, 1, b'g']); // graph { name }
    for (domain, version) in OPSETS {
        let length = domain.len() as u8;
        bytes.extend([0x42, length + 4, 0x0a, length]); // opset_import { domain, version }
        bytes.extend(domain.as_bytes());
        bytes.extend([0x10, version as u8]);
    }
    bytes
}

/// Returns the name of quantised weights in the cache: for weights that share the bytes of a linear layer, that layer's.
fn cached_name(name: &str) -> String {
    match name.split_once('@') {
        Some((own, twin)) => {
            let form = own.rsplit('.').next().unwrap_or_default();
            format!("{twin}.{form}")
        }
        None => name.to_owned(),
    }
}

fn suffix(form: Form) -> &'static str {
    match form {
        Form::F32 => "f32",
        Form::F16 => "f16",
        Form::BlockBytes => "blocks",
        Form::BlockScales => "block_scales",
        Form::ColumnBytes => "columns",
        Form::ColumnScales => "column_scales",
    }
}

fn element(element: Element) -> TensorElementType {
    match element {
        Element::F32 => TensorElementType::Float32,
        Element::F16 => TensorElementType::Float16,
        Element::Bf16 => TensorElementType::Bfloat16,
        Element::I8 => TensorElementType::Int8,
        Element::U8 => TensorElementType::Uint8,
        Element::I16 => TensorElementType::Int16,
        Element::I32 => TensorElementType::Int32,
    }
}

fn outlet(name: &str, ty: TensorElementType, shape: &[i64]) -> Outlet {
    Outlet::new(
        name,
        ValueType::Tensor {
            ty,
            shape: Shape::new(shape.iter().copied()),
            dimension_symbols: SymbolicDimensions::empty(shape.len()),
        },
    )
}

/// Creates a tensor that ONNX Runtime owns, and frees when it has packed it.
fn owned(element: TensorElementType, shape: &[usize], bytes: &[u8]) -> ort::Result<DynValue> {
    let mut tensor = ort::value::DynTensor::new(&Allocator::default(), element, shape)?;
    let data = tensor.data_ptr_mut().cast::<u8>();
    if !bytes.is_empty() {
        // SAFETY: the tensor has the size of these bytes: those of `fill` and of constants match their shape.
        unsafe { std::ptr::copy_nonoverlapping(bytes.as_ptr(), data, bytes.len()) };
    }
    Ok(tensor.into_dyn())
}

/// Creates a tensor over the mapped bytes of `view`, which the caller keeps mapped.
fn mapped(view: &View, shape: &[usize]) -> ort::Result<DynValue> {
    let memory = MemoryInfo::default();
    let shape: Vec<i64> = shape.iter().map(|&size| size as i64).collect();
    let bytes = view.bytes();
    let mut value = std::ptr::null_mut();
    // SAFETY: the pointers are valid for the call, and the data for as long as `Built::maps` is kept. ONNX Runtime does not
    // write to initializers.
    let status = unsafe {
        (ort::api().CreateTensorWithDataAsOrtValue)(
            memory.ptr(),
            bytes.as_ptr().cast_mut().cast(),
            bytes.len(),
            shape.as_ptr(),
            shape.len(),
            element(view.element).into(),
            &mut value,
        )
    };
    // SAFETY: the status was returned by the call.
    unsafe { ort::Error::result_from_status(status) }?;
    let value = std::ptr::NonNull::new(value)
        .ok_or_else(|| ort::Error::new("ONNX Runtime returned no tensor"))?;
    // SAFETY: the value is new, and nothing else owns it.
    Ok(unsafe { DynValue::from_ptr(value, Some(&Allocator::default())) })
}

/// Creates a tensor of integers.
pub(super) fn integers(shape: &[usize], values: Vec<i64>) -> ort::Result<DynValue> {
    Ok(Tensor::from_array((shape.to_vec(), values))?.into_dyn())
}
