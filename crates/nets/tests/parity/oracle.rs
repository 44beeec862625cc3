//! candle-transformers' ResNet, which has no gradient and average pooling, as an independent second opinion.

use std::collections::HashMap;

use candle_core::{DType, Module};
use candle_nn::{Func, VarBuilder};
use candle_transformers::models::resnet;

use super::*;

type Model = fn(usize, VarBuilder) -> candle_core::Result<Func<'_>>;

fn agree(backbone: Backbone, model: Model) {
    let network = network(backbone, Pool::Avg, 0);
    let (images, _) = example(0);

    let folder = TempDir::new().unwrap();
    let path = folder.path().join("weights.safetensors");
    network.save(&path, None).unwrap();
    let (tensors, _) = weights::read(&path, &Device::Cpu).unwrap();
    let tensors: HashMap<String, Tensor> = tensors.into_iter().collect();
    let model = model(cxr::OUTPUTS, VarBuilder::from_tensors(tensors, DType::F32, &Device::Cpu)).unwrap();

    let expected = model.forward(&images.permute((0, 3, 1, 2)).unwrap().contiguous().unwrap()).unwrap();
    let got = network.forward_eval(&images.to_device(network.device()).unwrap()).unwrap();
    close(&format!("{backbone} logits"), &values(&got.logits), &values(&expected), LOGITS);
}

#[test]
fn resnet18_is_candles() {
    agree(Backbone::Resnet18, |outputs, weights| resnet::resnet18(outputs, weights));
}

#[test]
fn resnet50_is_candles() {
    agree(Backbone::Resnet50, |outputs, weights| resnet::resnet50(outputs, weights));
}
