//! The HTTP request that opens a WebSocket, parsed within bounds. Not its judgement.

/// A request line and its headers may be so long; nats-server allows 1 MiB.
pub(super) const MAX_REQUEST_BYTES: usize = 16 * 1024;
const MAX_HEADERS: usize = 64;

/// A request without a body.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    /// The method, as written.
    pub method: String,
    /// The path without the query.
    pub path: String,
    /// Names in lower case, with their values in order.
    headers: Vec<(String, String)>,
    /// Whether another request may follow when this one is refused.
    pub keeps_alive: bool,
}

/// How far a request has come.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ParsedRequest {
    /// More has to come.
    Incomplete,
    /// A request, and how long it is in bytes.
    Complete(Request, usize),
    /// No request: what to answer before the connection ends.
    Malformed(String),
}

impl Request {
    /// The first value of a header; `name` in lower case.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    /// All values of a header; `name` in lower case.
    pub fn values<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        self.headers.iter().filter(move |(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    /// Whether one of the header's comma-separated values is `wanted`, whatever the case.
    pub fn lists(&self, name: &str, wanted: &str) -> bool {
        let trim = |token: &str| token.trim_matches([' ', '\t']).eq_ignore_ascii_case(wanted);
        self.values(name).any(|value| value.split(',').any(trim))
    }

    /// The value of a cookie, if it is one that Go's server would show.
    pub fn cookie(&self, name: &str) -> Option<String> {
        let mut found = None;
        for header in self.values("cookie") {
            for part in header.split(';') {
                let part = part.trim_matches([' ', '\t']);
                let (key, value) = part.split_once('=').unwrap_or((part, ""));
                if key.trim_matches([' ', '\t']) != name {
                    continue;
                }
                let value = value.strip_prefix('"').and_then(|v| v.strip_suffix('"')).unwrap_or(value);
                let is_valid = |byte: u8| (0x20..0x7F).contains(&byte) && !b"\";\\".contains(&byte);
                if value.bytes().all(is_valid) {
                    // The last one of a name counts, as in nats-server.
                    found = Some(value.to_owned());
                }
            }
        }
        found
    }
}

/// Parses what has come.
pub fn parse_request(bytes: &[u8]) -> ParsedRequest {
    let mut headers = [httparse::EMPTY_HEADER; MAX_HEADERS];
    let mut parsed = httparse::Request::new(&mut headers);
    let length = match parsed.parse(bytes) {
        Ok(httparse::Status::Complete(length)) => length,
        Ok(httparse::Status::Partial) if bytes.len() < MAX_REQUEST_BYTES => return ParsedRequest::Incomplete,
        Ok(httparse::Status::Partial) | Err(httparse::Error::TooManyHeaders) => {
            return malformed("431 Request Header Fields Too Large", "");
        }
        Err(httparse::Error::Version) => {
            return malformed("505 HTTP Version Not Supported", ": unsupported protocol version");
        }
        Err(_) => return malformed("400 Bad Request", ""),
    };
    let is_1_1 = parsed.version == Some(1);
    let mut request = Request {
        method: parsed.method.unwrap_or_default().to_owned(),
        path: parsed.path.unwrap_or_default().split('?').next().unwrap_or_default().to_owned(),
        headers: Vec::new(),
        keeps_alive: is_1_1,
    };
    for header in parsed.headers.iter() {
        let value = String::from_utf8_lossy(header.value).trim_matches([' ', '\t']).to_owned();
        request.headers.push((header.name.to_ascii_lowercase(), value));
    }
    if is_1_1 && request.header("host").is_none() {
        return malformed("400 Bad Request", ": missing required Host header");
    }
    let has_body = request.header("content-length").is_some_and(|length| length != "0")
        || request.header("transfer-encoding").is_some();
    if has_body || request.lists("connection", "close") {
        request.keeps_alive = false;
    }
    ParsedRequest::Complete(request, length)
}

fn malformed(status: &str, detail: &str) -> ParsedRequest {
    ParsedRequest::Malformed(format!(
        "HTTP/1.1 {status}{detail}\r\nContent-Type: text/plain; charset=utf-8\r\nConnection: close\r\n\r\n{status}{detail}"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn complete(text: &str) -> Request {
        match parse_request(text.as_bytes()) {
            ParsedRequest::Complete(request, length) => {
                assert_eq!(length, text.len());
                request
            }
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_request_is_taken_apart() {
        let request = complete(
            "GET /a/b?c=d HTTP/1.1\r\nHost: h:1\r\nConnection: keep-alive, UPGRADE\r\n\
             Cookie: one=1; jwt=\"abc\"; bad=a\\b\r\nCookie: jwt=def\r\n\r\n",
        );
        assert_eq!((request.method.as_str(), request.path.as_str()), ("GET", "/a/b"));
        assert!(request.lists("connection", "Upgrade"));
        assert!(!request.lists("connection", "grade"));
        assert_eq!(request.cookie("jwt").as_deref(), Some("def"));
        assert_eq!(request.cookie("one").as_deref(), Some("1"));
        assert_eq!(request.cookie("bad"), None);
        assert!(request.keeps_alive);
    }

    #[test]
    fn what_is_no_request_is_answered_as_gos_server_does() {
        assert_eq!(parse_request(b"GET / HTTP/1.1\r\nHost: x\r\n"), ParsedRequest::Incomplete);
        for (bytes, expected) in [
            (&b"INFO {}\r\n\r\n"[..], "400 Bad Request"),
            (b"GET / HTTP/1.1\r\n\r\n", "400 Bad Request: missing required Host header"),
        ] {
            let ParsedRequest::Malformed(answer) = parse_request(bytes) else { panic!("malformed") };
            assert!(answer.ends_with(&format!("\r\n\r\n{expected}")), "{answer}");
        }
        let long = [b"GET / HTTP/1.1\r\nx: ".as_slice(), &vec![b'y'; MAX_REQUEST_BYTES]].concat();
        let ParsedRequest::Malformed(answer) = parse_request(&long) else { panic!("malformed") };
        assert!(answer.starts_with("HTTP/1.1 431 "));
    }
}
