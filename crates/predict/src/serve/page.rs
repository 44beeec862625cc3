//! The page: one HTML text with its style and script inside, which a browser holds against their digests.

use axum::http::header;
use axum::response::{Html, IntoResponse, Response};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use sha2::{Digest, Sha256};

const HTML: &str = include_str!("page/page.html");
const STYLE: &str = include_str!("page/style.css");
const SCRIPT: &str = include_str!("page/script.js");

/// The page and what it may do.
#[derive(Debug)]
pub(super) struct Page {
    html: String,
    /// Content-Security-Policy: no style and no script but these, nothing from elsewhere.
    policy: String,
}

impl Page {
    pub(super) fn new() -> Page {
        let digest = |text: &str| format!("'sha256-{}'", STANDARD.encode(Sha256::digest(text)));
        let policy = format!(
            "default-src 'none'; style-src {}; script-src {}; img-src data: blob:; connect-src 'self'; \
             base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
            digest(STYLE),
            digest(SCRIPT)
        );
        Page { html: HTML.replace("{{style}}", STYLE).replace("{{script}}", SCRIPT), policy }
    }

    pub(super) fn respond(&self) -> Response {
        ([(header::CONTENT_SECURITY_POLICY, self.policy.clone())], Html(self.html.clone())).into_response()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_is_whole_and_its_own() {
        let Page { html, policy } = Page::new();
        assert!(!html.contains("{{"));
        assert_eq!(html.matches("<style>").count() + html.matches("<script>").count(), 2);
        for foreign in ["http://", "https://", "onclick", "onload", "onchange", "style=", "javascript:", "innerHTML"] {
            assert!(!html.contains(foreign), "{foreign}");
        }
        assert!(policy.starts_with("default-src 'none'") && !policy.contains("unsafe"), "{policy}");
    }
}
