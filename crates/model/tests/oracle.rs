//! Heat maps and boxes against NumPy, scikit-image and PyTorch; `oracle/make.py` made the expectations.

use candle_core::{Device, Tensor};
use cxr::BBox;
use cxr::heatmap::{Normalise, NormalisedMap, Statistic, normalise};
use model::heat_map::heat_maps;
use model::region::{self, Threshold};
use serde::Deserialize;

#[derive(Deserialize)]
struct Case {
    name: String,
    side: usize,
    shape: [usize; 3],
    map: Vec<f32>,
    heat: std::collections::BTreeMap<String, Vec<f32>>,
    regions: Vec<Expected>,
}

#[derive(Deserialize)]
struct Expected {
    statistic: Statistic,
    normalise: Normalise,
    otsu: bool,
    #[serde(rename = "box")]
    area: Option<[f32; 4]>,
    tau: f32,
    mask_frac: f32,
}

#[test]
fn boxes_are_scikit_images() {
    let cases: Vec<Case> = serde_json::from_str(include_str!("oracle/oracle.json")).unwrap();
    let mut boxes = 0;
    for case in &cases {
        let [height, width, channels] = case.shape;
        let map = Tensor::from_vec(case.map.clone(), (1, height, width, channels), &Device::Cpu).unwrap();
        for statistic in [Statistic::Max, Statistic::L1, Statistic::L2] {
            let [heat, _] = heat_maps(&map, statistic).unwrap();
            let heat: Vec<f32> = heat.flatten_all().unwrap().to_vec1().unwrap();
            let expected = &case.heat[<&str>::from(statistic)];
            for (got, expected) in heat.iter().zip(expected) {
                let error = (got - expected).abs();
                assert!(error <= 1e-6 * expected.abs(), "{}, {statistic:?}: {got}, expected {expected}", case.name);
            }
            for expected in case.regions.iter().filter(|expected| expected.statistic == statistic) {
                let (otsu, tau) = (expected.otsu, expected.tau);
                let threshold = if otsu { Threshold::Otsu } else { Threshold::Tau(tau) };
                let what = format!("{}, {statistic:?}, {:?}, {threshold:?}", case.name, expected.normalise);
                let normal = normalise(&heat, expected.normalise).unwrap_or_else(|| vec![heat[0]; heat.len()]);
                let map = NormalisedMap::new(&normal, (height, width), None);
                let region = region::find(map, case.side, threshold);
                let area = expected.area.map(|[x0, y0, x1, y1]| BBox::new(x0, y0, x1, y1).unwrap());
                assert_eq!(region.bbox, area, "{what}");
                assert!((region.tau - tau).abs() <= 1e-6 * tau.abs().max(1.0), "{what}: tau {}", region.tau);
                assert!((region.mask_frac - expected.mask_frac).abs() < 1e-6, "{what}: {}", region.mask_frac);
                boxes += 1;
            }
        }
    }
    assert!(boxes > 700, "{boxes}");
}
