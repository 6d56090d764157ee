//! What encoder and decoder layers have in common.

use ort::editor::ONNX_DOMAIN;
use ort::operator::Attribute;

use super::graph::{Arithmetic, FUSED, Graph, Linear};
use crate::kernels::EPSILON;
use crate::weights::{Affine, FeedForward, Norm};

/// The states between layers: a sum whose last term is added together with the next normalisation, as one operator does both.
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

    /// Add a layer's output, before the next `norm`.
    pub fn add(&mut self, output: Linear) {
        self.pending = Some(output);
    }

    /// The states, normalised.
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
            graph.op_of_rows("NormaliseRows", &inputs, &[&sum], normalised.clone())?;
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

    /// Add what the two linear layers after the attention make of the states.
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
                graph.op_of_rows("GeluRows", &up.inputs()?, &[], activated.clone())?;
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

/// Rows `range` of a linear layer.
pub(super) fn part(affine: &Affine, range: std::ops::Range<usize>) -> Affine {
    Affine {
        weight: affine.weight.slice(range.clone()),
        bias: affine.bias.get(range).unwrap_or_default().to_vec(),
    }
}
