//! `[otlp]`: where each call goes as a trace.

use toml::Spanned;

use super::{ConfigError, Problem, Reader, Secret, raw};

/// What is added to the endpoint ("OpenTelemetry Protocol Specification", OTLP/HTTP Request).
const PATH: &str = "/v1/traces";
/// What the exporter and HTTP set themselves.
const TAKEN: [&str; 7] =
    ["host", "content-type", "content-length", "accept", "user-agent", "connection", "transfer-encoding"];

/// A receiver of traces (OTLP over HTTP, in JSON).
#[derive(Clone)]
pub struct Otlp {
    /// The whole URL.
    pub url: String,
    /// Header fields by which it knows us: names in lower case.
    pub headers: Vec<(String, Secret)>,
    /// `service.name` of what is sent.
    pub service: String,
    /// Whether numbers and users' names are told.
    pub numbers: bool,
}

impl std::fmt::Debug for Otlp {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let names: Vec<&String> = self.headers.iter().map(|(name, _)| name).collect();
        let Otlp { service, numbers, .. } = self;
        f.debug_struct("Otlp")
            .field("headers", &names)
            .field("service", service)
            .field("numbers", numbers)
            .finish_non_exhaustive()
    }
}

impl Reader<'_> {
    /// The whole section.
    pub(super) fn otlp(&self, section: &Spanned<raw::Otlp>) -> Result<Otlp, ConfigError> {
        let raw = section.get_ref();
        let endpoint = raw.endpoint.get_ref().trim_end_matches('/');
        let host = endpoint.strip_prefix("https://").or_else(|| endpoint.strip_prefix("http://"));
        let written = endpoint.bytes().all(|byte| byte.is_ascii_graphic());
        if !written
            || host.is_none_or(|host| host.is_empty() || host.starts_with('/') || host.contains(['@', '?', '#']))
        {
            return Err(self.error(&raw.endpoint, Problem::OtlpEndpoint));
        }
        let url = if endpoint.ends_with(PATH) { endpoint.to_owned() } else { format!("{endpoint}{PATH}") };
        let mut headers = Vec::new();
        for (name, value) in &raw.headers {
            headers.push(header(name, value.get_ref()).ok_or_else(|| self.error(value, Problem::OtlpHeader))?);
        }
        if let Some(file) = &raw.headers_file {
            for line in self.secret_file(file)?.lines().filter(|line| !line.trim().is_empty()) {
                let found = line.split_once(':').and_then(|(name, value)| header(name, value));
                headers.push(found.ok_or_else(|| self.error(file, Problem::OtlpHeader))?);
            }
        }
        let numbers = self.one_of("numbers", &raw.numbers, ["none", "plain"], "\"none\" or \"plain\"")?;
        let service = raw.service.clone().unwrap_or_else(|| "ringback".to_owned());
        Ok(Otlp { url, headers, service, numbers })
    }
}

/// A header field that can be sent ([RFC 9110](https://www.rfc-editor.org/rfc/rfc9110#section-5) section 5).
fn header(name: &str, value: &str) -> Option<(String, Secret)> {
    let (name, value) = (name.trim().to_ascii_lowercase(), value.trim());
    let token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    let plain = |byte: u8| byte == b' ' || byte.is_ascii_graphic();
    let good = !name.is_empty() && name.bytes().all(token) && !value.is_empty() && value.bytes().all(plain);
    (good && !TAKEN.contains(&name.as_str())).then(|| (name, Secret::of(value.as_bytes())))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use crate::config::Config;
    use crate::config::tests::with_sections;

    fn load(section: &str) -> Result<Config, String> {
        let files = [("headers", "X-Api-Key: s3cret one\n\nx-tenant: s3cret two\n"), ("broken", "s3cret\n")];
        with_sections(&files, &format!("[otlp]\n{section}"))
    }

    fn wrong(section: &str) -> String {
        load(section).unwrap_err()
    }

    #[test]
    fn an_endpoint_gets_its_path_and_its_headers_are_not_shown() {
        let section = "endpoint = \"http://s3cret.example:4318/\"\nheaders_file = \"headers\"\nservice = \"gw1\"\n\
            headers = { Authorization = \"Basic s3cret\" }\n";
        let config = load(section).unwrap();
        assert!(!format!("{config:?}").contains("s3cret"), "{config:?}");
        let otlp = config.otlp.unwrap();
        assert_eq!((otlp.url.as_str(), otlp.numbers), ("http://s3cret.example:4318/v1/traces", false));
        let headers: Vec<_> = otlp.headers.iter().map(|(name, value)| (name.as_str(), value.reveal())).collect();
        let wanted: [(&str, &[u8]); 3] =
            [("authorization", b"Basic s3cret"), ("x-api-key", b"s3cret one"), ("x-tenant", b"s3cret two")];
        assert_eq!(headers, wanted);
        let whole = load("endpoint = \"https://h/otlp/v1/traces\"\nnumbers = \"plain\"\n").unwrap().otlp.unwrap();
        assert_eq!((whole.url.as_str(), whole.numbers), ("https://h/otlp/v1/traces", true));
        assert!(load("").is_err(), "no endpoint");
    }

    #[test]
    fn what_is_wrong_is_told_by_its_line_and_without_the_value() {
        for endpoint in
            ["s3cret:4318", "http://", "http:///x", "http://u:s3cret@h", "http://h s3cret", "http://h?s3cret"]
        {
            let said = wrong(&format!("endpoint = \"{endpoint}\"\n"));
            assert!(said.contains("ringback.toml:6:12") && !said.contains("s3cret"), "{said}");
        }
        for headers in [
            "headers = { \"x y\" = \"s3cret\" }",
            "headers = { \"host\" = \"s3cret\" }",
            "headers = { x = \"s3\\u0000cret\" }",
            "headers_file = \"broken\"",
        ] {
            let said = wrong(&format!("endpoint = \"http://h\"\n{headers}\n"));
            assert!(said.contains("ringback.toml:7:") && !said.contains("s3cret"), "{said}");
        }
        assert!(wrong("endpoint = \"http://h\"\nnumbers = \"some\"\n").contains("\"none\" or \"plain\""));
    }
}
