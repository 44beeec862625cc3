//! Our DINOv2 against Hugging Face's, and its files under all the names that they have.

use nets::Error;

use super::*;

/// Largest difference of a token's element, in the largest.
const TOKENS: f64 = 1e-4;

fn file() -> PathBuf {
    folder().join("dinov2/model.safetensors")
}

/// The network of a file.
fn pretrained(backbone: Backbone, pool: Pool, file: &Path) -> Network {
    let mut network = Network::new(backbone, pool, 0, &device()).unwrap();
    network.load_imagenet(file).unwrap();
    network
}

fn image(side: usize) -> Tensor {
    uniform("pictures", &[1, side, side, 3], -2.0, 2.0, side as u64).to_device(&device()).unwrap()
}

/// Map, then class token.
fn tokens(network: &Network, image: &Tensor) -> Vec<f64> {
    let evaluated = network.forward_eval(image).unwrap();
    [values(&evaluated.map), values(&evaluated.pool)].concat()
}

#[test]
fn tokens_are_hugging_faces() {
    let expected = Expected(fs_err::read(folder().join("dinov2/expected.safetensors")).unwrap());
    let network = pretrained(Backbone::DinoV2Tiny, Pool::Class, &file());
    let width = Backbone::DinoV2Tiny.channels();
    for side in [28, 56, 84] {
        let evaluated = network.forward_eval(&image(side)).unwrap();
        let cells = Backbone::DinoV2Tiny.map_side(side);
        assert_eq!(evaluated.map.dims(), [1, cells, cells, width]);
        let all = expected.values(&format!("tokens_{side}"));
        let (class, patches) = all.split_at(width);
        close(&format!("class token at {side} px"), &values(&evaluated.pool), class, TOKENS);
        close(&format!("patch tokens at {side} px"), &values(&evaluated.map), patches, TOKENS);
    }
    // The other pools are of the patch tokens.
    let all = expected.values("tokens_56");
    let column = |channel: usize| all[width..].iter().skip(channel).step_by(width).copied();
    for (pool, of) in [
        (Pool::Avg, &(|channel| column(channel).sum::<f64>() / 16.0) as &dyn Fn(usize) -> f64),
        (Pool::Max, &|channel| column(channel).fold(f64::MIN, f64::max)),
    ] {
        let got = pretrained(Backbone::DinoV2Tiny, pool, &file()).forward_eval(&image(56)).unwrap().pool;
        close(&format!("{pool} of the patch tokens"), &values(&got), &(0..width).map(of).collect::<Vec<_>>(), TOKENS);
    }
}

/// Tensors by name, and the file that holds them.
fn renamed(name: &dyn Fn(&str) -> Option<String>, folder: &Path) -> PathBuf {
    let bytes = fs_err::read(file()).unwrap();
    let tensors = SafeTensors::deserialize(&bytes).unwrap();
    let kept = tensors.tensors().into_iter().filter_map(|(given, view)| Some((name(&given)?, view)));
    let path = folder.join("renamed.safetensors");
    fs_err::write(&path, safetensors::serialize(kept.collect::<Vec<_>>(), None).unwrap()).unwrap();
    path
}

#[test]
fn files_have_many_names() {
    let network = pretrained(Backbone::DinoV2Tiny, Pool::Class, &file());
    let expected = tokens(&network, &image(84));
    let temporary = TempDir::new().unwrap();
    // DINOv2's own names, which timm has too, are those that we save.
    let ours = temporary.path().join("ours.safetensors");
    network.save(&ours, None).unwrap();
    let meta = pretrained(Backbone::DinoV2Tiny, Pool::Class, &ours);
    assert_eq!(tokens(&meta, &image(84)), expected);
    // A part of a larger model; and what `state_dict()` says since transformers 5.
    let prefixed = |name: &str| Some(format!("dinov2.{name}"));
    let today = |name: &str| {
        let name = name.replace("attention.output.dense", "attention.o_proj");
        let parts = [("query", "q_proj"), ("key", "k_proj"), ("value", "v_proj")];
        Some(parts.iter().fold(name, |name, (old, new)| {
            name.replace(&format!("attention.attention.{old}"), &format!("attention.{new}"))
        }))
    };
    for names in [&prefixed as &dyn Fn(&str) -> Option<String>, &today] {
        let other = pretrained(Backbone::DinoV2Tiny, Pool::Class, &renamed(names, temporary.path()));
        assert_eq!(tokens(&other, &image(84)), expected);
    }
}

#[test]
fn other_files_are_refused() {
    let temporary = TempDir::new().unwrap();
    let refused = |backbone: Backbone, path: &Path| {
        let mut network = Network::new(backbone, Pool::Class, 0, &Device::Cpu).unwrap();
        let error = network.load_imagenet(path).unwrap_err();
        assert!(matches!(error, Error::Keys { .. }), "{error}");
        error.to_string()
    };
    let error = refused(Backbone::DinoV2Vits14, &file());
    assert!(error.contains("model.safetensors: not the weights of dinov2-vits14"), "{error}");
    assert!(error.contains("[32, 3, 14, 14], expected [384, 3, 14, 14]"), "{error}");

    let without = |name: &str| (name != "encoder.layer.1.mlp.fc2.bias").then(|| name.to_owned());
    let error = refused(Backbone::DinoV2Tiny, &renamed(&without, temporary.path()));
    assert!(error.contains("encoder.layer.1.mlp.fc2.bias is missing"), "{error}");
    let registers = |name: &str| Some(name.replace("mask_token", "register_tokens"));
    let error = refused(Backbone::DinoV2Tiny, &renamed(&registers, temporary.path()));
    assert!(error.contains("embeddings.register_tokens is unknown"), "{error}");

    let resnet = temporary.path().join("resnet.safetensors");
    Network::new(Backbone::Mini, Pool::Avg, 0, &Device::Cpu).unwrap().save(&resnet, None).unwrap();
    let error = refused(Backbone::DinoV2Tiny, &resnet);
    assert!(error.contains("none of its") && error.contains("; or embeddings."), "{error}");
}

/// RAD-DINO is the same network on images of another range.
#[test]
fn rad_dino_has_its_own_colours() {
    let grey =
        uniform("grey", &[1, 28, 28, 1], 0.0, 1.0, 3).broadcast_as((1, 28, 28, 3)).unwrap().contiguous().unwrap();
    let normalised = |mean: [f32; 3], deviation: [f32; 3]| {
        let [mean, deviation] = [mean, deviation].map(|three| Tensor::new(&three, &Device::Cpu).unwrap());
        grey.broadcast_sub(&mean).unwrap().broadcast_div(&deviation).unwrap().to_device(&device()).unwrap()
    };
    let (mean, deviation) = nets::normalisation();
    let weights = TempDir::new().unwrap();
    let path = weights.path().join("weights.safetensors");
    let names = Network::new(Backbone::DinoV2Vitb14, Pool::Class, 0, &device()).unwrap();
    names.save(&path, None).unwrap();
    let (tensors, meta) = weights::read(&path, &Device::Cpu).unwrap();
    let tensors: Vec<_> = tensors
        .into_iter()
        .map(|(name, tensor)| {
            let value = value(&name, tensor.dims(), 0);
            (name, value)
        })
        .collect();
    weights::write(&path, &tensors, &meta).unwrap();
    let ours = pretrained(Backbone::RadDino, Pool::Class, &path);
    let plain = pretrained(Backbone::DinoV2Vitb14, Pool::Class, &path);
    let got = tokens(&ours, &normalised(mean, deviation));
    let expected = tokens(&plain, &normalised([0.5307; 3], [0.2583; 3]));
    close("tokens", &got, &expected, TOKENS);
}

/// On a CPU; a GPU's library may add up in another order for another batch.
#[test]
fn a_batch_changes_no_bit() {
    let mut network = Network::new(Backbone::DinoV2Tiny, Pool::Class, 0, &Device::Cpu).unwrap();
    network.load_imagenet(&file()).unwrap();
    let images = uniform("pictures", &[5, 84, 84, 3], -2.0, 2.0, 9);
    let all = values(&network.forward_eval(&images).unwrap().map);
    let cells = all.len() / 5;
    for index in 0..5 {
        let one = network.forward_eval(&images.narrow(0, index, 1).unwrap()).unwrap();
        assert!(values(&one.map) == all[index * cells..][..cells], "image {index}");
    }
    let error = network.forward_eval(&images.narrow(1, 0, 80).unwrap()).unwrap_err().to_string();
    assert!(error.contains("S >= 28, a multiple of 14, got [5, 80, 84, 3]"), "{error}");
}

#[test]
fn only_a_transformer_has_a_class_token() {
    let error = Network::new(Backbone::Mini, Pool::Class, 0, &Device::Cpu).unwrap_err().to_string();
    assert_eq!(error, "pool = class, expected max, avg or lse: mini has no class token");
}
