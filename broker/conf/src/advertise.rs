//! Addresses that others are told of: `host:port`, or a host alone. Not addresses to listen on, not URLs.

/// Splits an address that is advertised. The port is `None` where the server's own is meant: without one, with 0, with -1.
///
/// # Errors
/// In the words of Go's `net` and `strconv`, as nats-server shows them; a port that no address can have is refused too.
pub fn advertised(text: &str) -> Result<(String, Option<u16>), String> {
    let found = match split(text) {
        Err(MISSING_PORT) => split(&format!("{text}:0")),
        found => found,
    };
    let (host, port) = found.map_err(|why| format!("address {text}: {why}"))?;
    let port = match port.trim() {
        "0" | "-1" => None,
        digits => {
            Some(digits.parse().map_err(|_| format!("strconv.Atoi: parsing {digits:?}: {}", fault(digits)))?)
        }
    };
    Ok((host.trim().to_owned(), port))
}

const MISSING_PORT: &str = "missing port in address";
const TOO_MANY_COLONS: &str = "too many colons in address";

fn fault(digits: &str) -> &'static str {
    if digits.parse::<i64>().is_ok() { "value out of range" } else { "invalid syntax" }
}

/// Host and port, both as they stand there but for the brackets of an IPv6 address.
fn split(text: &str) -> Result<(String, String), &'static str> {
    let (before, port) = text.rsplit_once(':').ok_or(MISSING_PORT)?;
    let host = match text.strip_prefix('[') {
        None if before.contains(':') => return Err(TOO_MANY_COLONS),
        None => before,
        Some(rest) => {
            let (host, behind) = rest.split_once(']').ok_or("missing ']' in address")?;
            match behind.strip_prefix(':') {
                Some(found) if found.len() == port.len() => host,
                Some(_) => return Err(TOO_MANY_COLONS),
                None => return Err(MISSING_PORT),
            }
        }
    };
    if host.contains('[') || port.contains('[') {
        return Err("unexpected '[' in address");
    }
    if host.contains(']') || port.contains(']') {
        return Err("unexpected ']' in address");
    }
    Ok((host.to_owned(), port.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_alone_stands_for_the_servers_own_port() {
        for (text, host, port) in [
            ("example.org:77", "example.org", Some(77)),
            ("example.org", "example.org", None),
            ("example.org:0", "example.org", None),
            ("example.org:-1", "example.org", None),
            ("[::1]:77", "::1", Some(77)),
            ("[::1]", "::1", None),
            (" example.org : 77", "example.org", Some(77)),
            (":77", "", Some(77)),
        ] {
            assert_eq!(advertised(text), Ok((host.to_owned(), port)), "{text}");
        }
    }

    #[test]
    fn what_is_no_address_is_refused_in_gos_words() {
        for (text, why) in [
            ("a:b:c", "address a:b:c: too many colons in address"),
            ("::1", "address ::1: too many colons in address"),
            ("[::1", "address [::1: missing ']' in address"),
            ("[::1]:1:2", "address [::1]:1:2: too many colons in address"),
            ("a]:1", "address a]:1: unexpected ']' in address"),
            ("a[:1", "address a[:1: unexpected '[' in address"),
            ("a:port", "strconv.Atoi: parsing \"port\": invalid syntax"),
            ("a:", "strconv.Atoi: parsing \"\": invalid syntax"),
            ("a:65536", "strconv.Atoi: parsing \"65536\": value out of range"),
        ] {
            assert_eq!(advertised(text), Err(why.to_owned()), "{text}");
        }
    }
}
