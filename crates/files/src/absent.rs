//! Object stores in a program that was built without: each call says so.

use std::path::Path;

use crate::address::Address;
use crate::error::Error;
use crate::object::{Object, Opened};

fn absent<T>(address: Address<'_>) -> Result<T, Error> {
    Err(Error::NotBuilt { url: address.url.to_owned() })
}

pub(crate) fn built(address: Address<'_>) -> Result<(), Error> {
    absent(address)
}

pub(crate) fn open(address: Address<'_>) -> Result<Opened, Error> {
    absent(address)
}

pub(crate) fn is_file(address: Address<'_>) -> Result<bool, Error> {
    absent(address)
}

pub(crate) fn is_folder(address: Address<'_>) -> Result<bool, Error> {
    absent(address)
}

pub(crate) fn names(address: Address<'_>) -> Result<Vec<String>, Error> {
    absent(address)
}

pub(crate) fn objects(address: Address<'_>) -> Result<Vec<Object>, Error> {
    absent(address)
}

pub(crate) fn put(address: Address<'_>, _: &[u8]) -> Result<(), Error> {
    absent(address)
}

pub(crate) fn upload(files: &[(&Path, Address<'_>)]) -> Result<(), Error> {
    files.first().map_or(Ok(()), |&(_, address)| absent(address))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_without_says_how_to_build_one_with_object_stores() {
        let url = "s3://bucket/nih";
        for error in [crate::check(url).unwrap_err(), crate::open(Path::new(url)).map(|_| ()).unwrap_err()] {
            assert_eq!(error.to_string(), "s3://bucket/nih: this program was built without object stores");
            assert_eq!(error.kind(), std::io::ErrorKind::InvalidInput);
            assert!(error.hint().unwrap().starts_with("build it with them: just cloud=yes build"));
        }
    }
}
