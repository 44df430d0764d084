//! The dashboard: one page, its style and its script, embedded in the binary. They hold no secret, so they are served
//! without the token; what the page shows comes from the API, under its rules.

use super::intake::Call;
use crate::front::Response;
use tiny_http::Method;

/// Nothing from elsewhere, nothing inline, in no frame.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; \
                      base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// A file of the dashboard: the path, the Content-Type, the text. The page names the others without a folder, so it
/// also works behind a proxy that serves it under a prefix.
const FILES: [(&str, &str, &str); 4] = [
    ("/dashboard", "text/html; charset=utf-8", include_str!("dashboard/page.html")),
    ("/dashboard.css", "text/css; charset=utf-8", include_str!("dashboard/style.css")),
    ("/dashboard.js", "text/javascript; charset=utf-8", include_str!("dashboard/script.js")),
    ("/dashboard.svg", "image/svg+xml", include_str!("dashboard/icon.svg")),
];

/// What the page says when its data need a token, so that it asks for one before the first call, which would fail.
const NEEDS_TOKEN: [&str; 2] = ["<html lang=\"en\">", "<html lang=\"en\" data-token=\"required\">"];

/// The file that the request asks for; the page itself at `/`, too, for browsers, which ask for HTML. Whether `admin.token`
/// is set is no secret: the first response of the API says so.
pub(super) fn file(call: &Call, needs_token: bool) -> Option<Response> {
    if !matches!(call.method, Method::Get | Method::Head) {
        return None;
    }
    let is_browser = || call.field("Accept").is_some_and(|accept| accept.contains("text/html"));
    let path = if call.path == "/" && is_browser() { "/dashboard" } else { &call.path };
    let (_, kind, text) = FILES.iter().find(|(name, ..)| *name == path)?;
    let [without, with] = NEEDS_TOKEN;
    let body = if needs_token { text.replacen(without, with, 1) } else { (*text).to_owned() };
    let response = Response::of(200, kind, body);
    Some(response.with("Content-Security-Policy", POLICY).with("Referrer-Policy", "no-referrer"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_browser_gets_the_page_and_others_the_index() {
        let check = |path: &str, accept: &str, kind: Option<&str>| {
            let found = file(&Call::of(Method::Get, path, &[("Accept", accept)]), false);
            assert_eq!(found.as_ref().map(|file| file.kind), kind, "{path} {accept}");
            assert!(found.is_none_or(|file| !file.body.is_empty() && file.fields[0].1 == POLICY));
        };
        let html = Some("text/html; charset=utf-8");
        check("/", "text/html,application/xhtml+xml;q=0.9", html);
        check("/", "*/*", None);
        check("/dashboard", "*/*", html);
        check("/dashboard.css", "text/css", Some("text/css; charset=utf-8"));
        check("/dashboard.js", "*/*", Some("text/javascript; charset=utf-8"));
        check("/dashboard.svg", "image/*", Some("image/svg+xml"));
        check("/dashboard.png", "*/*", None);
        check("/api/v1/status", "text/html", None);
        assert!(file(&Call::of(Method::Post, "/dashboard", &[]), false).is_none());
        let page = |needs_token| file(&Call::of(Method::Get, "/dashboard", &[]), needs_token).unwrap().body;
        assert!(page(true).contains("data-token") && !page(false).contains("data-token"));
    }

    #[test]
    fn the_page_needs_nothing_inline_and_nothing_from_elsewhere() {
        for (name, _, text) in FILES {
            for forbidden in ["https://", " onclick=", " style=\"", "<style", "innerHTML", "eval("] {
                assert!(!text.contains(forbidden), "{name}: {forbidden}");
            }
        }
        let page = FILES[0].2;
        for (name, ..) in &FILES[1..] {
            assert!(page.contains(&format!("\"{}\"", &name[1..])), "{name} is used, without its folder");
        }
    }
}
