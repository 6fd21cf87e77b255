//! Whether a request opens a WebSocket, and the answer to it, as nats-server decides. Sans-io.

use super::codec::FrameOptions;
use super::origin::OriginRules;
use super::request::Request;
use crate::facts::Cookies;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use sha1::{Digest, Sha1};
use std::net::IpAddr;

/// From RFC 6455 section 1.3.
const GUID: &[u8] = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11";

/// What a listener demands and offers.
#[derive(Debug, Clone, Default)]
pub struct UpgradeRules {
    /// Which Origins may.
    pub origins: OriginRules,
    /// Whether permessage-deflate is offered.
    pub compression: bool,
    /// Lines of headers that go into the answer, each with its end.
    pub headers: String,
    /// Which cookies carry credentials.
    pub cookies: CookieNames,
    /// Whether the listener speaks TLS.
    pub over_tls: bool,
    /// Whether MQTT is served at `/mqtt`.
    pub mqtt: bool,
    /// `max_payload` in bytes.
    pub max_payload: usize,
}

/// Names of cookies that carry credentials.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CookieNames {
    /// `jwt_cookie`.
    pub jwt: Option<String>,
    /// `user_cookie`.
    pub user: Option<String>,
    /// `pass_cookie`.
    pub password: Option<String>,
    /// `token_cookie`.
    pub token: Option<String>,
}

/// What speaks over the WebSocket, by the path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UpgradeKind {
    /// A client.
    Client,
    /// A leaf node (`/leafnode`).
    Leafnode,
    /// MQTT (`/mqtt`).
    Mqtt,
}

/// A request that was granted.
#[derive(Debug, Clone)]
pub struct Upgrade {
    /// Who speaks.
    pub kind: UpgradeKind,
    /// The answer to send.
    pub response: String,
    /// How frames go.
    pub frames: FrameOptions,
    /// Credentials from cookies.
    pub cookies: Cookies,
    /// Who a proxy says it speaks for.
    pub forwarded_for: Option<IpAddr>,
}

/// A request that was not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// The HTTP status.
    pub status: u16,
    /// For the log.
    pub reason: String,
}

fn refuse<T>(status: u16, reason: impl Into<String>) -> Result<T, Refusal> {
    Err(Refusal { status, reason: reason.into() })
}

impl Refusal {
    /// The answer to send but for the date, which is written as HTTP has it.
    pub fn response(&self, date: &str) -> String {
        let text = match self.status {
            403 => "Forbidden",
            404 => "Not Found",
            405 => "Method Not Allowed",
            _ => "Bad Request",
        };
        format!(
            "HTTP/1.1 {} {text}\r\nContent-Type: text/plain; charset=utf-8\r\nSec-Websocket-Version: 13\r\n\
             X-Content-Type-Options: nosniff\r\nDate: {date}\r\nContent-Length: {}\r\n\r\n{text}\n",
            self.status,
            text.len() + 1
        )
    }
}

/// Judges a request.
pub fn judge(request: &Request, rules: &UpgradeRules) -> Result<Upgrade, Refusal> {
    let kind = kind_of(&request.path);
    if kind == UpgradeKind::Mqtt && !rules.mqtt {
        return refuse(404, "mqtt websocket endpoint not enabled");
    }
    let key = check_handshake(request)?;
    let host = request.header("host").unwrap_or_default();
    let origin = ["origin", "sec-websocket-origin"]
        .iter()
        .find_map(|name| request.header(name).filter(|origin| !origin.is_empty()));
    if let Err(reason) = rules.origins.judge(origin, host, rules.over_tls) {
        return refuse(403, format!("origin not allowed: {reason}"));
    }
    let compresses = rules.compression && offers_deflate(request);
    let no_masking = request.header("nats-no-masking") == Some("true");
    let user_agent = request.header("user-agent").unwrap_or_default();
    let is_browser = kind != UpgradeKind::Leafnode && user_agent.starts_with("Mozilla/");
    // Chrome says "Safari/" as well, but not "Version/".
    let is_safari = is_browser && user_agent.contains("Version/") && user_agent.contains("Safari/");
    let forwarded_for = request.header("x-forwarded-for").and_then(|text| text.parse().ok());
    Ok(Upgrade {
        kind,
        response: response(key, compresses, no_masking, kind, &rules.headers),
        frames: FrameOptions {
            masks: !no_masking,
            compresses,
            is_browser,
            keeps_compressed_whole: compresses && is_safari,
            max_payload: rules.max_payload,
        },
        cookies: if kind == UpgradeKind::Leafnode {
            Cookies::default()
        } else {
            cookies(request, &rules.cookies)
        },
        forwarded_for,
    })
}

fn kind_of(path: &str) -> UpgradeKind {
    if path.ends_with("/leafnode") {
        UpgradeKind::Leafnode
    } else if path.ends_with("/mqtt") {
        UpgradeKind::Mqtt
    } else {
        UpgradeKind::Client
    }
}

/// The points of RFC 6455 section 4.2.1 in their order; returns the key.
fn check_handshake(request: &Request) -> Result<&str, Refusal> {
    if request.method != "GET" {
        return refuse(405, "request method must be GET");
    }
    if request.header("host").is_none_or(str::is_empty) {
        return refuse(400, "'Host' missing in request");
    }
    if !request.lists("upgrade", "websocket") {
        return refuse(400, "invalid value for header 'Upgrade'");
    }
    if !request.lists("connection", "Upgrade") {
        return refuse(400, "invalid value for header 'Connection'");
    }
    let key = request.header("sec-websocket-key").unwrap_or_default();
    if key.is_empty() {
        return refuse(400, "key missing");
    }
    if STANDARD.decode(key).map_or(0, |key| key.len()) != 16 {
        return refuse(400, "invalid websocket key");
    }
    if !request.lists("sec-websocket-version", "13") {
        return refuse(400, "invalid version");
    }
    Ok(key)
}

fn offers_deflate(request: &Request) -> bool {
    let is_deflate = |part: &str| part.trim_matches([' ', '\t']).eq_ignore_ascii_case("permessage-deflate");
    request.values("sec-websocket-extensions").any(|value| value.split([',', ';']).any(is_deflate))
}

fn cookies(request: &Request, names: &CookieNames) -> Cookies {
    let value = |name: &Option<String>| request.cookie(name.as_deref()?).filter(|value| !value.is_empty());
    Cookies {
        jwt: value(&names.jwt),
        user: value(&names.user),
        password: value(&names.password),
        token: value(&names.token),
    }
}

fn response(key: &str, compresses: bool, no_masking: bool, kind: UpgradeKind, headers: &str) -> String {
    let mut text = format!(
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Accept: {}\r\n",
        accept_key(key)
    );
    if compresses {
        text.push_str(
            "Sec-WebSocket-Extensions: permessage-deflate; server_no_context_takeover; \
             client_no_context_takeover\r\n",
        );
    }
    if no_masking {
        text.push_str("Nats-No-Masking: true\r\n");
    }
    if kind == UpgradeKind::Mqtt {
        text.push_str("Sec-Websocket-Protocol: mqtt\r\n");
    }
    text.push_str(headers);
    text.push_str("\r\n");
    text
}

fn accept_key(key: &str) -> String {
    let mut digest = Sha1::new();
    digest.update(key.as_bytes());
    digest.update(GUID);
    STANDARD.encode(digest.finalize())
}

#[cfg(test)]
mod tests {
    use super::super::request::{ParsedRequest, parse_request};
    use super::*;

    const GOOD: &str = "GET / HTTP/1.1\r\nHost: h\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
        Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n";

    fn judged(text: &str, rules: &UpgradeRules) -> Result<Upgrade, Refusal> {
        let ParsedRequest::Complete(request, _) = parse_request(format!("{text}\r\n").as_bytes()) else {
            panic!("a request")
        };
        judge(&request, rules)
    }

    #[test]
    fn a_good_request_is_answered_with_the_key_of_the_rfc() {
        let upgrade = judged(GOOD, &UpgradeRules::default()).expect("granted");
        assert!(upgrade.response.contains("Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n"));
        assert!(upgrade.frames.masks && !upgrade.frames.compresses && !upgrade.frames.is_browser);
    }

    #[test]
    fn what_is_missing_or_wrong_is_refused_with_its_status() {
        let cases = [
            (GOOD.replace("GET", "POST"), 405, "request method must be GET"),
            (GOOD.replace("Upgrade: websocket", "Upgrade: h2c"), 400, "invalid value for header 'Upgrade'"),
            (
                GOOD.replace("Connection: Upgrade", "Connection: x"),
                400,
                "invalid value for header 'Connection'",
            ),
            (GOOD.replace("Sec-WebSocket-Key", "X"), 400, "key missing"),
            (GOOD.replace("dGhl", "d"), 400, "invalid websocket key"),
            (GOOD.replace(": 13", ": 12"), 400, "invalid version"),
            (GOOD.replace("GET /", "GET /mqtt"), 404, "mqtt websocket endpoint not enabled"),
        ];
        for (text, status, reason) in cases {
            let refusal = judged(&text, &UpgradeRules::default()).expect_err("refused");
            assert_eq!((refusal.status, refusal.reason.as_str()), (status, reason));
        }
    }

    #[test]
    fn what_is_offered_is_agreed_on() {
        let rules = UpgradeRules {
            compression: true,
            cookies: CookieNames { jwt: Some("j".into()), ..CookieNames::default() },
            headers: "X-Y: z\r\n".into(),
            ..UpgradeRules::default()
        };
        let text = format!(
            "{GOOD}Sec-WebSocket-Extensions: foo, permessage-deflate; client_max_window_bits\r\n\
             User-Agent: Mozilla/5.0 Version/1 Safari/2\r\nCookie: j=token\r\nX-Forwarded-For: 192.0.2.7\r\n\
             Nats-No-Masking: true\r\n"
        );
        let upgrade = judged(&text, &rules).expect("granted");
        assert!(upgrade.response.contains("permessage-deflate; server_no_context_takeover"));
        assert!(upgrade.response.ends_with("Nats-No-Masking: true\r\nX-Y: z\r\n\r\n"));
        assert!(upgrade.frames.compresses && upgrade.frames.keeps_compressed_whole && !upgrade.frames.masks);
        assert_eq!(upgrade.cookies.jwt.as_deref(), Some("token"));
        assert_eq!(upgrade.forwarded_for, "192.0.2.7".parse().ok());
    }
}
