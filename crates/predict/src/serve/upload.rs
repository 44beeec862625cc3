//! The body of a request becomes the bytes of one image's file, within bounds.

use axum::body::Body;
use axum::extract::multipart::MultipartError;
use axum::extract::{DefaultBodyLimit, FromRequest, Multipart, Request};
use axum::http::{HeaderMap, StatusCode, header};
use http_body_util::BodyExt;
use tokio::sync::watch;

use crate::serve::failure::Failure;
use crate::serve::limits::Limits;

/// The name of an image that has none.
pub(super) const NAMELESS: &str = "image";

/// The field of a form that has the file.
const FIELD: &str = "image";

/// The most characters of a name.
const NAME_CHARS: usize = 200;

/// An image's file, as it was sent.
#[derive(Debug)]
pub(super) struct Upload {
    /// What the client calls it: a label, never a path.
    pub(super) label: String,
    /// The file.
    pub(super) bytes: Vec<u8>,
}

/// The size of the body, where it is known before; refused where it is too large.
pub(super) fn announced(headers: &HeaderMap, limits: &Limits) -> Result<Option<usize>, Failure> {
    let Some(length) = headers.get(header::CONTENT_LENGTH) else { return Ok(None) };
    let length = length.to_str().ok().and_then(|length| length.parse::<usize>().ok());
    match length {
        Some(length) if length <= limits.body_bytes => Ok(Some(length)),
        _ => Err(Failure::too_large(limits.body_bytes)),
    }
}

/// Reads a request's body: the file itself, or a form with the file in the field `image`.
pub(super) async fn read(
    request: Request,
    limits: &Limits,
    mut stopped: watch::Receiver<bool>,
) -> Result<Upload, Failure> {
    let content_type = request.headers().get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
    let is_form = content_type.is_some_and(|kind| kind.trim_start().to_ascii_lowercase().starts_with("multipart/"));
    let read = async {
        match is_form {
            true => form(request, limits.body_bytes).await,
            false => raw(request.into_body(), limits.body_bytes).await,
        }
    };
    tokio::select! {
        upload = tokio::time::timeout(limits.patience, read) => upload.unwrap_or_else(|_| {
            let message = format!("the body did not arrive within {} s", limits.patience.as_secs());
            Err(Failure::new(StatusCode::REQUEST_TIMEOUT, "slow", message))
        }),
        _ = stopped.wait_for(|&stopped| stopped) => Err(Failure::stopping()),
    }
}

async fn raw(mut body: Body, most: usize) -> Result<Upload, Failure> {
    let mut bytes = Vec::new();
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| Failure::bad("body", format!("the body broke off: {error}")))?;
        if let Ok(data) = frame.into_data() {
            if bytes.len() + data.len() > most {
                return Err(Failure::too_large(most));
            }
            bytes.extend_from_slice(&data);
        }
    }
    Ok(Upload { label: NAMELESS.to_owned(), bytes })
}

async fn form(mut request: Request, most: usize) -> Result<Upload, Failure> {
    let bad = |message: String| Failure::bad("form", message);
    let broken = |error: MultipartError| match error.status() {
        StatusCode::PAYLOAD_TOO_LARGE => Failure::too_large(most),
        _ => bad(format!("not a readable form: {}", error.body_text())),
    };
    DefaultBodyLimit::max(most).apply(&mut request);
    let form = Multipart::from_request(request, &()).await;
    let mut form = form.map_err(|rejection| bad(format!("not a readable form: {}", rejection.body_text())))?;
    let mut upload = None;
    while let Some(mut field) = form.next_field().await.map_err(broken)? {
        if field.name() != Some(FIELD) {
            continue;
        }
        if upload.is_some() {
            return Err(bad(format!("several fields {FIELD:?}, expected one")));
        }
        let label = label(field.file_name().unwrap_or_default());
        let mut bytes = Vec::new();
        while let Some(data) = field.chunk().await.map_err(broken)? {
            bytes.extend_from_slice(&data);
        }
        upload = Some(Upload { label, bytes });
    }
    upload.ok_or_else(|| bad(format!("no field {FIELD:?} with a file")))
}

/// A file's name without folders and without what a terminal or a page would obey.
fn label(name: &str) -> String {
    let last = name.rsplit(['/', '\\']).next().unwrap_or_default();
    // Control characters, and those that turn the direction of text or take no room (Unicode Standard Annex 9).
    let hidden = |c: &char| {
        c.is_control()
            || matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{2069}' | '\u{feff}')
    };
    let plain: String = last.chars().filter(|c| !hidden(c)).take(NAME_CHARS).collect();
    match plain.trim() {
        "" | "." | ".." => NAMELESS.to_owned(),
        plain => plain.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_a_label() {
        for (name, expected) in [
            ("thorax ä.dcm", "thorax ä.dcm"),
            ("../../etc/passwd", "passwd"),
            ("C:\\patients\\a.png", "a.png"),
            ("a\u{202e}gnp.exe\u{1b}[31m\n", "agnp.exe[31m"),
            ("", "image"),
            ("..", "image"),
            ("a/", "image"),
            ("\0", "image"),
        ] {
            assert_eq!(label(name), expected, "{name:?}");
        }
        assert_eq!(label(&"ä".repeat(5000)).chars().count(), 200);
    }
}
