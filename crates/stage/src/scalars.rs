//! Numbers of a training in the files that TensorBoard reads.
//!
//! An event file is a sequence of records (length, masked CRC-32C of the length, data, masked CRC-32C of the data; the
//! format of TensorFlow's `record_writer.cc`), whose data are `Event` messages of `event.proto`. Only what a scalar needs
//! is declared here.

use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use prost::Message;

#[derive(Message)]
struct Event {
    /// Seconds since 1970.
    #[prost(double, tag = "1")]
    wall_time: f64,
    #[prost(int64, tag = "2")]
    step: i64,
    #[prost(string, optional, tag = "3")]
    file_version: Option<String>,
    #[prost(message, optional, tag = "5")]
    summary: Option<Summary>,
}

#[derive(Message)]
struct Summary {
    #[prost(message, repeated, tag = "1")]
    value: Vec<Value>,
}

#[derive(Message)]
struct Value {
    #[prost(string, tag = "1")]
    tag: String,
    #[prost(float, optional, tag = "2")]
    simple_value: Option<f32>,
}

/// A reader waits for new numbers at most so long.
const PATIENCE: Duration = Duration::from_secs(5);

/// Scalars of one training, by step; writes nothing without `--tensorboard`.
#[derive(Debug)]
pub struct Scalars {
    folder: Option<PathBuf>,
    resumed: bool,
    file: Option<BufWriter<fs_err::File>>,
    flushed: Instant,
}

impl Scalars {
    /// Numbers that go nowhere.
    pub fn nowhere() -> Self {
        Scalars::new(None)
    }

    pub(crate) fn new(folder: Option<PathBuf>) -> Self {
        Scalars { folder, resumed: false, file: None, flushed: Instant::now() }
    }

    /// The training continues one that was interrupted: its event files stay. Otherwise they are superseded.
    pub fn resume(&mut self) {
        self.resumed = true;
    }

    /// Numbers at a step. A full disk is a warning, and the end of the numbers, never of the training.
    pub fn add(&mut self, step: u64, values: &[(&str, f64)]) {
        let Some(folder) = &self.folder else { return };
        let value = |&(tag, value): &(&str, f64)| Value { tag: tag.to_owned(), simple_value: Some(value as f32) };
        let summary = Some(Summary { value: values.iter().map(value).collect() });
        let event =
            Event { wall_time: now(), step: i64::try_from(step).unwrap_or(i64::MAX), file_version: None, summary };
        let mut write = || -> std::io::Result<()> {
            let file = match &mut self.file {
                Some(file) => file,
                None => self.file.insert(create(folder, self.resumed)?),
            };
            record(file, &event)?;
            if self.flushed.elapsed() > PATIENCE {
                self.flushed = Instant::now();
                file.flush()?;
            }
            Ok(())
        };
        if let Err(error) = write() {
            tracing::warn!("no more TensorBoard events: {error}");
            self.folder = None;
            self.file = None;
        }
    }
}

impl Drop for Scalars {
    fn drop(&mut self) {
        if let Some(Err(error)) = self.file.as_mut().map(Write::flush) {
            tracing::warn!("TensorBoard events are incomplete: {error}");
        }
    }
}

/// A new event file, the first of its folder unless `resumed`.
fn create(folder: &Path, resumed: bool) -> std::io::Result<BufWriter<fs_err::File>> {
    const PREFIX: &str = "events.out.tfevents.";
    fs_err::create_dir_all(folder)?;
    if !resumed {
        for entry in fs_err::read_dir(folder)? {
            let path = entry?.path();
            if path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(PREFIX)) {
                fs_err::remove_file(path)?;
            }
        }
    }
    let name = format!("{PREFIX}{}.{}", now() as u64, std::process::id());
    let mut file = BufWriter::new(fs_err::File::create(folder.join(name))?);
    let version = Some("brain.Event:2".to_owned());
    record(&mut file, &Event { wall_time: now(), step: 0, file_version: version, summary: None })?;
    file.flush()?;
    Ok(file)
}

fn record(file: &mut impl Write, event: &Event) -> std::io::Result<()> {
    let data = event.encode_to_vec();
    let length = (data.len() as u64).to_le_bytes();
    for part in [&length[..], &masked_crc(&length), &data, &masked_crc(&data)] {
        file.write_all(part)?;
    }
    Ok(())
}

/// CRC-32C, turned and shifted as TensorFlow does, so that a record of records keeps its meaning.
fn masked_crc(data: &[u8]) -> [u8; 4] {
    const CRC: crc::Crc<u32> = crc::Crc::<u32>::new(&crc::CRC_32_ISCSI);
    CRC.checksum(data).rotate_right(15).wrapping_add(0xa282_ead8).to_le_bytes()
}

fn now() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Reads a file back, checking every sum.
    fn read(path: &Path) -> Vec<Event> {
        let bytes = fs_err::read(path).unwrap();
        let mut rest = &bytes[..];
        let mut events = Vec::new();
        while !rest.is_empty() {
            let (length, after) = rest.split_at(8);
            assert_eq!(after[..4], masked_crc(length));
            let n = u64::from_le_bytes(length.try_into().unwrap()) as usize;
            let data = &after[4..4 + n];
            assert_eq!(after[4 + n..8 + n], masked_crc(data));
            events.push(Event::decode(data).unwrap());
            rest = &after[8 + n..];
        }
        events
    }

    fn files(folder: &Path) -> Vec<PathBuf> {
        fs_err::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect()
    }

    #[test]
    fn the_sum_is_tensorflows() {
        // CRC-32C of "123456789" is 0xe3069283 (RFC 3720, B.4 lists others; this is the catalogue's check value).
        let expected = (0xe306_9283_u32.rotate_right(15)).wrapping_add(0xa282_ead8);
        assert_eq!(masked_crc(b"123456789"), expected.to_le_bytes());
    }

    #[test]
    fn numbers_come_back() {
        let folder = tempfile::tempdir().unwrap();
        let place = folder.path().join("run/global");
        let write = |resumed: bool, step: u64| {
            let mut scalars = Scalars::new(Some(place.clone()));
            if resumed {
                scalars.resume();
            }
            scalars.add(step, &[("loss/train", 0.5), ("lr", 0.01)]);
            scalars.add(step + 1, &[("loss/train", 0.25)]);
        };
        write(false, 7);
        let events = read(&files(&place)[0]);
        assert_eq!(events[0].file_version.as_deref(), Some("brain.Event:2"));
        let values = &events[1].summary.as_ref().unwrap().value;
        assert_eq!((events[1].step, values[0].tag.as_str(), values[0].simple_value), (7, "loss/train", Some(0.5)));
        assert_eq!((events.len(), events[2].step), (3, 8));
        // A fresh training supersedes what is there.
        fs_err::rename(&files(&place)[0], place.join("events.out.tfevents.1.1")).unwrap();
        write(false, 1);
        assert_eq!(files(&place).len(), 1);
        // A continued one does not; without a folder nothing is written.
        fs_err::rename(&files(&place)[0], place.join("events.out.tfevents.1.1")).unwrap();
        write(true, 9);
        assert_eq!(files(&place).len(), 2);
        Scalars::nowhere().add(1, &[("lr", 0.1)]);
    }
}
