//! The softphone's files, which are in the binary: compressed once, and known again by their ETag
//! ([RFC 9110](https://www.rfc-editor.org/rfc/rfc9110#section-8.8.3) section 8.8.3).

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::Write;
use std::path::Path;
use std::sync::LazyLock;

use axum::body::Bytes;
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use flate2::Compression;
use flate2::write::GzEncoder;
use include_dir::{Dir, include_dir};

/// The page and the client: a gateway is one file.
static WEB: Dir<'static> = include_dir!("$CARGO_MANIFEST_DIR/web");

/// What is served, by its path; made at the first request.
static FILES: LazyLock<HashMap<&'static str, File>> = LazyLock::new(|| {
    let mut files = HashMap::new();
    collect(&WEB, &mut files);
    files
});

/// The operator's page, which is for others than the softphone is; made at the first request.
static DASHBOARD: LazyLock<HashMap<&'static str, File>> = LazyLock::new(|| {
    let dir = WEB.get_dir(DASHBOARD_DIR);
    let shared = SHARED.iter().filter_map(|name| WEB.get_file(name));
    let files = dir.into_iter().flat_map(Dir::files).chain(shared);
    files.filter_map(|file| Some((file.path().file_name()?.to_str()?, File::new(file.contents())))).collect()
});

/// Its folder.
const DASHBOARD_DIR: &str = "dashboard";

/// What it has of the softphone's, which is not served at all of its doors.
const SHARED: [&str; 2] = ["palette.css", "favicon.svg"];

/// Only our own scripts and styles; microphone and WebSocket for this origin.
const CONTENT_SECURITY_POLICY: &str = "default-src 'self'; connect-src 'self' ws: wss:; img-src 'self' data:; \
     media-src 'self' blob: data:; object-src 'none'; base-uri 'none'; frame-ancestors 'self'";

/// It shows calls, and no other page has it in a frame.
const DASHBOARD_POLICY: &str = "default-src 'self'; img-src 'self' data:; object-src 'none'; base-uri 'none'; \
     form-action 'none'; frame-ancestors 'none'";

struct File {
    plain: &'static [u8],
    /// Where it is the shorter one.
    gzip: Option<Bytes>,
    /// A weak one, as it stands for both forms.
    etag: String,
}

impl File {
    fn new(plain: &'static [u8]) -> File {
        let mut hasher = DefaultHasher::new();
        plain.hash(&mut hasher);
        let gzip = compressed(plain).filter(|gzip| gzip.len() < plain.len()).map(Bytes::from);
        File { plain, gzip, etag: format!("W/\"{:016x}\"", hasher.finish()) }
    }

    fn response(&self, name: &str, policy: &'static str, asked: &HeaderMap) -> Response {
        let known = [
            (header::ETAG, self.etag.as_str()),
            (header::CACHE_CONTROL, "no-cache"),
            (header::VARY, "accept-encoding"),
        ];
        if has_it(asked, &self.etag) {
            return (StatusCode::NOT_MODIFIED, known).into_response();
        }
        let headers = [
            (header::CONTENT_TYPE, content_type(name)),
            (header::CONTENT_SECURITY_POLICY, policy),
            (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
            (header::REFERRER_POLICY, "no-referrer"),
        ];
        match self.gzip.as_ref().filter(|_| takes_gzip(asked)) {
            Some(gzip) => (known, headers, [(header::CONTENT_ENCODING, "gzip")], gzip.clone()).into_response(),
            None => (known, headers, self.plain).into_response(),
        }
    }
}

fn collect(dir: &'static Dir<'static>, files: &mut HashMap<&'static str, File>) {
    let named = dir.files().filter_map(|file| Some((file.path().to_str()?, File::new(file.contents()))));
    files.extend(named);
    for inner in dir.dirs().filter(|inner| inner.path() != Path::new(DASHBOARD_DIR)) {
        collect(inner, files);
    }
}

fn compressed(plain: &[u8]) -> Option<Vec<u8>> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
    encoder.write_all(plain).ok()?;
    encoder.finish().ok()
}

/// The answer to a request for the file of this path, if there is one: 304 where the client has it already.
pub(super) fn answer(path: &str, asked: &HeaderMap) -> Option<Response> {
    let mut response = FILES.get(path)?.response(path, CONTENT_SECURITY_POLICY, asked);
    // Pages of other origins import the client as a module; the files are no secret.
    response.headers_mut().insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, HeaderValue::from_static("*"));
    Some(response)
}

/// The same of a file of the operator's page.
pub(super) fn of_dashboard(name: &str, asked: &HeaderMap) -> Option<Response> {
    Some(DASHBOARD.get(name)?.response(name, DASHBOARD_POLICY, asked))
}

/// The members of a header's list, over all its lines.
fn members(asked: &HeaderMap, name: HeaderName) -> impl Iterator<Item = &str> {
    asked.get_all(name).iter().filter_map(|line| line.to_str().ok()).flat_map(|line| line.split(',')).map(str::trim)
}

/// `If-None-Match` ([RFC 9110](https://www.rfc-editor.org/rfc/rfc9110#section-13.1.2) section 13.1.2).
fn has_it(asked: &HeaderMap, etag: &str) -> bool {
    members(asked, header::IF_NONE_MATCH).any(|tag| tag == etag || tag == "*")
}

/// `Accept-Encoding` ([RFC 9110](https://www.rfc-editor.org/rfc/rfc9110#section-12.5.3) section 12.5.3).
fn takes_gzip(asked: &HeaderMap) -> bool {
    let mut any = false;
    for coding in members(asked, header::ACCEPT_ENCODING) {
        let (name, weight) = coding.split_once(';').unwrap_or((coding, ""));
        let weight = weight.trim().to_ascii_lowercase();
        let taken = !weight.strip_prefix("q=").and_then(|q| q.parse::<f32>().ok()).is_some_and(|q| q <= 0.0);
        match name.trim().to_ascii_lowercase().as_str() {
            "gzip" | "x-gzip" => return taken,
            "*" => any = taken,
            _ => {}
        }
    }
    any
}

fn content_type(name: &str) -> &'static str {
    match name.rsplit_once('.').map_or("", |(_, extension)| extension) {
        "html" => "text/html; charset=utf-8",
        "js" | "mjs" => "text/javascript; charset=utf-8",
        "css" => "text/css; charset=utf-8",
        "json" | "map" => "application/json",
        "svg" => "image/svg+xml",
        "png" => "image/png",
        "ico" => "image/x-icon",
        "ts" => "text/plain; charset=utf-8",
        "webmanifest" => "application/manifest+json",
        _ => "application/octet-stream",
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use std::io::Read;

    use flate2::read::GzDecoder;

    use super::*;

    fn asking(headers: &[(HeaderName, &str)]) -> HeaderMap {
        headers.iter().map(|(name, value)| (name.clone(), value.parse().unwrap())).collect()
    }

    #[test]
    fn gzip_is_for_those_who_take_it() {
        for (accept, taken) in [
            ("gzip, deflate, br", true),
            ("deflate, GZIP;q=0.5", true),
            ("*", true),
            ("gzip;q=0, *", false),
            ("*;q=0", false),
            ("identity", false),
            ("", false),
        ] {
            assert_eq!(takes_gzip(&asking(&[(header::ACCEPT_ENCODING, accept)])), taken, "{accept}");
        }
        assert!(!takes_gzip(&HeaderMap::new()));
    }

    #[test]
    fn what_is_compressed_is_the_file() {
        for (name, file) in FILES.iter() {
            let Some(gzip) = &file.gzip else { continue };
            let mut plain = Vec::new();
            GzDecoder::new(&gzip[..]).read_to_end(&mut plain).unwrap();
            assert!(plain == file.plain, "{name}");
        }
        let size = FILES["ringback.js"].gzip.as_ref().unwrap().len();
        assert!(size < 15_000, "{size} bytes");
        assert!(FILES.contains_key("client/call.js"), "and those in folders");
    }

    #[test]
    fn the_operators_page_is_not_among_the_softphones_files() {
        assert!(FILES.keys().all(|path| !path.contains("dashboard")));
        for name in ["dashboard", "dashboard/", "dashboard/index.html"] {
            assert!(answer(name, &HeaderMap::new()).is_none(), "{name}");
        }
        assert!(of_dashboard("ringback.js", &HeaderMap::new()).is_none());
        for name in SHARED {
            let (ours, its) =
                (answer(name, &HeaderMap::new()).unwrap(), of_dashboard(name, &HeaderMap::new()).unwrap());
            assert_eq!(ours.headers()[header::ETAG], its.headers()[header::ETAG], "{name}");
        }
        let page = of_dashboard("index.html", &HeaderMap::new()).unwrap();
        assert!(page.headers()[header::CONTENT_SECURITY_POLICY].to_str().unwrap().contains("frame-ancestors 'none'"));
        assert!(!page.headers().contains_key(header::ACCESS_CONTROL_ALLOW_ORIGIN));
    }

    #[test]
    fn a_client_that_has_the_file_is_told_so() {
        let first = answer("ringback.js", &asking(&[(header::ACCEPT_ENCODING, "gzip")])).unwrap();
        assert_eq!(first.headers()[header::CONTENT_ENCODING], "gzip");
        let etag = first.headers()[header::ETAG].to_str().unwrap();
        for (known, status) in [
            (etag, StatusCode::NOT_MODIFIED),
            ("\"x\", *", StatusCode::NOT_MODIFIED),
            ("W/\"another\"", StatusCode::OK),
        ] {
            let again = answer("ringback.js", &asking(&[(header::IF_NONE_MATCH, known)])).unwrap();
            assert_eq!(again.status(), status, "{known}");
            assert_eq!(again.headers()[header::VARY], "accept-encoding", "{known}");
        }
        assert!(answer("nothing.js", &HeaderMap::new()).is_none());
    }
}
