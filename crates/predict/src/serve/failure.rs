//! What is said where there is no answer: a status, a word for programs, a sentence for people.

use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::json;

/// Why a request has no answer.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Failure {
    status: StatusCode,
    reason: &'static str,
    message: String,
}

impl Failure {
    pub(super) fn new(status: StatusCode, reason: &'static str, message: impl Into<String>) -> Failure {
        Failure { status, reason, message: message.into() }
    }

    /// A request that means nothing.
    pub(super) fn bad(reason: &'static str, message: impl Into<String>) -> Failure {
        Failure::new(StatusCode::BAD_REQUEST, reason, message)
    }

    /// Too many ask at a time.
    pub(super) fn busy() -> Failure {
        Failure::new(StatusCode::SERVICE_UNAVAILABLE, "busy", "too many images wait already; ask again in a second")
    }

    /// The program ends.
    pub(super) fn stopping() -> Failure {
        Failure::new(StatusCode::SERVICE_UNAVAILABLE, "stopping", "the server is being stopped")
    }

    /// Our fault. The cause is for the log.
    pub(super) fn internal(cause: &dyn std::fmt::Display) -> Failure {
        stage::warn!("an image has no answer: {cause}");
        let message = "the model could not be asked; the server's log says why";
        Failure::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", message)
    }

    /// A body that is larger than it may be.
    pub(super) fn too_large(most: usize) -> Failure {
        let message = format!("the body has more than {most} bytes");
        Failure::new(StatusCode::PAYLOAD_TOO_LARGE, "too_large", message)
    }
}

impl From<picture::Error> for Failure {
    fn from(error: picture::Error) -> Failure {
        use picture::Error as E;
        let (status, reason) = match &error {
            E::Empty { .. } => (StatusCode::BAD_REQUEST, "empty"),
            E::Unknown { .. } => (StatusCode::UNSUPPORTED_MEDIA_TYPE, "unknown_format"),
            E::TooLarge { .. } | E::TooManyBytes { .. } | E::TooMuchMemory { .. } => {
                (StatusCode::PAYLOAD_TOO_LARGE, "too_large")
            }
            E::NoPixels { .. } => (StatusCode::UNPROCESSABLE_ENTITY, "no_pixels"),
            E::TransferSyntax { .. } => (StatusCode::UNPROCESSABLE_ENTITY, "transfer_syntax"),
            E::Pixels { .. } => (StatusCode::UNPROCESSABLE_ENTITY, "pixels"),
            _ => (StatusCode::BAD_REQUEST, "damaged"),
        };
        let hint = error.hint().map_or(String::new(), |hint| format!("; {hint}"));
        Failure::new(status, reason, format!("{error}{hint}"))
    }
}

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        let Failure { status, reason, message } = self;
        let body = json!({"error": {"status": status.as_u16(), "reason": reason, "message": message}});
        let mut response = (status, [(header::CONTENT_TYPE, "application/json")], body.to_string()).into_response();
        if status == StatusCode::SERVICE_UNAVAILABLE {
            response.headers_mut().insert(header::RETRY_AFTER, header::HeaderValue::from_static("1"));
        }
        response
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_image_that_cannot_be_used_has_its_status() {
        let name = || "a".to_owned();
        let cases = [
            (picture::Error::Empty { name: name() }, 400),
            (picture::Error::Unknown { name: name(), start: String::new() }, 415),
            (picture::Error::Damaged { name: name(), format: picture::Format::Png, problem: String::new() }, 400),
            (picture::Error::NoPixels { name: name(), sop_class: String::new() }, 422),
            (picture::Error::TransferSyntax { name: name(), transfer_syntax: String::new(), detail: None }, 422),
            (picture::Error::Pixels { name: name(), problem: String::new() }, 422),
            (picture::Error::TooLarge { name: name(), width: 1, height: 1, most: 0 }, 413),
        ];
        for (error, status) in cases {
            let message = error.to_string();
            let failure = Failure::from(error);
            assert_eq!(failure.status.as_u16(), status, "{message}");
            assert!(failure.message.starts_with(&message), "{failure:?}");
        }
        assert_eq!(Failure::busy().into_response().headers()[header::RETRY_AFTER], "1");
    }
}
