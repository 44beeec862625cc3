//! Folders, archives and paths.

use std::os::unix::fs::PermissionsExt;
use std::process::Command;

use e2e::binaries;
use fs_err as fs;
use fs_err::os::unix::fs::symlink;

use crate::make::{Case, IMAGES, TABLE, TEST, TRAIN_VAL, move_all, names, said};

#[test]
fn images_lie_in_any_folder() {
    // IBM/cdfsl-benchmark#3 (flat), Kaggle's images_001/images, and deeper.
    let case = Case::new();
    let (expected, _) = case.good(&[]);
    let expected = said(expected);
    let mut from = case.path(IMAGES);
    for place in ["raw", "raw/archive/deep/er/and/deeper/images", "raw/images-224/images-224"] {
        let to = case.path(place);
        fs::create_dir_all(&to).unwrap();
        for name in names() {
            fs::rename(from.join(&name), to.join(&name)).unwrap();
        }
        from = to;
        assert_eq!(said(case.good(&[]).0), expected, "{place}");
    }
}

#[test]
fn kaggles_sample_unpacks_its_images_twice() {
    // nih-chest-xrays/sample: images/ and sample/images/.
    let case = Case::new();
    let (expected, _) = case.good(&[]);
    for name in names() {
        let bytes = fs::read(case.path(IMAGES).join(&name)).unwrap();
        case.write(&format!("raw/sample/images/{name}"), &bytes);
    }
    assert_eq!(case.good(&[]).0, expected);
    case.write("raw/sample/images/00000003_000.png", b"another");
    let said = case.bad(4, &[]);
    let both = "00000003_000.png is there twice, images_001/images/00000003_000.png and sample/images/00000003_000.png";
    assert!(said.contains(both) && said.contains("hint: equal files are one image"), "{said}");
}

#[test]
fn endings_of_files_may_be_others_than_the_tables() {
    // PeterL1n/BackgroundMattingV2#51, huggingface/datasets#4515.
    let case = Case::new();
    let (expected, _) = case.good(&[]);
    let place = case.path(IMAGES);
    for ending in ["PNG", "jpg", "Jpeg", "DCM"] {
        move_all(&place, &place, |name| format!("{}.{ending}", name.rsplit_once('.').unwrap().0));
        assert_eq!(said(case.good(&[]).0), said(expected.clone()), "{ending}");
    }
    // Two that are not equal, of which neither is called as in the table.
    fs::write(place.join("00000001_000.jpeg"), b"another").unwrap();
    assert!(case.bad(4, &[]).contains("00000001_000.png is there twice"));
}

#[test]
fn a_folder_of_dicom_files_with_nihs_table() {
    // mlmed/torchxrayvision#125.
    let case = Case::new();
    let dicom = include_bytes!("../../../picture/tests/dicom/12bit_exact.dcm");
    for name in names() {
        fs::remove_file(case.path(IMAGES).join(&name)).unwrap();
        case.write(&format!("{IMAGES}/{}", name.replace(".png", ".dcm")), dicom);
    }
    let (rows, _) = case.good(&[]);
    assert!(rows.len() == 40 && rows[0].path.ends_with("00000001_000.dcm"));
}

#[test]
fn folders_that_systems_make_or_that_may_not_be_read_are_passed_over() {
    // ukdtom/Plex-FindUnmatched.bundle#89, globaleaks#3159, JohnDoee/autotorrent#6: lost+found on a data disk.
    let case = Case::new();
    let (expected, _) = case.good(&[]);
    for name in ["lost+found", "System Volume Information", "__MACOSX/images", "private"] {
        case.write(&format!("raw/{name}/00000001_000.png"), b"no image");
    }
    fs::remove_file(case.path("raw/private/00000001_000.png")).unwrap();
    let closed = case.path("raw/private");
    fs::set_permissions(&closed, std::fs::Permissions::from_mode(0o000)).unwrap();
    let (rows, log) = case.good(&["prep.size=49"]);
    fs::set_permissions(&closed, std::fs::Permissions::from_mode(0o700)).unwrap();
    assert_eq!(rows.len(), expected.len());
    assert!(log.contains("folders passed over: "), "{log}");
    assert!(log.contains("lost+found (no part of a dataset)"), "{log}");
}

#[test]
fn links_lead_in_and_never_round() {
    let case = Case::new();
    let (expected, _) = case.good(&[]);
    move_all(&case.path(IMAGES), &case.path("disk/pics"), str::to_owned);
    fs::remove_dir(case.path(IMAGES)).unwrap();
    symlink(case.path("disk/pics"), case.path(IMAGES)).unwrap();
    symlink(case.path("disk/pics"), case.path("raw/again")).unwrap();
    symlink("nowhere", case.path("raw/dead.png")).unwrap();
    symlink("..", case.path("raw/up")).unwrap();
    symlink("../disk", case.path("disk/round")).unwrap();
    symlink(case.path("disk/pics/00000001_000.png"), case.path("raw/00000001_000.png")).unwrap();
    assert_eq!(said(case.good(&[]).0), said(expected.clone()));
    fs::rename(case.path("raw"), case.path("real")).unwrap();
    symlink("real", case.path("raw")).unwrap();
    assert_eq!(said(case.good(&[]).0), said(expected));
}

#[test]
fn what_is_there_is_said_where_no_image_is() {
    let case = Case::new();
    let place = case.path(IMAGES);
    move_all(&place, &place, |name| format!("scan {name}"));
    let said = case.bad(3, &[]);
    assert!(
        said.contains("none of the 40 images is there, the first: 00000001_000.png; what is there: 40 .png"),
        "{said}"
    );
    fs::remove_dir_all(&place).unwrap();
    for name in ["images.zip", "b.zip", "x.7z"] {
        case.write(&format!("raw/{name}"), b"PK");
    }
    let said = case.bad(3, &[]);
    assert!(said.contains("1 .7z, 2 .zip") && said.contains("other archives must be unpacked"), "{said}");
    // Git LFS left pointers.
    for name in names() {
        case.write(&format!("{IMAGES}/{name}"), b"version https://git-lfs.github.com/spec/v1\noid sha256:1\nsize 5\n");
    }
    let said = case.bad(4, &[]);
    assert!(said.contains("git lfs pull"), "{said}");
}

#[test]
fn a_root_one_folder_too_high_or_too_deep_is_told_the_right_one() {
    let case = Case::new();
    fs::create_dir_all(case.path("top")).unwrap();
    fs::rename(case.path("raw"), case.path("top/archive")).unwrap();
    fs::rename(case.path("top"), case.path("raw")).unwrap();
    let said = case.bad(3, &[]);
    assert!(said.contains("one lies in raw/archive") && said.contains("--set prep.root=raw/archive"), "{said}");
    let said = case.pipeline.stage("prep", &["--set", "prep.root=raw/archive/images_001"]).expect(3).stderr;
    assert!(said.contains("raw/archive`"), "{said}");
}

#[test]
fn tables_lie_in_another_folder_than_the_images() {
    // mlmed/torchxrayvision#124 has imgpath and csvpath.
    let case = Case::new();
    let (expected, _) = case.good(&[]);
    fs::create_dir(case.path("tables")).unwrap();
    for name in [TABLE, TRAIN_VAL, TEST] {
        fs::rename(case.path(name), case.path(&name.replace("raw", "tables"))).unwrap();
    }
    assert_eq!(case.good(&["prep.labels=tables/Data_Entry_2017_v2020.csv"]).0, expected);
}

#[test]
fn lists_of_another_name_are_named_in_the_hint() {
    // huggingface.co/datasets/peternasser99/MED.
    let case = Case::new();
    for name in [TRAIN_VAL, TEST] {
        fs::rename(case.path(name), case.path(&name.replace(".txt", "_NIH.txt"))).unwrap();
    }
    let said = case.bad(3, &[]);
    assert!(said.contains("--set prep.train_list=FILE") && said.contains("train_val_list_NIH.txt"), "{said}");
    case.good(&["prep.train_list=train_val_list_NIH.txt", "prep.test_list=test_list_NIH.txt"]);
}

#[test]
fn a_tilde_is_the_home_in_settings_and_profiles() {
    // huggingface/datasets#5757, mne-tools/mne-python#11533: the shell expands it in front of an argument only.
    let case = Case::new();
    fs::create_dir(case.path("home")).unwrap();
    fs::rename(case.path("raw"), case.path("home/nih")).unwrap();
    fs::write(case.path("tilde.toml"), "[prep]\nroot = \"~/nih\"\n").unwrap();
    for args in [["--set", "prep.root=~/nih"], ["--config", "tilde.toml"]] {
        let mut command = Command::new(binaries().join("prep"));
        command.current_dir(case.pipeline.path()).env("HOME", case.path("home")).args(args);
        case.pipeline.run(command).expect(0);
    }
}

#[test]
fn nihs_archives_are_read_without_being_unpacked() {
    // jrzech/reproduce-chexnet, nih_batch_download_zips.py leaves images_01.tar.gz and so on.
    let case = Case::new();
    let (expected, _) = case.good(&[]);
    let all = names();
    case.pack("images_01.tar.gz", &all[..25]);
    let mut disorder = all[25..39].to_vec();
    disorder.reverse();
    case.pack("images_02.tgz", &disorder);
    // The last image lies in a folder.
    let (rows, _) = case.good(&[]);
    assert_eq!(said(rows.clone()), said(expected));
    assert_eq!(rows[0].path, "images_01.tar.gz/images/00000001_000.png");
    assert!(case.prep(&[]).current());
    assert!(case.prep(&["prep.memory_mb=16"]).current());

    // attend cuts from original files, which it does not look for in archives.
    let tiny = ["--set", "prep.root=raw", "--set", "global.epochs=1"];
    case.pipeline.stage("global", &tiny).expect(0);
    let attend = case.pipeline.stage("attend", &[&tiny[..], &["--set", "attend.source=original"]].concat()).expect(3);
    assert!(attend.stderr.contains("lies in the archive raw/images_0"), "{attend}");
    assert!(attend.stderr.contains("attend.source = \"prepared\""), "{attend}");

    // One that broke off, and one that was replaced.
    let archive = case.path("raw/images_01.tar.gz");
    let whole = fs::read(&archive).unwrap();
    fs::write(&archive, &whole[..whole.len() / 2]).unwrap();
    let said = case.bad(4, &[]);
    assert!(
        said.contains("raw/images_01.tar.gz: cannot be read after ") && said.contains("download it again"),
        "{said}"
    );
}
