//! What names a file: a path, or a URL.

use std::path::{Path, PathBuf};

use crate::error::Error;

/// Which service a URL is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Service {
    /// Amazon S3, and every server that speaks its protocol.
    S3,
    /// Google Cloud Storage.
    Google,
    /// Azure Blob Storage.
    Azure,
}

/// The schemes of the services.
const SCHEMES: [(&str, Service); 3] = [("s3://", Service::S3), ("gs://", Service::Google), ("az://", Service::Azure)];

/// An object, or a folder of objects: `s3://bucket/key`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Address<'a> {
    pub(crate) url: &'a str,
    pub(crate) service: Service,
    /// Azure calls it a container.
    pub(crate) bucket: &'a str,
    /// Without `/` in front or behind; empty: the whole bucket.
    pub(crate) key: &'a str,
}

impl<'a> Address<'a> {
    /// The address that a path is; `None` for one on this machine.
    pub(crate) fn of(path: &'a Path) -> Option<Address<'a>> {
        let url = path.to_str()?;
        let (rest, service) =
            SCHEMES.iter().find_map(|(scheme, service)| Some((url.strip_prefix(scheme)?, *service)))?;
        let (bucket, key) = rest.split_once('/').unwrap_or((rest, ""));
        Some(Address { url, service, bucket, key: key.trim_matches('/') })
    }
}

/// Whether a path is a URL of an object store.
pub fn is_remote(path: &Path) -> bool {
    Address::of(path).is_some()
}

/// The path that a setting names: `file:///data` is `/data`; all else, URLs of object stores too, stays as it is.
pub fn plain(text: &str) -> PathBuf {
    PathBuf::from(text.strip_prefix("file://").filter(|path| path.starts_with('/')).unwrap_or(text))
}

/// Checks the text of a setting that names a file or a folder.
///
/// # Errors
/// A URL that is none of an object store, or has a user, a password or a query.
pub(crate) fn check(text: &str) -> Result<(), Error> {
    refuse_secrets(text)?;
    let refused = |expected| Err(Error::Address { shown: text.to_owned(), expected });
    let Some(address) = Address::of(Path::new(text)) else {
        let scheme = text.split_once("://").map(|(scheme, _)| scheme);
        let is_path = scheme.is_none_or(|scheme| !scheme.bytes().all(|byte| byte.is_ascii_alphanumeric()));
        let is_file = text.strip_prefix("file://").is_some_and(|path| path.starts_with('/'));
        return match is_path || is_file {
            true => Ok(()),
            false => refused("a path, file:///PATH, s3://BUCKET/FOLDER, gs://BUCKET/FOLDER or az://CONTAINER/FOLDER"),
        };
    };
    let plain = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
    if address.bucket.is_empty() || !address.bucket.chars().all(plain) {
        return refused("the name of a bucket behind ://, of letters, digits, '.', '_' and '-'");
    }
    let parts = |part: &str| part.is_empty() || part == "." || part == ".." || part.contains(char::is_control);
    if !address.key.is_empty() && address.key.split('/').any(parts) {
        return refused("a folder without empty parts, '.' and '..'");
    }
    Ok(())
}

/// Refuses a text, a whole configuration file perhaps, in which a URL carries a secret: a user and a password, or, for an
/// object store, a query. The message does not repeat it.
///
/// # Errors
/// [`Error::Secret`], with the part in front of it.
pub fn refuse_secrets(text: &str) -> Result<(), Error> {
    for (at, _) in text.match_indices("://") {
        let start = text[..at].rfind(|c: char| !c.is_ascii_alphanumeric()).map_or(0, |before| before + 1);
        let scheme = &text[start..at + 3];
        let rest = &text[at + 3..];
        let url = rest.split(|c: char| c.is_whitespace() || "\"'`<>".contains(c)).next().unwrap_or(rest);
        let authority = url.split('/').next().unwrap_or(url);
        let ours = SCHEMES.iter().any(|(known, _)| *known == scheme);
        let user = authority.rsplit_once('@').map(|(user, _)| user);
        if user.is_some_and(|user| ours || user.contains(':')) || (ours && url.contains('?')) {
            return Err(Error::Secret { scheme: scheme.to_owned() });
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_of_object_stores_are_paths() {
        let root = Path::new("s3://bucket/nih");
        let path = root.join("images/a b.png");
        let address = Address::of(&path).unwrap();
        assert_eq!((address.bucket, address.key), ("bucket", "nih/images/a b.png"));
        assert_eq!((address.service, address.url), (Service::S3, "s3://bucket/nih/images/a b.png"));
        assert_eq!(Address::of(Path::new("az://box/")).unwrap().key, "");
        assert!(!is_remote(Path::new("data/s3://x")) && !is_remote(Path::new("s3:/bucket")));
        assert_eq!(plain("file:///data/nih"), Path::new("/data/nih"));
        assert_eq!(plain("s3://bucket"), Path::new("s3://bucket"));
        assert_eq!(plain("file://data"), Path::new("file://data"));
    }

    #[test]
    fn secrets_are_refused_and_not_repeated() {
        for text in [
            "s3://AKIA:hidden@bucket/nih",
            "prep.root=s3://hidden@bucket/nih",
            "[prep]\nroot = \"https://me:hidden@host/x\" # text",
            "az://box/nih?sv=1&sig=hidden",
        ] {
            let error = refuse_secrets(text).unwrap_err();
            assert!(
                !error.to_string().contains("hidden") && error.kind() == std::io::ErrorKind::InvalidInput,
                "{error}"
            );
        }
        for text in ["s3://bucket/a@b", "https://host/?x=1", "mailto:me@host", "prep.root=/data/a?b", "https://me@host"]
        {
            refuse_secrets(text).unwrap();
        }
    }

    #[test]
    fn what_is_no_place_of_files_is_refused() {
        for text in
            ["http://host/nih", "s3://", "s3:///nih", "s3://bucket/a//b", "gs://bucket/../x", "file://data", "S3://b"]
        {
            assert!(matches!(check(text), Err(Error::Address { .. })), "{text}");
        }
        for text in ["data/raw", "/data", "file:///data", "phantom", "odd name://x", ""] {
            check(text).unwrap();
        }
    }
}
