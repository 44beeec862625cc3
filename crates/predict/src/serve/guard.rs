//! Who may ask: programs of this machine and our own page, but no other page that a browser has open.

use std::net::{IpAddr, SocketAddr};

use axum::http::uri::Authority;
use axum::http::{HeaderMap, Method, StatusCode, Uri, header};

use crate::serve::failure::Failure;

/// Refuses a request that another page sends, or has the browser send.
///
/// A page whose name was made to point to this machine (DNS rebinding) asks with its name as Host, so only addresses and
/// `localhost` are answered. A page that sends a form says where it is from in Origin (RFC 6454), which must be us.
pub(super) fn check(bound: SocketAddr, method: &Method, uri: &Uri, headers: &HeaderMap) -> Result<(), Failure> {
    let mut hosts = headers.get_all(header::HOST).iter();
    let host = match (hosts.next(), hosts.next()) {
        (Some(host), None) => host.to_str().ok().and_then(|host| host.parse::<Authority>().ok()),
        _ => None,
    };
    let host = host.ok_or_else(|| Failure::bad("host", "expected one Host header"))?;
    let meant = [Some(&host), uri.authority()];
    if !meant.into_iter().flatten().all(|authority| is_ours(bound.ip(), authority)) {
        let message = format!("the host {host} is not this server; ask http://{bound}");
        return Err(Failure::new(StatusCode::MISDIRECTED_REQUEST, "host", message));
    }
    let foreign = |message: &str| Failure::new(StatusCode::FORBIDDEN, "origin", message);
    if method != Method::GET && method != Method::HEAD {
        for origin in headers.get_all(header::ORIGIN) {
            let from = origin.to_str().ok().and_then(|origin| origin.strip_prefix("http://"));
            if !from.is_some_and(|from| from.eq_ignore_ascii_case(host.as_str())) {
                return Err(foreign("another page may not send images here"));
            }
        }
        let site = headers.get("sec-fetch-site").map(header::HeaderValue::as_bytes);
        if site.is_some_and(|site| site != b"same-origin" && site != b"none") {
            return Err(foreign("another page may not send images here"));
        }
    }
    Ok(())
}

/// Whether a request for `authority` may be meant for the address `bound`. The port does not matter: it may be forwarded.
fn is_ours(bound: IpAddr, authority: &Authority) -> bool {
    if authority.as_str().contains('@') {
        return false;
    }
    let host = authority.host();
    if host.eq_ignore_ascii_case("localhost") {
        return true;
    }
    let address = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host).parse::<IpAddr>();
    address.is_ok_and(|address| address.is_loopback() || address == bound || bound.is_unspecified())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is said to a request with these headers, to a server at `bound`.
    fn said(bound: &str, method: Method, uri: &str, headers: &[(&'static str, &str)]) -> Option<u16> {
        use axum::response::IntoResponse;
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.append(*name, value.parse().unwrap());
        }
        let checked = check(bound.parse().unwrap(), &method, &uri.parse().unwrap(), &map);
        checked.err().map(|failure| failure.into_response().status().as_u16())
    }

    #[test]
    fn only_this_machine_is_meant() {
        let host = |bound: &str, host: &str| said(bound, Method::GET, "/", &[("host", host)]);
        for ours in ["127.0.0.1:8765", "localhost:8765", "LOCALHOST", "[::1]:8765", "127.0.0.1:9999", "127.0.0.2"] {
            assert_eq!(host("127.0.0.1:8765", ours), None, "{ours}");
        }
        for other in ["evil.example", "localhost.evil.example:8765", "10.0.0.7:8765", "127.0.0.1.nip.io", "a@localhost"]
        {
            assert_eq!(host("127.0.0.1:8765", other), Some(421), "{other}");
        }
        assert_eq!(host("127.0.0.1:8765", ""), Some(400));
        assert_eq!(host("10.0.0.7:8765", "10.0.0.7:8765"), None);
        assert_eq!(host("0.0.0.0:8765", "10.0.0.7:8765"), None);
        assert_eq!(host("0.0.0.0:8765", "evil.example"), Some(421));
        assert_eq!(said("127.0.0.1:1", Method::GET, "/", &[]), Some(400));
        assert_eq!(said("127.0.0.1:1", Method::GET, "/", &[("host", "localhost"), ("host", "localhost")]), Some(400));
        let absolute = "http://evil.example/v1/model";
        assert_eq!(said("127.0.0.1:1", Method::GET, absolute, &[("host", "localhost")]), Some(421));
    }

    #[test]
    fn only_our_page_sends_images() {
        let post =
            |origin: &str| said("127.0.0.1:1", Method::POST, "/", &[("host", "127.0.0.1:1"), ("origin", origin)]);
        assert_eq!(post("http://127.0.0.1:1"), None);
        for other in
            ["null", "http://127.0.0.1:2", "https://127.0.0.1:1", "http://localhost:1", "http://evil.example", ""]
        {
            assert_eq!(post(other), Some(403), "{other}");
        }
        let site =
            |site: &str| said("127.0.0.1:1", Method::POST, "/", &[("host", "127.0.0.1:1"), ("sec-fetch-site", site)]);
        assert_eq!(
            [site("same-origin"), site("none"), site("cross-site"), site("same-site")],
            [None, None, Some(403), Some(403)]
        );
        // A program says neither; a page may be opened from anywhere.
        assert_eq!(said("127.0.0.1:1", Method::POST, "/", &[("host", "localhost:1")]), None);
        let link = [("host", "localhost:1"), ("origin", "http://evil.example")];
        assert_eq!(said("127.0.0.1:1", Method::GET, "/", &link), None);
    }
}
