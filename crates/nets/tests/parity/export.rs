//! Our weights load into torchvision, and torchvision's load here.

use strum::VariantArray;

use super::*;

#[test]
#[ignore = "needs PyTorch: just test-torch"]
fn torchvision_and_we_read_each_other() {
    let python = std::env::var_os("AGCNN_TORCH_PYTHON").expect("AGCNN_TORCH_PYTHON names a Python with torchvision");
    for backbone in Backbone::VARIANTS
        .iter()
        .copied()
        .filter(|backbone| ![Backbone::Mini, Backbone::Mini8].contains(backbone) && !backbone.is_frozen())
    {
        let folder = TempDir::new().unwrap();
        let ours = folder.path().join("ours.safetensors");
        let source = network(backbone, Pool::Avg, 0);
        source.save(&ours, None).unwrap();
        let (images, _) = example(0);
        let logits = source.forward_eval(&images).unwrap().logits;
        images.write_npy(folder.path().join("pictures.npy")).unwrap();

        let script = super::folder().join("export.py");
        let mut command = std::process::Command::new(&python);
        let status = command.arg(script).arg(backbone.name()).arg(folder.path()).status().unwrap();
        assert!(status.success(), "{backbone}");
        let theirs = Tensor::read_npy(folder.path().join("logits.npy")).unwrap();
        close(&format!("{backbone} logits"), &values(&logits), &values(&theirs), LOGITS);

        // zip.pth, legacy.pth and theirs.safetensors have 1,000 outputs and the same trunk
        for file in ["zip.pth", "legacy.pth", "theirs.safetensors"] {
            let mut network = Network::new(backbone, Pool::Avg, 1, &Device::Cpu).unwrap();
            network.load_imagenet(&folder.path().join(file)).unwrap();
            let got = network.forward_eval(&images).unwrap().pool;
            let expected = source.forward_eval(&images).unwrap().pool;
            assert_eq!(values(&got), values(&expected), "{backbone} {file}");
        }
    }
}
