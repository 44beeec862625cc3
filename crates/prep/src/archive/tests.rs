//! Archives as people have them, and as nobody should.

use std::io::Write;

use flate2::Compression;
use flate2::write::GzEncoder;

use super::*;
use crate::scan::scan;

/// A tar file of entries, each a name and its contents.
fn tar_of(entries: &[(&str, &[u8])]) -> Vec<u8> {
    let mut tar = tar::Builder::new(Vec::new());
    for (name, contents) in entries {
        let mut header = tar::Header::new_gnu();
        header.set_size(contents.len() as u64);
        header.set_mode(0o644);
        tar.append_data(&mut header, name, *contents).unwrap();
    }
    tar.into_inner().unwrap()
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut gz = GzEncoder::new(Vec::new(), Compression::fast());
    gz.write_all(bytes).unwrap();
    gz.finish().unwrap()
}

/// The images in an archive of these bytes, by its index.
fn images(bytes: &[u8], name: &str) -> Result<(tempfile::TempDir, Vec<File>), Error> {
    let folder = tempfile::tempdir().unwrap();
    fs_err::write(folder.path().join(name), bytes).unwrap();
    let found = scan(folder.path())?;
    let index = index(folder.path(), &found.archives[0], &|_| {})?;
    let files = files(&found.archives[0], &index);
    Ok((folder, files))
}

#[test]
fn images_are_found_and_read_in_any_order() {
    let long = format!("images/{}/b.png", "deep/".repeat(60));
    let entries: [(&str, &[u8]); 5] =
        [("./images/c.png", b"c"), (&long, b"bb"), ("images/._c.png", b"x"), ("README.txt", b"x"), ("a.dcm", b"aaa")];
    for (bytes, name) in
        [(gzip(&tar_of(&entries)), "i.tar.gz"), (tar_of(&entries), "i.tar"), (tar_of(&entries), "i.tgz")]
    {
        let (folder, files) = images(&bytes, name).unwrap();
        let paths: Vec<&str> = files.iter().map(|file| &file.path[name.len() + 1..]).collect();
        assert_eq!(paths, ["images/c.png", &long, "a.dcm"]);
        assert_eq!(files[2].archive(), Some(name));
        let entries: Vec<u64> = [2, 0, 1].map(|at: usize| files[at].packed.as_ref().unwrap().entry).into();
        let mut contents = Vec::new();
        read(&folder.path().join(name), &folder.path().join(name), &entries, &mut |member, reader, bytes| {
            let mut text = String::new();
            reader.read_to_string(&mut text).unwrap();
            contents.push((member, text, bytes));
            Ok(())
        })
        .unwrap();
        assert_eq!(contents, [(1, "c".to_owned(), 1), (2, "bb".to_owned(), 2), (0, "aaa".to_owned(), 3)]);
    }
}

#[test]
fn damaged_archives_are_named() {
    let whole = gzip(&tar_of(&[("a.png", &[7; 5000]), ("b.png", &[9; 5000])]));
    for bytes in [&whole[..whole.len() / 2], b"no archive", &gzip(b"no archive")] {
        let error = images(bytes, "images_001.tar.gz").unwrap_err();
        assert!(matches!(error, Error::Archive { .. }) && error.to_string().contains("images_001.tar.gz"), "{error}");
    }
    // 200 MB of nothing in 200 kB.
    let mut header = tar::Header::new_gnu();
    header.set_path("a.png").unwrap();
    header.set_size(200 << 20);
    header.set_cksum();
    let mut gz = GzEncoder::new(Vec::new(), Compression::best());
    gz.write_all(header.as_bytes()).unwrap();
    for _ in 0..200 {
        gz.write_all(&vec![0; 1 << 20]).unwrap();
    }
    let error = images(&gz.finish().unwrap(), "bomb.tar.gz").unwrap_err().to_string();
    assert!(error.contains("more than 100 times as large"), "{error}");
}

#[test]
fn a_name_that_never_ends_takes_no_memory() {
    let mut header = tar::Header::new_gnu();
    header.set_path("././@LongLink").unwrap();
    header.set_entry_type(EntryType::GNULongName);
    header.set_size(40 << 20);
    header.set_cksum();
    let mut tar = header.as_bytes().to_vec();
    tar.resize(tar.len() + (40 << 20), b'a');
    tar.extend(tar_of(&[("x", b"")]));
    let (_folder, files) = images(&tar, "long.tar").unwrap();
    assert!(files.is_empty());
}

#[test]
fn no_bytes_make_it_panic() {
    let good = tar_of(&[("a.png", &[7; 700]), ("b.png", &[9; 20])]);
    let mut state = 1_u64;
    let mut random = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as usize
    };
    for _ in 0..300 {
        let mut bytes = good.clone();
        for _ in 0..1 + random() % 4 {
            let at = random() % bytes.len();
            bytes[at] = random() as u8;
        }
        bytes.truncate(1 + random() % bytes.len());
        let _ = images(&bytes, "a.tar");
        let _ = images(&gzip(&bytes), "a.tar.gz");
    }
}
