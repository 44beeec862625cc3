use std::collections::HashSet;

use candle_core::{DType, Device};
use cxr::EvalCrop;
use strum::VariantArray;

use super::*;
use crate::models::backbone::Backbone;

const HEAT: HeatMap = HeatMap { statistic: Statistic::L2, normalise: Normalise::Max, cells: None };

/// One view of an image, and what it is a part of.
fn shown(input_px: usize) -> (EvalFrame, Tta) {
    (EvalFrame { crop: EvalCrop::Centre, image_px: input_px + 3, input_px }, Tta::None)
}

fn network(backbone: Backbone, pool: Pool) -> Network {
    Network::new(backbone, pool, 1, &Device::Cpu).unwrap()
}

fn read(path: &Path) -> Model {
    Model::decode(&fs_err::read(path).unwrap()[..]).unwrap()
}

/// Every value is made once, before it is used, and used, or an output.
fn check(graph: &Graph) {
    let mut made = HashSet::new();
    let mut used: HashSet<&str> = graph.output.iter().map(|output| output.name.as_str()).collect();
    let constants = graph.initializer.iter().map(|constant| constant.name.as_str());
    for name in graph.input.iter().map(|input| input.name.as_str()).chain(constants) {
        assert!(made.insert(name), "{name} is there twice");
    }
    for node in &graph.node {
        for input in &node.input {
            assert!(made.contains(input.as_str()), "{} uses {input} before it is made", node.name);
            used.insert(input);
        }
        let [output] = &node.output[..] else { panic!("{} has one output", node.name) };
        assert!(made.insert(output), "{output} is made twice");
    }
    let mut unused: Vec<_> = made.symmetric_difference(&used).collect();
    unused.sort();
    assert!(unused.is_empty(), "unused, or used and never made: {unused:?}");
    for constant in &graph.initializer {
        let elements: i64 = constant.dims.iter().product();
        assert_eq!(constant.raw_data.len() as i64, 4 * elements, "{}", constant.name);
    }
}

#[test]
fn every_network_is_a_graph_of_all_its_parameters() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("branch.onnx");
    let of_maps = || Pool::VARIANTS.iter().filter(|&&pool| pool != Pool::Class);
    let trained = Backbone::VARIANTS.iter().filter(|backbone| !backbone.is_frozen());
    let each = trained.zip(of_maps().cycle()).chain(of_maps().map(|pool| (&Backbone::Mini, pool)));
    for (&backbone, &pool) in each {
        let network = network(backbone, pool);
        write(&network, shown(backbone.min_side()), Some(HEAT), &path).unwrap();
        let graph = read(&path).graph.unwrap();
        check(&graph);
        let named = |name: &str| graph.initializer.iter().find(|constant| constant.name == name);
        for (name, tensor) in network.params().iter() {
            let constant = named(name).unwrap_or_else(|| panic!("{backbone} has no {name}"));
            let tensor = if tensor.rank() == 4 { tensor.permute((0, 3, 1, 2)).unwrap() } else { tensor.clone() };
            let values = tensor.flatten_all().unwrap().to_vec1::<f32>().unwrap();
            let bytes: Vec<u8> = values.into_iter().flat_map(f32::to_le_bytes).collect();
            assert!(constant.raw_data == bytes, "{backbone} {name}");
        }
        let outputs: Vec<&str> = graph.output.iter().map(|output| output.name.as_str()).collect();
        assert_eq!(outputs, ["logits", "probabilities", "features", "heat_map"]);
    }
}

#[test]
fn a_foundation_model_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("branch.onnx");
    let error = write(&network(Backbone::DinoV2Tiny, Pool::Class), shown(28), None, &path).unwrap_err();
    assert!(error.to_string().starts_with("backbone = dinov2-tiny, expected a convolutional trunk"), "{error}");
    assert!(!path.exists());
}

#[test]
fn a_file_says_what_it_is() {
    let folder = tempfile::tempdir().unwrap();
    let [with, without] = ["with", "without"].map(|name| folder.path().join(name));
    let network = network(Backbone::Mini, Pool::Lse);
    write(&network, (shown(20).0, Tta::TenCrop), Some(HEAT), &with).unwrap();
    write(&network, shown(20), None, &without).unwrap();
    let [with, without] = [with, without].map(|path| read(&path));
    let said = |model: &Model, key: &str| {
        model.metadata_props.iter().find(|entry| entry.key == key).map(|entry| entry.value.clone())
    };
    for (key, value) in [
        ("agcnn.format", "agcnn-onnx"),
        ("agcnn.backbone", "mini"),
        ("agcnn.pool", "lse"),
        ("agcnn.frame", r#"{"crop":"centre","image_px":23,"input_px":20}"#),
        ("agcnn.tta", "ten-crop"),
        ("agcnn.heat_map", r#"{"normalise":"max","statistic":"l2"}"#),
        ("agcnn.notice", "not for clinical use"),
        ("agcnn.findings", &cxr::output_names().join(",")),
    ] {
        assert_eq!(said(&with, key).as_deref(), Some(value), "{key}");
    }
    assert_eq!((said(&without, "agcnn.heat_map"), said(&without, "agcnn.tta")), (None, None));
    let (with, without) = (with.graph.unwrap(), without.graph.unwrap());
    check(&without);
    assert!(with.doc_string.ends_with("Thresholds apply to H / max H, of each map H by itself."));
    assert!(!without.doc_string.contains("heat_map") && without.output.len() == 3);
}

#[test]
fn equal_networks_give_equal_bytes() {
    let folder = tempfile::tempdir().unwrap();
    let bytes = ["one", "two"].map(|name| {
        let path = folder.path().join(name);
        write(&network(Backbone::Mini, Pool::Max), shown(20), Some(HEAT), &path).unwrap();
        fs_err::read(path).unwrap()
    });
    assert!(bytes[0] == bytes[1]);
}

#[test]
fn what_cannot_work_is_refused_and_leaves_the_file() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("branch.onnx");
    fs_err::write(&path, "before").unwrap();
    let network = network(Backbone::Mini, Pool::Max);
    let small = write(&network, shown(16), None, &path).unwrap_err();
    assert_eq!(small.to_string(), "crop = 16, expected at least 17 for mini");
    assert_eq!(fs_err::read(&path).unwrap(), b"before");
    let nowhere = write(&network, shown(20), None, &folder.path().join("no/branch.onnx")).unwrap_err();
    assert!(nowhere.to_string().contains("no/branch.onnx"), "{nowhere}");
    assert_eq!(fs_err::read_dir(folder.path()).unwrap().count(), 1);
}

#[test]
fn a_fusion_layer_is_a_graph() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("fusion.onnx");
    let tensor = |dims: &[usize]| Tensor::ones(dims, DType::F32, &Device::Cpu).unwrap();
    let (weight, bias) = (tensor(&[cxr::OUTPUTS, 5]), tensor(&[cxr::OUTPUTS]));
    for bias in [Some(&bias), None] {
        write_fusion(&weight, bias, [2, 3], &path).unwrap();
        check(&read(&path).graph.unwrap());
    }
    let refused = |weight, bias, features| write_fusion(weight, bias, features, &path).unwrap_err().to_string();
    assert_eq!(refused(&weight, None, [2, 2]), "fusion weight: expected [15, 4], got [15, 5]");
    assert_eq!(refused(&weight, Some(&tensor(&[5])), [2, 3]), "fusion bias: expected [15], got [5]");
}
