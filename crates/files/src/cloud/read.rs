//! An object as a reader.

use std::io::Read;
use std::path::PathBuf;
use std::sync::Arc;

use futures_util::StreamExt;
use futures_util::stream::BoxStream;
use object_store::path::Path as Key;
use object_store::{Error as Fault, GetOptions, GetRange, ObjectStore};

use super::again::{ATTEMPTS, again, pause};
use super::client::{Client, wait};
use super::fault;
use crate::address::Address;
use crate::error::Error;

/// The contents of an object as they come. Where the connection breaks, the rest is asked for, of the same contents.
pub(crate) struct Reader {
    store: Arc<dyn ObjectStore>,
    key: Key,
    url: PathBuf,
    /// Size and mark of the object when it was opened.
    size: u64,
    tag: Option<String>,
    /// How many bytes have come.
    at: u64,
    /// What of them is not yet read.
    chunk: bytes::Bytes,
    rest: Option<BoxStream<'static, Result<bytes::Bytes, Fault>>>,
}

impl Reader {
    /// Asks for an object, and hears how long it is.
    pub(crate) fn open(Client { store, key }: Client, url: &str) -> Result<Reader, Error> {
        let url = PathBuf::from(url);
        let got = wait(again(|| store.get_opts(&key, GetOptions::default())));
        let got = got.map_err(|fault| failed(&url, &fault))?;
        let (size, tag) = (got.meta.size, got.meta.e_tag.clone());
        let rest = Some(got.into_stream());
        Ok(Reader { store, key, url, size, tag, at: 0, chunk: bytes::Bytes::new(), rest })
    }

    /// The object's size.
    pub(crate) fn bytes(&self) -> u64 {
        self.size
    }

    /// The next bytes; only where there are some left.
    async fn next(&mut self) -> Result<bytes::Bytes, Fault> {
        let mut attempt = 1;
        loop {
            let come = match &mut self.rest {
                Some(rest) => rest.next().await,
                None => {
                    let rest = self.ask().await?;
                    self.rest.insert(rest).next().await
                }
            };
            match come {
                Some(Ok(chunk)) if chunk.is_empty() => {}
                Some(Ok(chunk)) if self.at + chunk.len() as u64 > self.size => {
                    return Err(other("it has become longer"));
                }
                Some(Ok(chunk)) => {
                    self.at += chunk.len() as u64;
                    return Ok(chunk);
                }
                Some(Err(fault)) if attempt >= ATTEMPTS => return Err(fault),
                None if attempt >= ATTEMPTS => return Err(other("it ends too early")),
                Some(Err(_)) | None => {
                    self.rest = None;
                    pause(&mut attempt).await;
                }
            }
        }
    }

    /// Asks for what has not yet come.
    async fn ask(&self) -> Result<BoxStream<'static, Result<bytes::Bytes, Fault>>, Fault> {
        let range = Some(GetRange::Bounded(self.at..self.size));
        let got =
            again(|| self.store.get_opts(&self.key, GetOptions { range: range.clone(), ..GetOptions::default() }));
        let got = got.await?;
        match got.meta.e_tag == self.tag && got.meta.size == self.size {
            true => Ok(got.into_stream()),
            false => Err(other("it has changed while it was read")),
        }
    }
}

impl Read for Reader {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        if self.chunk.is_empty() && self.at < self.size && !buffer.is_empty() {
            let url = self.url.clone();
            self.chunk = wait(self.next()).map_err(|fault| failed(&url, &fault))?;
        }
        let most = buffer.len().min(self.chunk.len());
        buffer[..most].copy_from_slice(&self.chunk.split_to(most));
        Ok(most)
    }
}

fn failed(url: &std::path::Path, fault: &Fault) -> Error {
    match Address::of(url) {
        Some(address) => fault::error(address, fault),
        None => Error::Local(std::io::Error::other(fault.to_string())),
    }
}

fn other(problem: &'static str) -> Fault {
    Fault::Generic { store: "", source: problem.into() }
}
