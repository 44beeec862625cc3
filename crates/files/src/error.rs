//! What can go wrong with a file, and what helps.

use std::io::ErrorKind;
use std::path::PathBuf;

/// A file that cannot be read or written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// On this machine; the message names the path.
    #[error(transparent)]
    Local(#[from] std::io::Error),
    /// A URL that names no place of files.
    #[error("{shown:?}: expected {expected}")]
    Address {
        /// What was given.
        shown: String,
        /// What is allowed.
        expected: &'static str,
    },
    /// A URL that carries a secret, which is not repeated.
    #[error("a URL that begins with {scheme} has a user, a password or a query in it")]
    Secret {
        /// How it begins.
        scheme: String,
    },
    /// An object store, in a program that was built without.
    #[error("{url}: this program was built without object stores")]
    NotBuilt {
        /// What was asked for.
        url: String,
    },
    /// An object with more bytes than are read.
    #[error("{}: {bytes} bytes, expected at most {most}", url.display())]
    TooLarge {
        /// The object.
        url: PathBuf,
        /// Its size.
        bytes: u64,
        /// What is allowed.
        most: u64,
    },
    /// An object store that did not do what was asked.
    #[error("{url}: {cause}")]
    Remote {
        /// The object, or the folder.
        url: String,
        /// Status and code of the service, or what became of the connection.
        cause: String,
        /// `NotFound`, `PermissionDenied`, or another.
        kind: ErrorKind,
        /// Where the service's keys come from.
        hint: &'static str,
    },
}

const BUILD: &str =
    "build it with them: just cloud=yes build, or cargo build --release --workspace --bins --features cloud";

const NO_SECRETS: &str =
    "keys come from the environment only (AWS_ACCESS_KEY_ID, ...): a URL is written into logs and manifests";

impl From<Error> for std::io::Error {
    fn from(error: Error) -> Self {
        match error {
            Error::Local(error) => error,
            other => std::io::Error::new(other.kind(), other),
        }
    }
}

impl Error {
    /// What kind of error it is, which decides the exit code.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Error::Local(error) => error.kind(),
            Error::Address { .. } | Error::Secret { .. } | Error::NotBuilt { .. } => ErrorKind::InvalidInput,
            Error::TooLarge { .. } => ErrorKind::InvalidData,
            Error::Remote { kind, .. } => *kind,
        }
    }

    /// The kind of an error in reading a file that was named by others: on this machine that is a failure, whatever it is,
    /// and what an absent file means is for the caller to say.
    pub fn kind_of_reading(&self) -> ErrorKind {
        if let Error::Local(_) = self { ErrorKind::Other } else { self.kind() }
    }

    /// What the user can do about it.
    pub fn hint(&self) -> Option<String> {
        let hint = match self {
            Error::NotBuilt { .. } => BUILD,
            Error::Secret { .. } => NO_SECRETS,
            Error::Remote { hint, .. } => hint,
            Error::Local(_) | Error::Address { .. } | Error::TooLarge { .. } => return None,
        };
        Some(hint.to_owned())
    }

    /// The error behind that of a reader of [`crate::open`].
    pub fn from_reader(error: std::io::Error) -> Error {
        error.downcast().unwrap_or_else(Error::Local)
    }
}
