//! Parts shared by encoder and decoder layers.

use ort::editor::ONNX_DOMAIN;
use ort::operator::Attribute;

use super::graph::{Arithmetic, FUSED, Graph, Linear};
use crate::kernels::EPSILON;
use crate::weights::{Affine, FeedForward, Norm};

/// The residual stream: a sum whose last term is added with the next normalisation, by one operator.
pub(super) struct Residual {
    sum: String,
    pending: Option<Linear>,
}

impl Residual {
    pub fn new(states: String) -> Self {
        Self {
            sum: states,
            pending: None,
        }
    }

    /// Adds a layer's output, at the next `norm`.
    pub fn add(&mut self, output: Linear) {
        self.pending = Some(output);
    }

    /// Returns the normalised states.
    pub fn norm(&mut self, graph: &mut Graph, name: &str, norm: &Norm) -> ort::Result<String> {
        let width = [norm.gamma.len()];
        let gamma = graph.floats(&format!("{name}.gamma"), &width, &norm.gamma);
        let beta = graph.floats(&format!("{name}.beta"), &width, &norm.beta);
        let epsilon = Attribute::new("epsilon", EPSILON)?;
        let Some(pending) = self.pending.take() else {
            return graph.op(
                "LayerNormalization",
                ONNX_DOMAIN,
                &[&self.sum, &gamma, &beta],
                [epsilon],
            );
        };
        let (normalised, sum) = (graph.fresh("normalised"), graph.fresh("sum"));
        if graph.arithmetic == Arithmetic::Rows {
            let [product, scales, bias] = pending.inputs()?;
            let inputs = [&self.sum, product, scales, bias, &gamma, &beta];
            graph.row_op("NormaliseRows", &inputs, &[&sum], normalised.clone())?;
            self.sum = sum;
            return Ok(normalised);
        }
        graph.node(
            "SkipLayerNormalization",
            FUSED,
            &[
                &self.sum,
                &pending.product,
                &gamma,
                &beta,
                pending.bias.as_deref().unwrap_or_default(),
            ],
            &[&normalised, "", "", &sum],
            [epsilon],
        )?;
        self.sum = sum;
        Ok(normalised)
    }

    /// Adds the output of the feed-forward layers.
    pub fn feed_forward(
        &mut self,
        graph: &mut Graph,
        name: &str,
        layers: &FeedForward,
    ) -> ort::Result<()> {
        let states = self.norm(graph, &format!("{name}.ffn_norm"), &layers.norm)?;
        let up = graph.linear(&format!("{name}.up"), &states, &layers.up)?;
        let up = match &up {
            _ if graph.arithmetic == Arithmetic::Rows => {
                let activated = graph.fresh("activated");
                graph.row_op("GeluRows", &up.inputs()?, &[], activated.clone())?;
                activated
            }
            Linear {
                product,
                bias: Some(bias),
                ..
            } => graph.op("BiasGelu", FUSED, &[product, bias], [])?,
            Linear { product, .. } => graph.op("Gelu", FUSED, &[product], [])?,
        };
        let down = graph.linear(&format!("{name}.down"), &up, &layers.down)?;
        self.add(down);
        Ok(())
    }
}

/// Returns the rows `range` of a linear layer.
pub(super) fn slice(affine: &Affine, range: std::ops::Range<usize>) -> Affine {
    Affine {
        weight: affine.weight.slice(range.clone()),
        bias: affine.bias.get(range).unwrap_or_default().to_vec(),
    }
}
