//! The three networks of a run as `global.onnx`, `local.onnx` and `fusion.onnx`, for `crates/e2e/python/test_onnx.py`.
//!
//! Arguments: the folder of the run, the folder to write into. The heat map is that of `attend`'s defaults.

use std::path::Path;

use candle_core::Device;
use cxr::heatmap::{Normalise, Statistic};
use nets::onnx::HeatMap;
use nets::{Network, onnx, weights};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [run, folder] = &arguments[..] else { return Err("onnx_run RUN FOLDER".into()) };
    let (run, folder) = (Path::new(run), Path::new(folder));
    let heat_map = HeatMap { statistic: Statistic::Max, normalise: Normalise::Minmax };
    let mut features = [0; 2];
    for ((branch, heat_map), features) in [("global", Some(heat_map)), ("local", None)].into_iter().zip(&mut features) {
        let (network, meta) = Network::open(&run.join(branch).join("weights.safetensors"), &Device::Cpu)?;
        let frame = meta.frame.ok_or("weights without a frame")?;
        *features = network.backbone().channels();
        onnx::write(&network, frame, heat_map, &folder.join(format!("{branch}.onnx")))?;
    }
    let (tensors, _) = weights::read(&run.join("fusion/weights.safetensors"), &Device::Cpu)?;
    let named = |wanted: &str| tensors.iter().find(|(name, _)| name == wanted).map(|(_, tensor)| tensor);
    let weight = named("fc.weight").ok_or("no fc.weight")?;
    onnx::write_fusion(weight, named("fc.bias"), features, &folder.join("fusion.onnx"))?;
    Ok(())
}
