//! Reorders, removes and repeats rows of tensors, as a beam search does with the caches after each step.
//!
//! This is done by ONNX Runtime's `Gather`, in a graph with a node for each tensor, so that tensors in device memory stay there.

use ort::editor::{self, Node, ONNX_DOMAIN, Opset};
use ort::memory::MemoryInfo;
use ort::value::{
    DynValue, Outlet, Shape, SymbolicDimensions, Tensor, TensorElementType, ValueType,
};

use super::bound::Session;
use super::settings::Settings;

const ROWS: &str = "rows";

/// Opset of `Gather`, which every supported ONNX Runtime has.
const OPSET: u32 = 17;

/// Selects rows of several tensors at once.
pub(super) struct Rows {
    session: Session,
    memory: MemoryInfo<'static>,
}

impl Rows {
    /// For `count` tensors with the same type and number of dimensions in `memory`.
    pub fn new(
        settings: &Settings,
        memory: MemoryInfo<'static>,
        element: TensorElementType,
        dimensions: usize,
        count: usize,
    ) -> ort::Result<Self> {
        Ok(Self {
            session: session(settings, element, dimensions, count)?,
            memory,
        })
    }

    /// Returns the `rows` of each of `tensors`, in that order. There must be as many tensors as in [`Rows::new`].
    pub fn take(&mut self, tensors: &[&DynValue], rows: &[usize]) -> ort::Result<Vec<DynValue>> {
        let session = &mut self.session;
        let rows: Vec<i64> = rows.iter().map(|&row| row as i64).collect();
        let rows = Tensor::from_array(([rows.len()], rows))?;
        session.binding.bind_input(ROWS, &rows)?;
        for (index, tensor) in tensors.iter().enumerate() {
            session.binding.bind_input(input(index), tensor)?;
        }
        let names: Vec<String> = (0..tensors.len()).map(output).collect();
        let outputs: Vec<_> = names
            .iter()
            .map(|name| (name.as_str(), &self.memory))
            .collect();
        let taken = session.run(&outputs);
        session.binding.clear();
        taken
    }
}

fn input(index: usize) -> String {
    format!("tensor{index}")
}

fn output(index: usize) -> String {
    format!("taken{index}")
}

fn session(
    settings: &Settings,
    element: TensorElementType,
    dimensions: usize,
    count: usize,
) -> ort::Result<Session> {
    let tensor = |name: String, ty, dimensions| {
        let shape = Shape::new(vec![-1; dimensions]);
        let dimension_symbols = SymbolicDimensions::empty(dimensions);
        Outlet::new(
            name,
            ValueType::Tensor {
                ty,
                shape,
                dimension_symbols,
            },
        )
    };
    let mut graph = editor::Graph::new()?;
    let rows = tensor(ROWS.into(), TensorElementType::Int64, 1);
    let inputs = (0..count).map(|index| tensor(input(index), element, dimensions));
    graph.set_inputs(std::iter::once(rows).chain(inputs))?;
    graph.set_outputs((0..count).map(|index| tensor(output(index), element, dimensions)))?;
    for index in 0..count {
        graph.add_node(Node::new(
            "Gather",
            ONNX_DOMAIN,
            format!("gather{index}"),
            [input(index), ROWS.into()],
            [output(index)],
            [],
        )?)?;
    }
    let mut model = editor::Model::new([Opset::new(ONNX_DOMAIN, OPSET)?])?;
    model.set_graph(graph)?;
    let session = model.into_session(&settings.builder(1)?)?;
    Ok(Session {
        binding: session.create_binding()?,
        session,
        file: "rows".into(),
        _maps: Vec::new(),
    })
}
