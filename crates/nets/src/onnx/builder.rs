//! A graph under construction.

use candle_core::Tensor;

use crate::error::Result;
use crate::onnx::proto::{Attribute, Dimension, FLOAT, Graph, Initializer, Node, Shape, TensorType, Type, ValueInfo};

/// Collects the nodes of a graph, in an order in which they can be computed, and its constants.
#[derive(Default)]
pub(super) struct GraphBuilder {
    graph: Graph,
}

impl GraphBuilder {
    /// An input `[N, dims..]` of `f32`; returns its name.
    pub(super) fn input(&mut self, name: &str, dims: &[usize], doc: &str) -> String {
        self.graph.input.push(value(name, dims, doc));
        name.to_owned()
    }

    /// Declares the value `name`, `[N, dims..]` of `f32`, an output.
    pub(super) fn output(&mut self, name: &str, dims: &[usize], doc: &str) {
        self.graph.output.push(value(name, dims, doc));
    }

    /// Adds `tensor`, which keeps its shape, or, as a convolution's weights, becomes `[out, in, height, width]`; returns
    /// its name.
    ///
    /// # Errors
    /// If the tensor's device fails.
    pub(super) fn tensor(&mut self, name: &str, tensor: &Tensor) -> Result<String> {
        let tensor = match tensor.rank() {
            4 => &tensor.permute((0, 3, 1, 2))?,
            _ => tensor,
        };
        Ok(self.constant(name, tensor.dims(), &tensor.flatten_all()?.to_vec1::<f32>()?))
    }

    /// Adds row-major `values`; returns their name.
    pub(super) fn constant(&mut self, name: &str, dims: &[usize], values: &[f32]) -> String {
        let dims = dims.iter().map(|&side| side as i64).collect();
        let raw_data = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        self.graph.initializer.push(Initializer { dims, data_type: FLOAT, name: name.to_owned(), raw_data });
        name.to_owned()
    }

    /// Adds a node with one output; node and output are both called `name`, which is returned.
    pub(super) fn node(&mut self, op: &str, name: &str, inputs: &[&str], attribute: Vec<Attribute>) -> String {
        self.graph.node.push(Node {
            input: inputs.iter().map(|&input| input.to_owned()).collect(),
            output: vec![name.to_owned()],
            name: name.to_owned(),
            op_type: op.to_owned(),
            attribute,
        });
        name.to_owned()
    }

    pub(super) fn finish(self, name: &str, doc: String) -> Graph {
        Graph { name: name.to_owned(), doc_string: doc, ..self.graph }
    }
}

/// `[N, dims..]` of `f32`, with any N.
fn value(name: &str, dims: &[usize], doc: &str) -> ValueInfo {
    let any = Dimension { value: None, param: Some("N".to_owned()) };
    let sides = dims.iter().map(|&side| Dimension { value: Some(side as i64), param: None });
    let shape = Shape { dim: std::iter::once(any).chain(sides).collect() };
    let tensor = TensorType { elem_type: FLOAT, shape: Some(shape) };
    ValueInfo { name: name.to_owned(), of: Some(Type { tensor: Some(tensor) }), doc_string: doc.to_owned() }
}
