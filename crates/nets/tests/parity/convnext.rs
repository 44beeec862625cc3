//! Our ConvNeXt against timm's, from timm's file and from torchvision's.

use super::*;

/// Largest difference of an element of the last map, in the largest.
const MAP: f64 = 1e-4;

#[test]
fn maps_are_timms() {
    let expected = Expected(fs_err::read(folder().join("convnext/expected.safetensors")).unwrap());
    for file in ["model.safetensors", "torchvision.pth"] {
        let mut network = Network::new(Backbone::ConvnextTest, Pool::Avg, 0, &device()).unwrap();
        network.load_imagenet(&folder().join("convnext").join(file)).unwrap();
        for side in [64, 96] {
            let image = uniform("pictures", &[1, side, side, 3], -2.0, 2.0, side as u64).to_device(&device()).unwrap();
            let evaluated = network.forward_eval(&image).unwrap();
            let cells = Backbone::ConvnextTest.map_side(side);
            assert_eq!(evaluated.map.dims(), [1, cells, cells, Backbone::ConvnextTest.channels()]);
            let map = expected.values(&format!("map_{side}"));
            close(&format!("{file}: map at {side} px"), &values(&evaluated.map), &map, MAP);
            let (count, width) = ((cells * cells) as f64, Backbone::ConvnextTest.channels());
            let mean = |channel| map.iter().skip(channel).step_by(width).sum::<f64>() / count;
            let means: Vec<f64> = (0..width).map(mean).collect();
            close(&format!("{file}: features at {side} px"), &values(&evaluated.pool), &means, MAP);
        }
    }
}

/// On a CPU; a GPU's library may add up in another order for another batch.
#[test]
fn a_batch_changes_no_bit_of_a_map() {
    let mut network = Network::new(Backbone::ConvnextTest, Pool::Max, 0, &Device::Cpu).unwrap();
    network.load_imagenet(&folder().join("convnext/model.safetensors")).unwrap();
    let images = uniform("pictures", &[5, 64, 64, 3], -2.0, 2.0, 9);
    let all = values(&network.forward_eval(&images).unwrap().map);
    for (index, expected) in all.chunks_exact(all.len() / 5).enumerate() {
        let one = network.forward_eval(&images.narrow(0, index, 1).unwrap()).unwrap();
        assert!(values(&one.map) == expected, "image {index}");
    }
}

#[test]
fn another_size_is_refused() {
    let mut network = Network::new(Backbone::ConvnextTiny, Pool::Max, 0, &Device::Cpu).unwrap();
    let error = network.load_imagenet(&folder().join("convnext/torchvision.pth")).unwrap_err().to_string();
    assert!(error.contains("not the weights of convnext-tiny"), "{error}");
    assert!(error.contains("features.0.0.weight is [8, 3, 4, 4], expected [96, 3, 4, 4]"), "{error}");
}
