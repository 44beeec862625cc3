//! Files as their authors write them, and bad ones.

use std::io::Write;
use std::path::Path;

use cxr::Finding;

use super::*;

fn read(text: &str) -> Result<Scores, Error> {
    scores(Path::new("preds.csv"), text.as_bytes(), None)
}

fn said(text: &str) -> String {
    let error = read(text).unwrap_err();
    format!("{error}; hint: {}", error.hint().unwrap_or_default())
}

#[test]
fn columns_are_known_by_many_names() {
    let mass = Finding::Mass.index();
    let files = [
        "Image Index,prob_Mass,prob_Pleural_Thickening\n00000001_000.png,0.25,0.5\n",
        "\u{feff}filename;Mass;Pleural Thickening\r\n/data/x/00000001_000.PNG;0.25;0.5\r\n",
        ",id,logit_mass,logit_pleural_thickening\n0,00000001_000,0.25,0.5\n",
        "who,what,Pleural_Thicken_pred,MASS_pred\n00000001_000.jpg,x,0.5,0.25\n",
        // Labels beside scores are no scores.
        "Image Index,Mass,Pleural_Thickening,prob_Mass,prob_Pleural_Thickening\n00000001_000.png,1,0,0.25,0.5\n",
        "image,Mass_label,Pleural_Thickening_label,Mass,Pleural_Thickening\n00000001_000.png,1,0,0.25,0.5\n",
        "Image Index,Mass,Pleural_Thickening,resnet50_Mass,resnet50_Pleural_Thickening\n00000001_000.png,1,,0.25,0.5\n",
        // What a column holds tells more than a name that many columns have.
        "id,image_path,Mass,Pleural_Thickening\n7,images/00000001_000.png,0.25,0.5\n",
        "name,where,id,Mass,Pleural_Thickening\nNobody,images/00000001_000.png,7,0.25,0.5\n",
        "score,file,Mass,Pleural_Thickening\nx.png,00000001_000.png,0.25,0.5\n",
    ];
    for file in files {
        let read = read(file).unwrap_or_else(|error| panic!("{file}: {error}"));
        let [(image, scores)] = &read.rows[..] else { panic!("{file}") };
        assert_eq!((image.as_str(), scores[mass], scores[12]), ("00000001_000", 0.25, 0.5), "{file}");
        assert_eq!(read.scored.iter().filter(|&&scored| scored).count(), 2, "{file}");
        assert_eq!(read.scale, Scale::Probability);
    }
    let fifteen = "Image Index,Mass,No Finding,epoch\na.png,-1.5,2,3\nb.png,0,0,3\na.png,-1.5,2,3\n";
    let read = read(fifteen).unwrap();
    assert_eq!((read.scale, read.repeated, read.ignored), (Scale::Logit, 1, vec!["epoch".to_owned()]));
    assert_eq!((read.rows.len(), read.scored[14], read.rows[0].1[14]), (2, true, 2.0));
}

#[test]
fn a_set_of_columns_can_be_named() {
    let two = "image,prob_global_Mass,prob_fusion_Mass\na.png,0.1,0.2\n";
    assert_eq!(
        said(two),
        "preds.csv: several sets of scores, the sets begin with the columns prob_fusion_Mass, prob_global_Mass; hint: \
         `--columns TEXT` names one set by what stands beside the findings: `--columns prob` takes prob_Mass, ...; \
         `--columns \"\"` takes the bare names"
    );
    let of = |wanted| scores(Path::new("preds.csv"), two.as_bytes(), Some(wanted));
    assert_eq!(of("prob_fusion").unwrap().rows[0].1[Finding::Mass.index()], 0.2);
    assert!(of("pred").unwrap_err().to_string().contains("no such set"));
}

#[test]
fn labels_are_no_scores() {
    let flags = "only 0 and 1: labels or decisions, unless `--columns` names them";
    // The truth beside scores, whatever these are called: taken for scores, it has an AUROC of 1.
    let beside = "Image Index,Mass,resnet50_Mass\na.png,1,0.25\nb.png,0,0.5\n";
    let taken = read(beside).unwrap();
    assert_eq!((taken.score_columns, taken.ignored), (vec!["resnet50_Mass".to_owned()], vec!["Mass".to_owned()]));
    // The truth alone.
    let truth = "Image Index,Mass,No Finding\na.png,1,0\nb.png,,1\nc.png,NaN,0.0\n";
    let refused = said(truth);
    let sets = format!("preds.csv: no such set of scores, the sets begin with the columns Mass ({flags}); hint: ");
    assert!(refused.starts_with(&sets), "{refused}");
    assert!(refused.contains("`--columns TEXT` names one set") && refused.contains("`--columns \"\"` takes"));
    let decisions = said("image,Mass,resnet_Mass\na.png,1,0\nb.png,0,1\n");
    assert!(decisions.contains(&format!("the columns Mass ({flags}), resnet_Mass ({flags})")), "{decisions}");
    // Who names them has them.
    let named = scores(Path::new("preds.csv"), beside.as_bytes(), Some("")).unwrap();
    assert_eq!((named.score_columns, named.rows[0].1[Finding::Mass.index()]), (vec!["Mass".to_owned()], 1.0));
}

#[test]
fn vague_names_of_the_images_column_are_the_last_choice() {
    let column = |text: &str| read(text).unwrap().image_column;
    for (file, expected) in [
        ("id,filepath,Mass\n7,x/a.png,0.5\n", "filepath"),
        ("id,file_path,Mass\n7,x/a.png,0.5\n", "file_path"),
        ("id,Img Path,Mass\n7,x/a.png,0.5\n", "Img Path"),
        ("name,Filenames,Mass\n7,x/a.png,0.5\n", "Filenames"),
        ("id,x,Mass\n7,a.png,0.5\n", "x"),
        ("x,id,Mass\nb.png,a.png,0.5\n", "id"),
        ("x,id,Mass\n1,a,0.5\n", "id"),
        ("id,name,Mass\n1,a,0.5\n", "name"),
        ("id,name,Mass\na.png,a,0.5\n", "id"),
    ] {
        assert_eq!(column(file), expected, "{file}");
    }
}

#[test]
fn bad_files_are_named() {
    for (file, expected) in [
        ("", "no rows"),
        ("Image Index,Mass\n", "no rows"),
        ("a,b\n1,2\n", "no column has the images' names, got the columns a, b; hint: expected a column"),
        ("Image Index,b\na.png,2\n", "no column has scores, got the columns Image Index, b; hint: expected a column"),
        ("Image Index,Mass\na.png,NaN\n", "line 2, column \"Mass\": got \"NaN\", expected a finite number"),
        ("Image Index,Mass\na.png,1e99\n", "line 2, column \"Mass\": got \"1e99\", expected a finite number"),
        ("Image Index,Mass\na.png\n", "line 2, column \"Mass\": got \"\", expected a finite number"),
        ("Image Index,Mass\n,0.5\n", "line 2, column \"Image Index\": got \"\", expected the name"),
        ("Image Index,Mass\na.png,0.5\na.jpg,0.6\n", "lines 2 and 3 differ about image a"),
        ("Image Index,Mass,mass\na.png,0.5,0.6\n", "the columns \"Mass\" and \"mass\" both mean mass"),
    ] {
        let said = said(file);
        assert!(said.contains(expected), "{file:?}: {said}");
    }
    // Latin-1, UTF-16 and noise are no reason to panic.
    for bytes in [&b"Image Index,Mass\n\xe9.png,0.5\n"[..], b"\xff\xfeI\0m\0", b"\x1f\x8b\x08garbage", b"\0\0\0"] {
        let _ = scores(Path::new("preds.csv"), bytes, None);
    }
}

#[test]
fn no_file_takes_more_than_there_is_reason_for() {
    let packed = |text: &[u8], times: usize| {
        let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        gzip.write_all(b"Image Index,Mass\n").unwrap();
        (0..times).for_each(|_| gzip.write_all(text).unwrap());
        gzip.finish().unwrap()
    };
    let said = |bytes: &[u8]| scores(Path::new("preds.csv"), bytes, None).unwrap_err().to_string();
    assert!(said(&packed(&[b'\n'; 1 << 20], 300)).contains("more than 134217728 bytes when unpacked"));
    assert!(said(&packed(&[b','; 1 << 16], 1)).contains("characters in a row"));
    assert!(said(&packed(&[b','; 2000], 1)).contains("cells in a row"));
    assert!(said(&packed(&b"a\n".repeat(1 << 19), 4)).contains("more than 2000000 rows"));
}

#[test]
fn probabilities_keep_their_order_as_logits() {
    let rising = [0.0, 1e-300, 1e-30, 1e-6, 0.25, 0.5, 0.75, 1.0 - 1e-7, 1.0 - 1e-16, 1.0];
    let logits = rising.map(|p| Scale::Probability.logit(p));
    assert!(logits.is_sorted_by(|a, b| a < b), "{logits:?}");
    assert!(logits.iter().all(|logit| logit.is_finite()) && logits[5] == 0.0);
    assert!((logits[6] - 3.0_f32.ln()).abs() < 1e-6);
    assert_eq!(Scale::Logit.logit(-3.5), -3.5);
}
