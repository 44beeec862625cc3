//! The pages of a Parquet file, whose headers are looked at before memory is taken for what they claim.

use std::fs::File;
use std::io::{BufRead, BufReader, ErrorKind, Read};

use bytes::Bytes;
use parquet::arrow::arrow_reader::{ArrowReaderMetadata, ArrowReaderOptions, ParquetRecordBatchReaderBuilder};
use parquet::errors::{ParquetError, Result};
use parquet::file::reader::{ChunkReader, Length};

/// The most bytes that a page may inflate to; writers make pages of 1 MB and, of images, of some more.
const MOST: u64 = 1 << 28;

/// A file of which nothing but pages is read any more.
pub(crate) struct Pages {
    file: File,
    /// Pages are read whole, with their headers, where an index says where they are.
    indexed: bool,
}

impl Pages {
    /// Reads the footer, and prepares to read pages.
    pub(crate) fn open(file: File, options: ArrowReaderOptions) -> Result<ParquetRecordBatchReaderBuilder<Pages>> {
        let metadata = ArrowReaderMetadata::load(&file, options)?;
        let indexed = metadata.metadata().page_index().is_some();
        Ok(ParquetRecordBatchReaderBuilder::new_with_metadata(Pages { file, indexed }, metadata))
    }
}

impl Length for Pages {
    fn len(&self) -> u64 {
        Length::len(&self.file)
    }
}

impl ChunkReader for Pages {
    type T = Header;

    fn get_read(&self, start: u64) -> Result<Header> {
        Ok(Header { read: self.file.get_read(start)?, checked: false, behind: 0 })
    }

    fn get_bytes(&self, start: u64, length: usize) -> Result<Bytes> {
        let bytes = self.file.get_bytes(start, length)?;
        if self.indexed {
            check(&bytes)?;
        }
        Ok(bytes)
    }
}

/// How often a header may be read behind the end of the file. The library passes over fields that it does not know, and
/// takes nothing for an answer: a list of 2^31 texts that are not there would take a minute.
const BEHIND: u32 = 64;

/// Reads a page's header. The library asks for one too where it knows the header already, and then reads nothing.
pub(crate) struct Header {
    read: BufReader<File>,
    checked: bool,
    behind: u32,
}

impl Read for Header {
    fn read(&mut self, into: &mut [u8]) -> std::io::Result<usize> {
        if !self.checked {
            check(self.read.fill_buf()?).map_err(std::io::Error::other)?;
            self.checked = true;
        }
        let count = self.read.read(into)?;
        self.behind += u32::from(count == 0 && !into.is_empty());
        match self.behind > BEHIND {
            true => {
                Err(std::io::Error::new(ErrorKind::UnexpectedEof, "a page's header goes on behind the end of the file"))
            }
            false => Ok(count),
        }
    }
}

/// A page's header begins with its type and its sizes, inflated and as stored: fields 1 to 3 of a struct in Thrift's compact
/// protocol, all of them i32 (apache/parquet-format, `PageHeader`).
fn check(mut header: &[u8]) -> Result<()> {
    let mut field = || -> Option<u64> {
        let (&0x15, rest) = header.split_first()? else { return None };
        header = rest;
        let mut value = 0;
        for shift in (0..35).step_by(7) {
            let (&byte, rest) = header.split_first()?;
            header = rest;
            value |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                // Zigzag: what is odd is negative, and refused by the reader.
                return Some(value >> 1);
            }
        }
        None
    };
    let (Some(_), Some(inflated), Some(stored)) = (field(), field(), field()) else {
        return Err(ParquetError::General("a page without a header".to_owned()));
    };
    if inflated > MOST && inflated != stored {
        return Err(ParquetError::General(format!(
            "a page that inflates to {inflated} bytes, expected at most {MOST}"
        )));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    #[test]
    fn headers_claim_no_more_than_they_may() {
        // Zigzag varints: 2^28 is 2^29 as one, 2^28 + 1 is 2^29 + 2.
        let (most, more) = ([0x80, 0x80, 0x80, 0x80, 2], [0x82, 0x80, 0x80, 0x80, 2]);
        let header = |inflated: &[u8]| [&[0x15, 0, 0x15][..], inflated, &[0x15, 8, 0x2c]].concat();
        assert!(check(&header(&[10])).is_ok() && check(&header(&most)).is_ok());
        let error = check(&header(&more)).unwrap_err().to_string();
        assert!(error.contains("a page that inflates to 268435457 bytes, expected at most 268435456"), "{error}");
        for bad in [&[][..], &[0x15], &[0x15, 0, 0x19, 0, 0x15, 0], &[0x15, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80]] {
            assert!(check(bad).is_err());
        }
        // What is stored as it is takes what the file has.
        let stored = [&[0x15, 0, 0x15][..], &more, &[0x15], &more].concat();
        assert!(check(&stored).is_ok());
    }

    #[test]
    fn headers_end_with_their_file() {
        let mut file = tempfile::tempfile().unwrap();
        // Type, sizes, and a field that nobody knows: a list of 2^31 texts, of which none is there.
        file.write_all(&[0x15, 0, 0x15, 20, 0x15, 20, 0x19, 0xf8, 0xff, 0xff, 0xff, 0xff, 7]).unwrap();
        let pages = Pages { file, indexed: false };
        let mut header = pages.get_read(0).unwrap();
        let mut byte = [0];
        for _ in 0..13 {
            assert_eq!(header.read(&mut byte).unwrap(), 1);
        }
        // The library may ask for a little more than there is, as readers do, and not for ever.
        for _ in 0..BEHIND {
            assert_eq!(header.read(&mut byte).unwrap(), 0);
        }
        let error = header.read(&mut byte).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::UnexpectedEof);
        assert_eq!(error.to_string(), "a page's header goes on behind the end of the file");
    }
}
