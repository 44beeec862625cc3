//! Writes PyTorch files of whatever content, as `torch.save` does. Tests of several crates include this file.

use std::io::Write;

/// A Python value.
#[derive(Clone)]
pub(super) enum Py {
    Int(i32),
    Text(String),
    Tuple(Vec<Py>),
    Dict(Vec<(String, Py)>),
    /// A tensor of f32 with this shape, by its elements.
    Tensor(Vec<usize>, Vec<f32>),
    /// Module, name: a function or class.
    Global(&'static str, &'static str),
    /// Function, arguments.
    Call(Box<Py>, Vec<Py>),
    /// An instance of a class with attributes, by NEWOBJ and BUILD.
    Instance(Box<Py>, Vec<(String, Py)>),
    Bytes(Vec<u8>),
    None,
}

pub(super) fn dict<const N: usize>(entries: [(&str, Py); N]) -> Py {
    Py::Dict(entries.into_iter().map(|(key, value)| (key.to_owned(), value)).collect())
}

/// A pickle and its storages.
#[derive(Default)]
struct Writer {
    pickle: Vec<u8>,
    storages: Vec<Vec<u8>>,
}

impl Writer {
    fn text(&mut self, text: &str) {
        self.pickle.push(b'X');
        self.pickle.extend((text.len() as u32).to_le_bytes());
        self.pickle.extend(text.as_bytes());
    }

    fn tuple(&mut self, items: &[Py]) {
        self.pickle.push(b'(');
        items.iter().for_each(|item| self.put(item));
        self.pickle.push(b't');
    }

    fn entries(&mut self, entries: &[(String, Py)]) {
        self.pickle.extend(b"}(");
        for (key, value) in entries {
            self.text(key);
            self.put(value);
        }
        self.pickle.push(b'u');
    }

    fn put(&mut self, value: &Py) {
        match value {
            Py::None => self.pickle.push(b'N'),
            Py::Int(value) => {
                self.pickle.push(b'J');
                self.pickle.extend(value.to_le_bytes());
            }
            Py::Text(text) => self.text(text),
            Py::Bytes(bytes) => {
                self.pickle.push(b'B');
                self.pickle.extend((bytes.len() as u32).to_le_bytes());
                self.pickle.extend(bytes);
            }
            Py::Tuple(items) => self.tuple(items),
            Py::Dict(entries) => self.entries(entries),
            Py::Global(module, name) => self.pickle.extend(format!("c{module}\n{name}\n").bytes()),
            Py::Call(function, args) => {
                self.put(function);
                self.tuple(args);
                self.pickle.push(b'R');
            }
            Py::Instance(class, attributes) => {
                self.put(class);
                self.pickle.extend(b")\x81");
                self.entries(attributes);
                self.pickle.push(b'b');
            }
            Py::Tensor(shape, values) => self.tensor(shape, values),
        }
    }

    fn tensor(&mut self, shape: &[usize], values: &[f32]) {
        self.pickle.extend(b"ctorch._utils\n_rebuild_tensor_v2\n((");
        self.text("storage");
        self.pickle.extend(b"ctorch\nFloatStorage\n");
        self.text(&self.storages.len().to_string());
        self.text("cpu");
        self.put(&Py::Int(values.len() as i32));
        self.pickle.extend(b"tQK\0");
        let strides = (0..shape.len()).map(|axis| shape[axis + 1..].iter().product());
        for sizes in [shape.to_vec(), strides.collect()] {
            self.tuple(&sizes.into_iter().map(|size: usize| Py::Int(size as i32)).collect::<Vec<_>>());
        }
        self.pickle.extend(b"\x89}tR");
        self.storages.push(values.iter().flat_map(|value| value.to_le_bytes()).collect());
    }
}

/// A file as `torch.save` writes it.
pub(super) fn saved(value: &Py, compressed: bool) -> Vec<u8> {
    let mut writer = Writer { pickle: b"\x80\x02".to_vec(), storages: Vec::new() };
    writer.put(value);
    writer.pickle.push(b'.');
    let storages = writer.storages.iter().enumerate().map(|(key, data)| (format!("data/{key}"), data.as_slice()));
    zipped([("data.pkl".to_owned(), writer.pickle.as_slice())].into_iter().chain(storages), compressed)
}

/// A zip with a folder.
pub(super) fn zipped<'a>(entries: impl Iterator<Item = (String, &'a [u8])>, compressed: bool) -> Vec<u8> {
    let method = if compressed { zip::CompressionMethod::Deflated } else { zip::CompressionMethod::Stored };
    let mut zip = zip::ZipWriter::new(std::io::Cursor::new(Vec::new()));
    for (name, data) in entries {
        let options = zip::write::SimpleFileOptions::default().compression_method(method);
        zip.start_file(format!("archive/{name}"), options).unwrap();
        zip.write_all(data).unwrap();
    }
    zip.finish().unwrap().into_inner()
}
