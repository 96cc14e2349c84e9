//! A strict reader of HAR 1.2 (http://www.softwareishard.com/blog/har-12-spec/), with what
//! Chromium's importer asks for beside it (DevTools `HARFormat`: numbers are numbers, dates parse,
//! lists are there).
//!
//! Unknown fields are errors, except those that begin with an underscore, as the format says.

use base64::Engine as _;
use serde::Deserialize;
use serde_json::Value;
use std::net::IpAddr;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Har {
    log: Log,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Log {
    version: String,
    creator: Creator,
    pages: Vec<Value>,
    entries: Vec<Entry>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Creator {
    name: String,
    version: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct Entry {
    started_date_time: String,
    time: f64,
    request: Request,
    response: Response,
    cache: Cache,
    timings: Timings,
    #[serde(rename = "serverIPAddress")]
    server_ip_address: Option<IpAddr>,
    connection: Option<String>,
    comment: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Cache {}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct Request {
    method: String,
    url: String,
    http_version: String,
    cookies: Vec<Pair>,
    headers: Vec<Pair>,
    query_string: Vec<Pair>,
    post_data: Option<PostData>,
    headers_size: i64,
    body_size: i64,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Pair {
    name: String,
    value: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct PostData {
    mime_type: String,
    #[serde(default)]
    params: Vec<Pair>,
    text: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct Response {
    status: u16,
    status_text: String,
    http_version: String,
    cookies: Vec<Pair>,
    headers: Vec<Pair>,
    content: Content,
    #[serde(rename = "redirectURL")]
    redirect_url: String,
    headers_size: i64,
    body_size: i64,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct Content {
    size: i64,
    compression: Option<i64>,
    mime_type: String,
    text: Option<String>,
    encoding: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Timings {
    blocked: Option<f64>,
    dns: Option<f64>,
    connect: Option<f64>,
    send: f64,
    wait: f64,
    receive: f64,
    ssl: Option<f64>,
}

/// What is wrong with a HAR; the number of its entries when nothing is.
pub fn check(har: &Value) -> Result<usize, String> {
    let mut plain = har.clone();
    strip(&mut plain);
    let read: Har = serde_json::from_value(plain).map_err(|error| error.to_string())?;
    let log = &read.log;
    if log.version != "1.2" || log.creator.name.is_empty() || log.creator.version.is_empty() {
        return Err("version or creator".to_owned());
    }
    if !log.pages.is_empty() {
        return Err("pages that no entry belongs to".to_owned());
    }
    for (at, entry) in log.entries.iter().enumerate() {
        let own = &har["log"]["entries"][at];
        self::entry(entry, own).map_err(|what| format!("entry {at}: {what}: {own}"))?;
    }
    Ok(log.entries.len())
}

/// Takes out what a reader has to ignore.
fn strip(value: &mut Value) {
    match value {
        Value::Object(object) => {
            object.retain(|name, _| !name.starts_with('_'));
            object.values_mut().for_each(strip);
        }
        Value::Array(items) => items.iter_mut().for_each(strip),
        _ => {}
    }
}

fn entry(entry: &Entry, own: &Value) -> Result<(), String> {
    let ok = |holds: bool, what: &str| if holds { Ok(()) } else { Err(what.to_owned()) };
    ok(OffsetDateTime::parse(&entry.started_date_time, &Rfc3339).is_ok(), "startedDateTime")?;
    ok(entry.connection.as_ref().is_none_or(|c| !c.is_empty()), "connection")?;
    ok(entry.comment.as_ref().is_none_or(|c| !c.is_empty()), "comment")?;
    let Cache {} = entry.cache;
    let t = &entry.timings;
    let known = [t.send, t.wait, t.receive];
    ok(known.iter().all(|ms| ms.is_finite() && *ms >= 0.0), "send, wait, receive")?;
    let optional = [t.blocked, t.dns, t.connect, t.ssl].map(|ms| ms.unwrap_or(-1.0));
    ok(optional.iter().all(|ms| *ms == -1.0 || *ms >= 0.0), "-1 or not negative")?;
    // `ssl` is part of `connect`.
    let sum: f64 = known.iter().chain(&optional[..3]).filter(|ms| **ms > 0.0).sum();
    ok((entry.time - sum).abs() < 0.001, "time is the sum of timings")?;
    // No address is known where nothing was sent.
    ok(entry.server_ip_address.is_none_or(|ip| !ip.is_unspecified()), "serverIPAddress")?;

    let request = &entry.request;
    let token = |text: &str| {
        !text.is_empty()
            && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b))
    };
    ok(token(&request.method), "method")?;
    let url: url::Url = request.url.parse().map_err(|error| format!("url: {error}"))?;
    ok(["http", "https"].contains(&url.scheme()), "url")?;
    ok(url.fragment().is_none(), "url without fragment")?;
    ok(request.headers_size >= -1 && request.body_size >= -1, "request sizes")?;
    let query = url.query_pairs().count();
    ok(request.query_string.len() == query, "queryString is the url's")?;
    for version in [&request.http_version, &entry.response.http_version] {
        ok(version.starts_with("HTTP/"), "httpVersion")?;
    }
    if let Some(data) = &request.post_data {
        ok(!data.mime_type.is_empty(), "postData.mimeType")?;
        ok(data.params.is_empty() != data.text.is_none(), "postData: params or text")?;
        let sent = &own["request"]["postData"];
        sized(data.text.as_deref(), &sent["_encoding"], request.body_size, sent)?;
    }

    let response = &entry.response;
    ok(response.status == 0 || (100..600).contains(&response.status), "status")?;
    ok(response.status == 0 || !response.http_version.is_empty(), "response httpVersion")?;
    ok(response.status != 0 || response.status_text.is_empty(), "statusText of no answer")?;
    ok(response.headers_size >= -1 && response.body_size >= -1, "response sizes")?;
    let location = response.headers.iter().find(|h| h.name.eq_ignore_ascii_case("location"));
    ok(location.map_or("", |h| h.value.as_str()) == response.redirect_url, "redirectURL")?;
    let content = &response.content;
    ok(content.size >= 0 && !content.mime_type.is_empty(), "content")?;
    ok(content.encoding.as_deref().is_none_or(|e| e == "base64"), "content.encoding")?;
    ok(content.text.is_some() || content.encoding.is_none(), "an encoding of nothing")?;
    let saved = content.compression.is_none_or(|saved| saved == content.size - response.body_size);
    ok(saved, "content.compression")?;
    let delivered = &own["response"]["content"];
    sized(content.text.as_deref(), &delivered["encoding"], content.size, delivered)?;
    let all = request.headers.iter().chain(&request.cookies).chain(&request.query_string);
    for pair in all.chain(&response.headers).chain(&response.cookies) {
        ok(
            !pair.name.contains(['\r', '\n']) && !pair.value.contains(['\r', '\n']),
            "a line break",
        )?;
    }
    Ok(())
}

/// A text has the length that its body has, unless it says that it was cut.
fn sized(text: Option<&str>, encoding: &Value, size: i64, own: &Value) -> Result<(), String> {
    let Some(text) = text else { return Ok(()) };
    let bytes = match encoding.as_str() {
        Some("base64") => base64::engine::general_purpose::STANDARD
            .decode(text)
            .map_err(|error| format!("base64: {error}"))?,
        Some(other) => return Err(format!("encoding {other}")),
        None => text.as_bytes().to_vec(),
    };
    let length = i64::try_from(bytes.len()).map_err(|error| error.to_string())?;
    match own["_truncated"].as_bool() {
        Some(true) if size == -1 || length < size => Ok(()),
        None if size == -1 || length == size => Ok(()),
        _ => Err(format!("{length} bytes of {size}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn good() -> Value {
        json!({"log": {"version": "1.2", "creator": {"name": "n", "version": "1"}, "pages": [], "entries": [{
            "startedDateTime": "2026-01-31T08:00:00.000Z", "time": 3.0, "cache": {},
            "request": {"method": "POST", "url": "https://a.test/x?a=1", "httpVersion": "HTTP/1.1",
                "cookies": [], "headers": [{"name": "a", "value": "b"}],
                "queryString": [{"name": "a", "value": "1"}], "headersSize": -1, "bodySize": 2,
                "postData": {"mimeType": "text/plain", "text": "/w==", "_encoding": "base64", "_truncated": true}},
            "response": {"status": 200, "statusText": "OK", "httpVersion": "HTTP/1.1", "cookies": [],
                "headers": [], "redirectURL": "", "headersSize": -1, "bodySize": 1,
                "content": {"size": 1, "mimeType": "x", "text": "/w==", "encoding": "base64"}},
            "timings": {"blocked": 1.0, "dns": -1, "connect": -1, "ssl": -1, "send": 0.0, "wait": 2.0, "receive": 0.0},
            "connection": "c", "_own": 1
        }]}})
    }

    #[test]
    fn what_is_not_as_the_format_says_is_refused() {
        assert_eq!(check(&good()), Ok(1));
        let changes: [(&str, Value); 16] = [
            ("/log/version", json!("1.1")),
            ("/log/entries/0/startedDateTime", json!("yesterday")),
            ("/log/entries/0/time", json!(4.0)),
            ("/log/entries/0/time", json!("3")),
            ("/log/entries/0/cache", json!({"x": 1})),
            ("/log/entries/0/timings/send", json!(-1)),
            ("/log/entries/0/timings/dns", json!(-2)),
            ("/log/entries/0/request/url", json!("/x?a=1")),
            ("/log/entries/0/request/method", json!("")),
            ("/log/entries/0/request/queryString", json!([])),
            ("/log/entries/0/request/postData/_truncated", json!(false)),
            ("/log/entries/0/request/bodySize", json!(-2)),
            ("/log/entries/0/response/status", json!(42)),
            ("/log/entries/0/response/content/encoding", json!("hex")),
            ("/log/entries/0/response/content/text", json!("no base64")),
            ("/log/entries/0/response/content/size", json!(2)),
        ];
        for (at, value) in changes {
            let mut har = good();
            *har.pointer_mut(at).unwrap() = value;
            assert!(check(&har).is_err(), "{at}");
        }
        for (object, field) in [
            ("/log", "entries"),
            ("/log/entries/0", "timings"),
            ("/log/entries/0/request", "headersSize"),
            ("/log/entries/0/response", "redirectURL"),
            ("/log/entries/0/response/content", "mimeType"),
            ("/log/entries/0/timings", "wait"),
        ] {
            let mut har = good();
            har.pointer_mut(object).unwrap().as_object_mut().unwrap().remove(field);
            assert!(check(&har).is_err(), "without {field}");
            let mut har = good();
            har.pointer_mut(object).unwrap()["strange"] = json!(1);
            assert!(check(&har).is_err(), "strange in {object}");
        }
    }
}
