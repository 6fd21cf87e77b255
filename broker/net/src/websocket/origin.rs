//! Which Origins a WebSocket is opened for, as nats-server judges. Not the rest of the upgrade.

/// An origin that was allowed, taken apart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AllowedOrigin {
    scheme: String,
    host: String,
    port: String,
}

impl AllowedOrigin {
    /// Takes an absolute URL apart; the error is nats-server's.
    pub fn parse(text: &str) -> Result<Self, String> {
        let url = Parts::of(text).map_err(|reason| format!("unable to parse allowed origin: {reason}"))?;
        let refuse = |reason: &str| Err(format!("unable to parse allowed origin {text:?}: {reason}"));
        if url.scheme != "http" && url.scheme != "https" {
            return refuse("allowed origins must be absolute URLs with http or https scheme");
        }
        if url.authority.is_empty() {
            return refuse("host is required");
        }
        let (host, port) = host_and_port(url.scheme == "https", url.authority)
            .map_err(|reason| format!("unable to parse allowed origin: {reason}"))?;
        Ok(Self { scheme: url.scheme, host, port })
    }
}

/// The rules of one listener.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct OriginRules {
    /// The Origin has to be the request's own host.
    pub same_origin: bool,
    /// The Origin has to be one of these; empty allows all.
    pub allowed: Vec<AllowedOrigin>,
}

impl OriginRules {
    /// Judges the Origin of a request to `host`; the error goes into the log.
    pub fn judge(&self, origin: Option<&str>, host: &str, over_tls: bool) -> Result<(), String> {
        if !self.same_origin && self.allowed.is_empty() {
            return Ok(());
        }
        // Without an Origin it is no browser, and could claim any.
        let Some(origin) = origin.filter(|origin| !origin.is_empty()) else { return Ok(()) };
        let url = Parts::of(origin)?;
        let (origin_host, origin_port) = host_and_port(url.scheme == "https", url.authority)?;
        if self.same_origin {
            let (own_host, own_port) = host_and_port(over_tls, host)?;
            let own_scheme = if over_tls { "https" } else { "http" };
            if origin_host != own_host || origin_port != own_port || url.scheme != own_scheme {
                return Err("not same origin".to_owned());
            }
        }
        let is_listed = |allowed: &AllowedOrigin| {
            allowed.host == origin_host && allowed.scheme == url.scheme && allowed.port == origin_port
        };
        if !self.allowed.is_empty() && !self.allowed.iter().any(is_listed) {
            return Err("not in the allowed list".to_owned());
        }
        Ok(())
    }
}

struct Parts<'a> {
    scheme: String,
    authority: &'a str,
}

impl<'a> Parts<'a> {
    fn of(text: &'a str) -> Result<Self, String> {
        let invalid = || format!("parse {text:?}: invalid URI for request");
        if text.bytes().any(|byte| byte < 0x20 || byte == 0x7F) {
            return Err(format!("parse {text:?}: net/url: invalid control character in URL"));
        }
        if text.starts_with('/') {
            return Ok(Self { scheme: String::new(), authority: "" });
        }
        let (scheme, rest) = text.split_once(':').ok_or_else(invalid)?;
        let is_scheme = scheme.starts_with(|first: char| first.is_ascii_alphabetic())
            && scheme.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"+-.".contains(&byte));
        if !is_scheme || !rest.starts_with('/') {
            return Err(invalid());
        }
        let authority = rest.strip_prefix("//").unwrap_or("");
        let end = authority.find(['/', '?', '#']).unwrap_or(authority.len());
        let authority = authority.get(..end).unwrap_or_default();
        let authority = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
        Ok(Self { scheme: scheme.to_ascii_lowercase(), authority })
    }
}

/// Host in lower case and port, which follows from the scheme when it is not written.
fn host_and_port(over_tls: bool, authority: &str) -> Result<(String, String), String> {
    let default = if over_tls { "443" } else { "80" };
    let lower = |host: &str| host.to_ascii_lowercase();
    if let Some(rest) = authority.strip_prefix('[') {
        let (host, rest) =
            rest.split_once(']').ok_or_else(|| format!("address {authority}: missing ']' in address"))?;
        return match rest.strip_prefix(':') {
            Some(port) => Ok((lower(host), port.to_owned())),
            // As in nats-server, the brackets stay when there is no port.
            None => Ok((lower(authority), default.to_owned())),
        };
    }
    match authority.split_once(':') {
        None => Ok((lower(authority), default.to_owned())),
        Some((_, port)) if port.contains(':') => {
            Err(format!("address {authority}: too many colons in address"))
        }
        Some((host, port)) => Ok((lower(host), port.to_owned())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rules(same_origin: bool, allowed: &[&str]) -> OriginRules {
        let allowed = allowed.iter().map(|text| AllowedOrigin::parse(text).expect("valid")).collect();
        OriginRules { same_origin, allowed }
    }

    #[test]
    fn origins_are_judged_by_host_port_and_scheme() {
        let same = rules(true, &[]);
        let judge = |origin: &str| same.judge(Some(origin), "Example.com:80", false);
        assert_eq!(judge("http://example.com"), Ok(()));
        assert_eq!(judge("http://EXAMPLE.com:80/path"), Ok(()));
        for other in ["https://example.com:80", "http://example.com:81", "http://example.org"] {
            assert_eq!(judge(other), Err("not same origin".to_owned()), "{other}");
        }
        assert_eq!(judge("null"), Err("parse \"null\": invalid URI for request".to_owned()));
        assert_eq!(same.judge(None, "example.com", false), Ok(()));
        assert_eq!(same.judge(Some("https://example.com"), "example.com", true), Ok(()));
    }

    #[test]
    fn origins_are_looked_up_in_the_list() {
        let listed = rules(false, &["http://one.test", "https://two.test:8443"]);
        let judge = |origin: &str| listed.judge(Some(origin), "anything", false);
        assert_eq!(judge("http://one.test:80"), Ok(()));
        assert_eq!(judge("https://two.test:8443"), Ok(()));
        assert_eq!(judge("https://one.test"), Err("not in the allowed list".to_owned()));
        assert_eq!(judge("https://two.test"), Err("not in the allowed list".to_owned()));
        assert!(rules(false, &[]).judge(Some("null"), "x", false).is_ok());
    }

    #[test]
    fn what_cannot_be_allowed_is_refused() {
        assert!(AllowedOrigin::parse("ftp://a").is_err());
        assert!(AllowedOrigin::parse("http://").is_err());
        assert!(AllowedOrigin::parse("one.test").is_err());
    }
}
