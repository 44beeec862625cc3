//! The nodes of a trunk, from the normalised image to the last map. Activations are `[N, C, H, W]`.
//!
//! A node is called as torchvision's module is; a constant has torchvision's parameter name. Batch norms are nodes with
//! the running statistics, so that the file holds the network's own numbers; runtimes fold them into convolutions.

use crate::error::Result;
use crate::layers::conv_norm::{Conv, ConvNorm, EPS, Norm};
use crate::layers::params::{ParamId, Params};
use crate::layers::stem_pool;
use crate::models::densenet::{Densenet, HALVED};
use crate::models::network::Trunk;
use crate::models::resnet::Resnet;
use crate::onnx::builder::GraphBuilder;
use crate::onnx::proto::Attribute;

/// Adds the nodes of a trunk whose input is the value `x`; returns the name of the last map.
pub(super) fn trunk(build: &mut GraphBuilder, params: &Params, trunk: &Trunk, x: &str) -> Result<String> {
    let mut layers = Layers { build, params };
    match trunk {
        Trunk::Resnet(trunk) => layers.resnet(trunk, x),
        Trunk::Densenet(trunk) => layers.densenet(trunk, x),
        Trunk::Vit(_) | Trunk::Convnext(_) => unreachable!("refused before the graph is begun"),
    }
}

/// Adds layer after layer; each method takes the name of its input and returns that of its output.
struct Layers<'a> {
    build: &'a mut GraphBuilder,
    params: &'a Params,
}

impl Layers<'_> {
    fn resnet(&mut self, trunk: &Resnet, x: &str) -> Result<String> {
        let mut x = self.conv_norm(&trunk.stem, x)?;
        x = self.stem_pool("maxpool", &x);
        for block in &trunk.blocks {
            let shortcut = match &block.downsample {
                Some(layer) => self.conv_norm(layer, &x)?,
                None => x.clone(),
            };
            let Some((last, before)) = block.main.split_last() else { continue }; // no block is empty
            for layer in before {
                x = self.conv_norm(layer, &x)?;
            }
            x = self.conv(&last.conv, &x)?;
            x = self.norm(&last.norm, &x)?;
            let name = parent(self.module(last.conv.weight)).to_owned();
            x = self.build.node("Add", &format!("{name}.sum"), &[&x, &shortcut], vec![]);
            x = self.relu(&name, &x);
        }
        Ok(x)
    }

    fn densenet(&mut self, trunk: &Densenet, x: &str) -> Result<String> {
        let mut x = self.conv_norm(&trunk.stem, x)?;
        x = self.stem_pool("features.pool0", &x);
        for (index, layers) in trunk.blocks.iter().enumerate() {
            for layer in layers {
                let normed = self.norm_relu(&layer.norm1, &x)?;
                let squeezed = self.conv_norm(&layer.squeeze, &normed)?;
                let new = self.conv(&layer.conv2, &squeezed)?;
                let name = format!("{}.concat", parent(&new));
                x = self.build.node("Concat", &name, &[&x, &new], vec![Attribute::int("axis", 1)]);
            }
            if let Some(transition) = trunk.transitions.get(index) {
                x = self.norm_relu(&transition.norm, &x)?;
                x = self.conv(&transition.conv, &x)?;
                let name = format!("{}.pool", parent(&x));
                x = self.build.node("AveragePool", &name, &[&x], window(HALVED, HALVED, 0));
            }
        }
        self.norm_relu(&trunk.last, &x)
    }

    fn conv_norm(&mut self, layer: &ConvNorm, x: &str) -> Result<String> {
        let x = self.conv(&layer.conv, x)?;
        if layer.relu { self.norm_relu(&layer.norm, &x) } else { self.norm(&layer.norm, &x) }
    }

    fn conv(&mut self, conv: &Conv, x: &str) -> Result<String> {
        let weight = self.param(conv.weight)?;
        let name = self.module(conv.weight).to_owned();
        Ok(self.build.node("Conv", &name, &[x, &weight], window(conv.kernel, conv.stride, conv.padding)))
    }

    fn norm(&mut self, norm: &Norm, x: &str) -> Result<String> {
        let [gamma, beta] = [self.param(norm.gamma)?, self.param(norm.beta)?];
        let [mean, var] = [self.param(norm.mean)?, self.param(norm.var)?];
        let name = self.module(norm.gamma).to_owned();
        let epsilon = vec![Attribute::float("epsilon", EPS as f32)];
        Ok(self.build.node("BatchNormalization", &name, &[x, &gamma, &beta, &mean, &var], epsilon))
    }

    fn norm_relu(&mut self, norm: &Norm, x: &str) -> Result<String> {
        let x = self.norm(norm, x)?;
        Ok(self.relu(&x, &x))
    }

    fn relu(&mut self, name: &str, x: &str) -> String {
        self.build.node("Relu", &format!("{name}.relu"), &[x], vec![])
    }

    fn stem_pool(&mut self, name: &str, x: &str) -> String {
        let window = window(stem_pool::KERNEL, stem_pool::STRIDE, stem_pool::PADDING);
        self.build.node("MaxPool", name, &[x], window)
    }

    /// Adds a parameter or running statistic.
    fn param(&mut self, id: ParamId) -> Result<String> {
        self.build.tensor(self.params.name(id), self.params.get(id))
    }

    /// The name of the layer that a parameter belongs to.
    fn module(&self, id: ParamId) -> &str {
        parent(self.params.name(id))
    }
}

/// `layer1.0` of `layer1.0.conv1`.
fn parent(name: &str) -> &str {
    name.rsplit_once('.').map_or(name, |(parent, _)| parent)
}

/// The attributes of a square window.
fn window(kernel: usize, stride: usize, padding: usize) -> Vec<Attribute> {
    vec![
        Attribute::ints("kernel_shape", &[kernel; 2]),
        Attribute::ints("strides", &[stride; 2]),
        Attribute::ints("pads", &[padding; 4]),
    ]
}
