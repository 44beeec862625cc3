//! Object stores: one client for each bucket, and a runtime that all calls share.
//!
//! `object_store` repeats requests that a server answers with 5xx or that never reached it. What it leaves out, such as a
//! list or an upload whose connection broke half-way, is repeated here: all that is done to a store may be done twice.

mod again;
mod client;
mod fault;
mod read;
mod write;

use futures_util::StreamExt;
use object_store::path::Path as Key;
use object_store::{Error as Fault, ObjectStoreExt};

use crate::address::Address;
use crate::error::Error;
use crate::object::{Object, Opened};
use again::{ATTEMPTS, again, pause};
use client::{Client, client, wait};

pub(crate) use write::{put, upload};

pub(crate) fn built(_: Address<'_>) -> Result<(), Error> {
    Ok(())
}

pub(crate) fn open(address: Address<'_>) -> Result<Opened, Error> {
    let reader = read::Reader::open(client(address)?, address.url)?;
    Ok(Opened { bytes: reader.bytes(), contents: Box::new(reader) })
}

pub(crate) fn is_file(address: Address<'_>) -> Result<bool, Error> {
    let Client { store, key } = client(address)?;
    if key.is_root() {
        return Ok(false);
    }
    match wait(again(|| store.head(&key))) {
        Ok(_) => Ok(true),
        Err(Fault::NotFound { .. }) => Ok(false),
        Err(fault) => Err(fault::error(address, &fault)),
    }
}

pub(crate) fn is_folder(address: Address<'_>) -> Result<bool, Error> {
    let Client { store, key } = client(address)?;
    let first = wait(again(|| async { store.list(Some(&key)).next().await.transpose() }));
    Ok(first.map_err(|fault| fault::error(address, &fault))?.is_some())
}

pub(crate) fn names(address: Address<'_>) -> Result<Vec<String>, Error> {
    let Client { store, key } = client(address)?;
    let found = wait(again(|| store.list_with_delimiter(Some(&key)))).map_err(|fault| fault::error(address, &fault))?;
    let files = found.objects.into_iter().map(|object| object.location);
    let keys = files.chain(found.common_prefixes);
    let mut names: Vec<String> = keys.filter_map(|key| Some(key.filename()?.to_owned())).collect();
    names.sort();
    Ok(names)
}

pub(crate) fn objects(address: Address<'_>) -> Result<Vec<Object>, Error> {
    let Client { store, key: folder } = client(address)?;
    let (mut objects, mut last) = (Vec::new(), None::<Key>);
    wait(async {
        let mut attempt = 1;
        loop {
            let mut found = match &last {
                None => store.list(Some(&folder)),
                Some(last) => store.list_with_offset(Some(&folder), last),
            };
            let ended = loop {
                match found.next().await {
                    None => break Ok(()),
                    Some(Err(fault)) => break Err(fault),
                    Some(Ok(about)) => {
                        attempt = 1;
                        objects.extend(object(&folder, &about));
                        last = Some(about.location);
                    }
                }
            };
            match ended {
                Err(fault) if attempt < ATTEMPTS && fault::is_passing(&fault) => pause(&mut attempt).await,
                ended => return ended,
            }
        }
    })
    .map_err(|fault| fault::error(address, &fault))?;
    objects.sort_unstable_by(|a: &Object, b| a.path.cmp(&b.path));
    Ok(objects)
}

/// An object as one below `folder`; `None` for the mark of the folder itself, which some programs leave.
fn object(folder: &Key, about: &object_store::ObjectMeta) -> Option<Object> {
    let path = about.location.as_ref();
    let path = if folder.is_root() { path } else { path.strip_prefix(folder.as_ref())?.strip_prefix('/')? };
    let modified = about.last_modified.timestamp_nanos_opt().and_then(|ns| u128::try_from(ns).ok());
    Some(Object {
        path: path.to_owned(),
        bytes: about.size,
        modified_ns: modified.unwrap_or_default(),
        tag: about.e_tag.clone(),
    })
}
