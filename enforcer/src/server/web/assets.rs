//! The two files and the icon that the pages use, each at an address with its hash.

use axum::extract::Path;
use axum::response::{IntoResponse as _, Response};
use http::{StatusCode, header};
use sha2::{Digest as _, Sha256};
use std::sync::LazyLock;

const CSS: &str = include_str!("assets/console.css");
const JS: &str = include_str!("assets/console.js");
const ICON: &str = include_str!("assets/icon.svg");

/// Another content is another address, so that browsers may keep each for ever.
static VERSION: LazyLock<String> = LazyLock::new(|| {
    let hash = [CSS, JS, ICON].iter().fold(Sha256::new(), |hash, text| hash.chain_update(text));
    hex::encode(hash.finalize()).chars().take(16).collect()
});

/// Where one is.
pub(super) fn at(name: &str) -> String {
    format!("/assets/{}/{name}", *VERSION)
}

/// One of them.
pub(super) async fn asset(Path((version, name)): Path<(String, String)>) -> Response {
    let (kind, content) = match name.as_str() {
        "console.css" => ("text/css; charset=utf-8", CSS),
        "console.js" => ("text/javascript; charset=utf-8", JS),
        "icon.svg" => ("image/svg+xml", ICON),
        _ => return StatusCode::NOT_FOUND.into_response(),
    };
    if version != *VERSION {
        return StatusCode::NOT_FOUND.into_response();
    }
    let kept = "public, max-age=31536000, immutable";
    ([(header::CONTENT_TYPE, kind), (header::CACHE_CONTROL, kept)], content).into_response()
}
