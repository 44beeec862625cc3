//! Files of this machine as objects.

use std::io::Read;
use std::path::Path;
use std::sync::Arc;

use futures_util::{StreamExt, TryStreamExt};
use object_store::{Error as Fault, ObjectStoreExt, PutPayload};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use super::again::{again, again_after};
use super::client::{Client, client, wait};
use super::fault;
use crate::address::Address;
use crate::error::Error;

/// Bytes of a part; every service takes parts of this size.
const PART: u64 = 8 << 20;
/// The most parts of an object; S3 takes 10,000.
const PARTS: u64 = 9_000;
/// Files that are on their way at a time.
const FILES: usize = 8;
/// Parts that are in memory at a time, of all files together.
const IN_MEMORY: usize = 8;

pub(crate) fn put(address: Address<'_>, bytes: &[u8]) -> Result<(), Error> {
    let Client { store, key } = client(address)?;
    let put = wait(again(|| async { store.put(&key, PutPayload::from(bytes.to_vec())).await.map(drop) }));
    put.map_err(|fault| fault::error(address, &fault))
}

pub(crate) fn upload(files: &[(&Path, Address<'_>)]) -> Result<(), Error> {
    let Some(&(_, any)) = files.first() else { return Ok(()) };
    let memory = Arc::new(Semaphore::new(IN_MEMORY));
    let mut failed = None;
    let one = |&(from, address): &(&Path, Address<'_>)| {
        let memory = memory.clone();
        let made = client(address);
        let from = from.to_owned();
        async move {
            let client = made.map_err(Problem::Known)?;
            match again_after(begins_again, || file(&client, &from, &memory)).await {
                Err(fault) => Err(Problem::Fault(fault)),
                Ok(()) => Ok(()),
            }
        }
    };
    let all = async {
        let uploads = futures_util::stream::iter(files).map(|file| {
            let upload = one(file);
            async move { upload.await.map_err(|problem| (file.1, problem)) }
        });
        if let Err((address, problem)) = uploads.buffer_unordered(FILES).try_collect::<()>().await {
            failed = Some(match problem {
                Problem::Known(error) => error,
                Problem::Fault(fault) => fault::error(address, &fault),
            });
        }
        Ok(())
    };
    wait(all).map_err(|fault| fault::error(any, &fault))?;
    failed.map_or(Ok(()), Err)
}

/// Whether an upload is made anew. Where the answer to its last request is lost, the next says that there is no such upload.
fn begins_again(fault: &Fault) -> bool {
    fault::is_passing(fault) || matches!(fault, Fault::NotFound { .. })
}

enum Problem {
    Known(Error),
    Fault(Fault),
}

/// Uploads one file, from its beginning.
async fn file(Client { store, key }: &Client, from: &Path, memory: &Arc<Semaphore>) -> Result<(), Fault> {
    let mut file = guard::open(from).map_err(local)?;
    let bytes = file.metadata().map_err(local)?.len();
    if bytes <= PART {
        let _held = memory.acquire().await.map_err(closed)?;
        let payload = part(&mut file, PART)?;
        return store.put(key, payload).await.map(drop);
    }
    let size = PART.max(bytes.div_ceil(PARTS));
    let mut upload = store.put_multipart(key).await?;
    let mut parts = JoinSet::new();
    let sent = async {
        for _ in 0..bytes.div_ceil(size) {
            let held = memory.clone().acquire_owned().await.map_err(closed)?;
            while let Some(ended) = parts.try_join_next() {
                ended??;
            }
            let sent = upload.put_part(part(&mut file, size)?);
            parts.spawn(async move {
                let _held = held;
                sent.await
            });
        }
        while let Some(ended) = parts.join_next().await {
            ended??;
        }
        Ok::<(), Fault>(())
    };
    if let Err(fault) = sent.await {
        parts.shutdown().await;
        // What cannot be removed now is removed by the bucket's own rules.
        let _ = upload.abort().await;
        return Err(fault);
    }
    upload.complete().await.map(drop)
}

/// The next bytes of a file.
fn part(file: &mut fs_err::File, size: u64) -> Result<PutPayload, Fault> {
    let mut bytes = Vec::new();
    file.take(size).read_to_end(&mut bytes).map_err(local)?;
    Ok(bytes.into())
}

fn local(error: std::io::Error) -> Fault {
    Fault::Generic { store: "", source: error.into() }
}

fn closed(error: tokio::sync::AcquireError) -> Fault {
    Fault::Generic { store: "", source: error.into() }
}
