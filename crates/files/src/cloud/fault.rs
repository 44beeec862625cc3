//! What `object_store` says of a failure, in words that carry no secret.

use std::error::Error as _;
use std::io::ErrorKind;

use object_store::Error as Fault;
use object_store::client::{HttpError, HttpErrorKind};

use crate::address::{Address, Service};
use crate::error::Error;

const S3: &str = "keys of s3:// come from the environment: AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_SESSION_TOKEN where there is one, AWS_REGION; AWS_ENDPOINT_URL names another server than Amazon's (with AWS_ALLOW_HTTP=true one without TLS), AWS_SKIP_SIGNATURE=true reads a public bucket";

const GOOGLE: &str =
    "keys of gs:// come from the environment: GOOGLE_APPLICATION_CREDENTIALS names the file of a service account";

const AZURE: &str = "keys of az:// come from the environment: AZURE_STORAGE_ACCOUNT_NAME, and AZURE_STORAGE_ACCOUNT_KEY or AZURE_STORAGE_SAS_TOKEN";

/// The longest code of a service that is repeated.
const LONGEST_CODE: usize = 64;
/// The most characters of any other message.
const LONGEST: usize = 300;

/// The error of something that was asked of an address.
///
/// A service's answer repeats what it was sent, and a transport's error has the URL with its signature: of both only what
/// is known to be harmless is said, the status, the service's code, the system's word on a connection.
pub(crate) fn error(address: Address<'_>, fault: &Fault) -> Error {
    let hint = match address.service {
        Service::S3 => S3,
        Service::Google => GOOGLE,
        Service::Azure => AZURE,
    };
    let kind = match fault {
        // A list has no error of its own for a bucket that is not there.
        _ if status(&fault.to_string()) == Some("404") => ErrorKind::NotFound,
        Fault::NotFound { .. } => ErrorKind::NotFound,
        Fault::PermissionDenied { .. } | Fault::Unauthenticated { .. } => ErrorKind::PermissionDenied,
        Fault::InvalidPath { .. } => ErrorKind::InvalidInput,
        _ => ErrorKind::Other,
    };
    Error::Remote { url: address.url.to_owned(), cause: cause(fault), kind, hint }
}

/// Whether a fault is that of a connection that broke: what `object_store` does not itself repeat, and may be repeated.
/// Where there was no connection at all, it has tried for long enough.
pub(crate) fn is_passing(fault: &Fault) -> bool {
    matches!(fault, Fault::Generic { .. } | Fault::JoinError { .. })
        && http(fault).is_some_and(|http| http.kind() != HttpErrorKind::Connect)
}

fn cause(fault: &Fault) -> String {
    let text = fault.to_string();
    if let Some(status) = status(&text) {
        return match code(&text) {
            Some(code) => format!("the server says {status} {code}"),
            None => format!("the server says {status}"),
        };
    }
    if let Some(http) = http(fault) {
        let system = chain(fault).find_map(|error| Some(error.downcast_ref::<std::io::Error>()?.to_string()));
        let what = match http.kind() {
            HttpErrorKind::Connect => "no connection to the server",
            HttpErrorKind::Timeout => "the server does not answer",
            _ => "the connection to the server broke",
        };
        return system.map_or(what.to_owned(), |system| format!("{what}: {}", harmless(&system)));
    }
    if matches!(fault, Fault::NotFound { .. }) {
        return "there is no such object".to_owned();
    }
    let innermost = chain(fault).last().map(ToString::to_string);
    harmless(&innermost.unwrap_or(text))
}

fn chain(fault: &Fault) -> impl Iterator<Item = &(dyn std::error::Error + 'static)> {
    fn next<'a>(error: &&'a (dyn std::error::Error + 'static)) -> Option<&'a (dyn std::error::Error + 'static)> {
        (*error).source()
    }
    std::iter::successors(fault.source(), next)
}

fn http(fault: &Fault) -> Option<&HttpError> {
    chain(fault).find_map(|error| error.downcast_ref())
}

/// The HTTP status in a message of `object_store`, such as `403`.
fn status(text: &str) -> Option<&str> {
    let behind = text.split_once("status code: ")?.1;
    behind.get(..3).filter(|status| status.bytes().all(|byte| byte.is_ascii_digit()))
}

/// The service's own name of what is wrong, such as `SignatureDoesNotMatch`.
fn code(text: &str) -> Option<&str> {
    let code = text.split_once("<Code>")?.1.split_once("</Code>")?.0;
    (code.len() <= LONGEST_CODE && code.bytes().all(|byte| byte.is_ascii_alphanumeric())).then_some(code)
}

/// A message without what the environment says of keys, and without a query.
fn harmless(text: &str) -> String {
    let mut text: String = text.chars().take(LONGEST).collect();
    for (name, value) in std::env::vars_os() {
        let (name, value) = (name.to_string_lossy(), value.to_string_lossy());
        let is_key = ["AWS_", "AZURE_", "GOOGLE_"].iter().any(|of| name.starts_with(of))
            && ["KEY", "SECRET", "TOKEN", "SAS"].iter().any(|word| name.contains(word));
        if is_key && value.len() > 3 {
            text = text.replace(&*value, "***");
        }
    }
    match text.split_once('?') {
        Some((before, _)) => format!("{before}?..."),
        None => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(message: &str) -> String {
        cause(&Fault::Generic { store: "S3", source: message.to_owned().into() })
    }

    #[test]
    fn a_servers_answer_is_its_status_and_code() {
        let answer = "Error performing GET http://host/b/k?X-Amz-Signature=hidden in 1s - Server returned non-2xx status \
                      code: 403 Forbidden: <Error><Code>SignatureDoesNotMatch</Code><StringToSign>hidden</StringToSign>";
        assert_eq!(said(answer), "the server says 403 SignatureDoesNotMatch");
        assert_eq!(said("status code: 503 Service Unavailable: hidden <Code>a b</Code>"), "the server says 503");
        assert_eq!(said("cannot read http://host/?sig=hidden"), "cannot read http://host/?...");
    }
}
