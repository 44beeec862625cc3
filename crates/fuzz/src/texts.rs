//! What a dataset's folder holds beside images: tables, lists, boxes, archives.

use std::io::Write;
use std::ops::ControlFlow;
use std::path::Path;

use prep::config::OnProblem;
use prep::{Config, Dataset};

use crate::{put, scratch};

const TABLE: &str = "Image Index,Finding Labels,Follow-up #,Patient ID,Patient Age,Patient Gender,View Position,\
OriginalImage[Width,Height],OriginalImagePixelSpacing[x,y],\r\n\
00000001_000.png,Cardiomegaly,0,1,058Y,M,PA,2682,2749,0.143,0.143,\r\n\
00000001_001.png,Cardiomegaly|Emphysema,1,1,58,M,PA,2894,2729,0.143,0.143,\r\n\
00000002_000.png,No Finding,0,2,013M,F,AP,2500,2048,0.168,0.168,\r\n\
00000003_000.png,Hernia,0,3,414,F,PA,2500,2048,0.168,0.168,\r\n\
00000004_000.png,Pleural_Thickening,0,4,,,,2500,2048,0.168,0.168\r\n\
00000005_000.png,Mass|Nodule,0,5,077Y,M,AP,2500,2048,0.168,0.168\r\n";

const TRAIN_VAL: &str = "00000001_000.png\n00000001_001.png\n00000002_000.png\n00000003_000.png\n";

const TEST: &str = "00000004_000.png\n00000005_000.png";

/// The images that are there.
const IMAGES: [&str; 3] = ["00000001_000.png", "00000002_000.png", "00000005_000.png"];

/// Reads the folder `root` with the default configuration and these keys of it; says whether it is right and has an image.
fn read(root: &Path, keys: &str) -> bool {
    let mut config: toml::Table = prep::SPEC.defaults.parse().expect("defaults are TOML");
    let mut config = config.remove("prep").and_then(|prep| prep.try_into::<toml::Table>().ok()).expect("a section");
    config.extend(keys.parse::<toml::Table>().expect("keys are TOML"));
    let config: Config = config.try_into().expect("a configuration");
    let Ok(dataset) = Dataset::read(root, &config, &|_, compute| compute()) else { return false };
    let names: Vec<&str> = dataset.items.iter().map(|item| item.record.image_id.as_str()).collect();
    assert!(names.is_sorted());
    if let Ok(taken) = dataset.take(OnProblem::Skip, None) {
        let _ = dataset.quick_fingerprint(&taken);
        let _ = dataset.contents_fingerprint(&taken, &Default::default(), &mut |_| ControlFlow::Continue(()));
    }
    dataset.items.iter().any(|item| item.file.is_some())
}

/// A folder with all texts of NIH and some of the images, one of which `name` and `bytes` replace.
fn nih(name: &str, bytes: &[u8]) -> tempfile::TempDir {
    let folder = scratch();
    for (text, whole) in [("Data_Entry_2017.csv", TABLE), ("train_val_list.txt", TRAIN_VAL), ("test_list.txt", TEST)] {
        put(folder.path(), text, whole.as_bytes());
    }
    for image in IMAGES {
        put(folder.path(), image, &[]);
    }
    put(folder.path(), name, bytes);
    folder
}

/// NIH's table of labels.
pub(crate) fn labels(bytes: &[u8]) -> bool {
    let folder = nih("Data_Entry_2017.csv", bytes);
    read(folder.path(), "split = 'random'") & read(folder.path(), "split = 'official'")
}

/// Lists of images: as one of NIH's, and as one of three.
pub(crate) fn lists(bytes: &[u8]) -> bool {
    let folder = nih("train_val_list.txt", bytes);
    let official = read(folder.path(), "split = 'official'");
    put(folder.path(), "validation.txt", b"00000003_000.png 0 0 0 0 0 0 0 0 0 0 0 0 0 1\n");
    official
        | read(
            folder.path(),
            "split = 'files'\ntrain_list = 'train_val_list.txt'\nvalidation_list = 'validation.txt'\ntest_list = 'test_list.txt'",
        )
}

/// An archive of images, as it is and compressed: a checksum of gzip would hide what is inside.
pub(crate) fn archive(bytes: &[u8]) -> bool {
    let read_as = |(name, bytes): (&str, Vec<u8>)| {
        let folder = nih(name, &bytes);
        for image in IMAGES {
            fs_err::remove_file(folder.path().join(image)).expect("a temporary file can be removed");
        }
        read(folder.path(), "split = 'random'")
    };
    [("images_001.tar.gz", gzipped(bytes)), ("images_001.tar", bytes.to_vec())].map(read_as) == [true; 2]
}

/// NIH's boxes.
pub(crate) fn boxes(bytes: &[u8]) -> bool {
    read(nih("BBox_List_2017.csv", bytes).path(), "split = 'random'")
}

/// The table of any other folder, whose findings are a list, and whose findings are columns.
pub(crate) fn folder_table(bytes: &[u8]) -> bool {
    let folder = scratch();
    for image in ["a.png", "b.jpg", "c.dcm"] {
        put(folder.path(), image, &[]);
    }
    let name = if bytes.starts_with(&[0x1f, 0x8b]) { "table.csv.gz" } else { "table.csv" };
    put(folder.path(), name, bytes);
    let common = "dataset = 'folder'\nroot = '.'\nboxes = 'none'\nimage_column = 'Path'\nsplit = 'random'\n\
                  rename = { 'Pleural Effusion' = 'Effusion', 'Lung Lesion' = '' }\n";
    let list = format!("{common}findings_column = 'labels'\npatient_column = 'patient'");
    let columns = "age_column = 'age'\nsex_column = 'sex'\nview_column = 'view'\nsplit_column = 'split'";
    read(folder.path(), &list) | read(folder.path(), &format!("{common}{columns}"))
}

/// Predictions of others.
pub(crate) fn scores(bytes: &[u8]) -> bool {
    let Ok(read) = ::labels::scores::scores(Path::new("scores.csv"), bytes, None) else { return false };
    assert!(read.rows.iter().flat_map(|(_, scores)| scores).all(|&score| read.scale.logit(score).is_finite()));
    true
}

/// Labels of experts.
pub(crate) fn experts(bytes: &[u8]) -> bool {
    let mapping: Vec<_> = cxr::Expert::ALL.map(|expert| (expert, expert.findings().to_vec())).into();
    ::labels::experts::experts(Path::new("experts.csv"), bytes, &mapping).is_ok()
}

fn texts(texts: &[&str]) -> Vec<Vec<u8>> {
    texts.iter().map(|text| text.as_bytes().to_vec()).collect()
}

pub(crate) fn labels_seeds() -> Vec<Vec<u8>> {
    let mut seeds = texts(&[
        TABLE,
        &TABLE.replace("\r\n", "\n").replace("Gender", "Sex"),
        &format!("\u{feff}{}", TABLE.trim_end().replace(',', ", ")),
        &TABLE.replace("058Y", "58.0").replace("|", ";"),
        &TABLE.replace("Cardiomegaly|Emphysema", "\"Cardiomegaly|Emphysema|\""),
    ]);
    seeds.push(utf16(TABLE));
    seeds.push(gzipped(TABLE.as_bytes()));
    seeds
}

pub(crate) fn lists_seeds() -> Vec<Vec<u8>> {
    let flags = TRAIN_VAL.replace('\n', " 0 1 0 0 0 0 0 0 0 0 0 0 0 0\n");
    let mut seeds = texts(&[
        TRAIN_VAL,
        &TRAIN_VAL.replace('\n', "\r\n"),
        &flags,
        &flags.replace(" 0\n", " 0 1\n").replace(' ', ","),
        &TRAIN_VAL.replace("0000000", "images_001\\images\\0000000"),
        &format!("image\n\"{}\"", TRAIN_VAL.trim_end().replace('\n', "\"\n\"")),
    ]);
    seeds.push(utf16(TRAIN_VAL));
    seeds
}

pub(crate) fn archive_seeds() -> Vec<Vec<u8>> {
    let long = format!("{}/00000005_000.png", "images/".repeat(30));
    let packed = |names: &[&str]| {
        let mut builder = tar::Builder::new(Vec::new());
        for (index, name) in names.iter().enumerate() {
            let mut header = tar::Header::new_gnu();
            header.set_size(index as u64 * 7);
            header.set_mode(0o644);
            header.set_cksum();
            builder.append_data(&mut header, name, &vec![index as u8; index * 7][..]).expect("memory");
        }
        builder.into_inner().expect("memory")
    };
    vec![packed(&["images/00000001_000.png", "images/00000002_000.png"]), packed(&[&long, "images/._00000001_000.png"])]
}

pub(crate) fn boxes_seeds() -> Vec<Vec<u8>> {
    let rows = "00000001_000.png,Cardiomegaly,225.084745762712,547.019216763771,86.7796610169491,79.1864406779661";
    texts(&[
        &format!("Image Index,Finding Label,Bbox [x,y,w,h],,,\n{rows},,,\n00000003_000.png,Infiltrate,1,2,3,4,,,\n"),
        &format!("Image Index,Finding Label,x,y,w,h\r\n{rows}\r\n"),
        "Image Index,Finding Label,\"Bbox [x,y,w,h]\"\n00000001_000.png,Mass,\"[1, 2, 3, 4]\"\n",
    ])
}

pub(crate) fn folder_table_seeds() -> Vec<Vec<u8>> {
    let list = "Path,patient,labels\na.png,p1,Mass|Nodule\nb.jpg,p2,\nc.dcm,p3,No Finding\n";
    let columns = "Path,age,sex,view,split,Mass,Pleural Effusion,Lung Lesion,No Finding\n\
                   a.png,50,F,Frontal,train,1.0,0,,\nb.jpg,,M,Lateral,validate,-1.0,1,0,0\nc.dcm,7.5,Male,PA,test,,,,1\n";
    let mut seeds = texts(&[list, columns, &list.replace(',', ";"), &columns.replace(',', "\t")]);
    seeds.extend([utf16(list), gzipped(columns.as_bytes())]);
    seeds
}

pub(crate) fn scores_seeds() -> Vec<Vec<u8>> {
    let probabilities = "Image Index,prob_Mass,prob_Pleural_Thickening\n00000001_000.png,0.25,0.5\nb.png,1e-9,1\n";
    let logits = ",file,logit_mass,logit_no_finding\n0,images/a.jpg,-1.5,2\n1,images/b.jpg,0,7e1\n";
    let beside = "image;Mass;Mass_pred\na.png;1;0.25\nb.png;0;0.5\n";
    let mut seeds = texts(&[probabilities, logits, beside]);
    seeds.extend([utf16(logits), gzipped(probabilities.as_bytes())]);
    seeds
}

pub(crate) fn experts_seeds() -> Vec<Vec<u8>> {
    let four =
        "Image ID,Patient ID,Fracture,Pneumothorax,Airspace opacity,Nodule or mass\n00000013_008.png,13,NO,NO,YES,NO\n";
    let all = "Image ID,Pneumothorax,Nodule,Mass\n00000013_008.png,YES,NO,YES\na.png,,,\n";
    let mut seeds = texts(&[four, all]);
    seeds.push(gzipped(four.as_bytes()));
    seeds
}

/// UTF-16, little-endian, with a byte order mark.
fn utf16(text: &str) -> Vec<u8> {
    [0xff, 0xfe].into_iter().chain(text.encode_utf16().flat_map(u16::to_le_bytes)).collect()
}

fn gzipped(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).expect("memory");
    encoder.finish().expect("memory")
}
