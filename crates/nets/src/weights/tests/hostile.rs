//! Files that were made to do harm, or were damaged.

use std::time::{Duration, Instant};

use rand::{Rng, RngExt};
use rand_chacha::rand_core::SeedableRng;

use super::pickled::{Py, dict, saved, zipped};
use super::*;

#[test]
fn a_pickle_runs_nothing() {
    for (module, name) in [("posix", "system"), ("os", "system"), ("builtins", "eval"), ("torch", "load")] {
        let call = Py::Call(Box::new(Py::Global(module, name)), vec![Py::Text("true".to_owned())]);
        let reason = refusal("model.pth", &saved(&call, false));
        assert!(reason.contains(&format!("it names {module}.{name}, which is not run")), "{reason}");

        // by STACK_GLOBAL
        let mut pickle = b"\x80\x04\x8c".to_vec();
        pickle.push(module.len() as u8);
        pickle.extend(module.as_bytes());
        pickle.push(0x8c);
        pickle.push(name.len() as u8);
        pickle.extend(name.as_bytes());
        pickle.extend(b"\x93)R.");
        let reason = refusal("model.pth", &pth(&pickle, &[]));
        assert!(reason.contains("which is not run"), "{reason}");

        // in the place of a tensor's own function, and as its storage
        let tensor = Py::Call(Box::new(Py::Global(module, name)), vec![Py::Tensor(vec![4], vec![0.0; 4])]);
        assert!(refusal("model.pth", &saved(&dict([("w", tensor)]), false)).contains("no dict of tensors"));
    }
    // INST, OBJ, NEWOBJ_EX: other ways to call
    for call in [&b"(ios\nsystem\n."[..], b"(cos\nsystem\nX\x04\0\0\0trueo.", b"cos\nsystem\n)}\x92."] {
        let reason = refusal("model.pth", &pth(&[b"\x80\x02", call].concat(), &[]));
        assert!(reason.contains("os.system, which is not run"), "{reason}");
    }
}

#[test]
fn instructions_are_bounded() {
    let mut pickle = vec![b'N'; 5 << 20];
    pickle.push(b'.');
    assert!(refusal("model.pth", &pth(&pickle, &[])).contains("more than"));
    // depth and cycles: a list in itself, tuples in tuples, dicts in dicts, a module in itself
    let mut pickle = b"]q\0h\0a".to_vec();
    pickle.extend([0x85; 1 << 20]);
    pickle.push(b'.');
    assert!(refusal("model.pth", &pth(&pickle, &[])).contains("no dict of tensors"));
    let mut pickle = b"}".to_vec();
    (0..100_000).for_each(|_| pickle.extend(b"q\0}X\x01\0\0\0ah\0s"));
    pickle.push(b'.');
    assert!(refusal("model.pth", &pth(&pickle, &[])).contains("no dict of tensors"));
    let pickle = b"ca\nB\n)\x81q\0}X\x01\0\0\0mh\0sb.";
    assert!(refusal("model.pth", &pth(pickle, &[])).contains("no dict of tensors"));
}

/// A name of 200 kB in every place where a name can be, as often as a file can have it.
#[test]
fn long_names_cost_nothing() {
    let long = vec![b'.'; 200_000];
    let mut pickle = b"\x80\x02}X".to_vec();
    pickle.extend((long.len() as u32).to_le_bytes());
    pickle.extend(&long);
    pickle.extend(b"q\0K\x01s");
    (0..100_000).for_each(|_| pickle.extend(b"h\0}h\0}sss".iter().take(9)));
    let started = Instant::now();
    refusal("model.pth", &pth(&[&pickle[..], b"."].concat(), &[]));
    assert!(started.elapsed() < Duration::from_secs(10));
}

#[test]
fn a_file_that_inflates_without_end_is_refused() {
    let zeros = vec![0; 16 << 20];
    let reason = refusal("model.pth", &zipped([("data.pkl".to_owned(), &zeros[..])].into_iter(), true));
    assert!(reason.contains("inflates to more than"), "{reason}");
}

/// Some changes of a file: bytes, a cut, a doubled part, a part of another file.
fn changed(bytes: &[u8], other: &[u8], random: &mut impl Rng) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    for _ in 0..random.random_range(1..6) {
        let at = random.random_range(0..bytes.len().max(1));
        let length = random.random_range(0..64).min(bytes.len() - at.min(bytes.len()));
        match random.random_range(0..6) {
            0 | 1 => bytes.iter_mut().skip(at).take(1).for_each(|byte| *byte = random.random()),
            2 => bytes.iter_mut().skip(at).take(1).for_each(|byte| *byte ^= 1 << random.random_range(0..8)),
            3 => drop(bytes.splice(at..at + length, [0xff; 8])),
            4 => {
                let from = random.random_range(0..other.len());
                let part = other[from..(from + 64).min(other.len())].to_vec();
                bytes.splice(at..at, part);
            }
            _ => bytes.truncate(bytes.len() - length),
        }
    }
    bytes
}

#[test]
fn five_hundred_mutated_files_are_read_or_refused() {
    let names = ["zip.pth", "legacy.pth", "checkpoint.pth", "views.pth", "plain.safetensors", "objects.pth"];
    let files: Vec<Vec<u8>> = names.iter().map(|name| fs_err::read(fixture(name)).unwrap()).collect();
    let mut random = rand_chacha::ChaCha8Rng::seed_from_u64(16);
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("model");
    for round in 0..504 {
        let (one, two) = (round % files.len(), random.random_range(0..files.len()));
        fs_err::write(&path, changed(&files[one], &files[two], &mut random)).unwrap();
        let started = Instant::now();
        let read = take(&path, &layout());
        assert!(started.elapsed() < Duration::from_secs(10), "round {round}");
        if let Err(error) = read {
            assert!(!matches!(error, Error::Io(_) | Error::Tensor(_)), "round {round}: {error}");
        }
    }
    // the pickle inside, which a zip's checksum would protect
    let pickle = {
        let mut zip = zip::ZipArchive::new(std::io::Cursor::new(&files[5])).unwrap();
        let mut pickle = Vec::new();
        std::io::copy(&mut zip.by_name("objects/data.pkl").unwrap(), &mut pickle).unwrap();
        pickle
    };
    for round in 0..2000 {
        let changed = changed(&pickle, &pickle, &mut random);
        let file = pth(&changed, &[("0", &[0; 48]), ("1", &[0; 8]), ("2", &[0; 12]), ("3", &[0; 8])]);
        fs_err::write(&path, file).unwrap();
        let started = Instant::now();
        let _ = take(&path, &layout());
        assert!(started.elapsed() < Duration::from_secs(10), "round {round}");
    }
}
