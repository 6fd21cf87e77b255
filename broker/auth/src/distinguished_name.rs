//! Distinguished names (RFC 4514) and when two are the same. Not certificates.

/// A name: its parts, the most special first.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DistinguishedName(pub Vec<Part>);

/// One part; several attributes when they are joined by `+`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Part(pub Vec<Attribute>);

/// A type and its value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attribute {
    /// `CN`, `O` and so on; case does not matter.
    pub kind: String,
    /// The value.
    pub value: String,
}

impl DistinguishedName {
    /// Reads `CN=a,O=b+OU=c`; `None` when it is not of that form.
    pub fn parse(text: &str) -> Option<Self> {
        let mut reader = Reader::default();
        let mut bytes = text.bytes().peekable();
        while let Some(byte) = bytes.next() {
            match byte {
                b'\\' => {
                    let escaped = bytes.next()?;
                    if b" \"#+,;<=>\\".contains(&escaped) {
                        reader.keep(escaped);
                    } else {
                        let high = char::from(escaped).to_digit(16)?;
                        let low = char::from(bytes.next()?).to_digit(16)?;
                        reader.keep(u8::try_from(high * 16 + low).ok()?);
                    }
                }
                b'=' => {
                    reader.kind = reader.take()?;
                    if bytes.peek() == Some(&b'#') {
                        return None;
                    }
                }
                b',' | b'+' => {
                    reader.end_attribute()?;
                    if byte == b',' {
                        reader.end_part();
                    }
                }
                b' ' if reader.buffer.is_empty() => {}
                b' ' => {
                    reader.buffer.push(byte);
                    reader.trailing_blanks += 1;
                }
                _ => reader.keep(byte),
            }
        }
        if !reader.buffer.is_empty() {
            reader.end_attribute()?;
            reader.end_part();
        }
        Some(Self(reader.parts))
    }

    /// Whether both have the same parts in the same order.
    pub fn matches(&self, other: &Self) -> bool {
        self.0.len() == other.0.len() && self.0.iter().zip(&other.0).all(|(one, two)| one.matches(two))
    }

    /// Whether both have the same parts in any order.
    pub fn matches_reordered(&self, other: &Self) -> bool {
        let mut left: Vec<&Part> = other.0.iter().collect();
        self.0.len() == other.0.len()
            && self.0.iter().all(|part| {
                let found = left.iter().position(|candidate| part.matches(candidate));
                found.map(|at| left.swap_remove(at)).is_some()
            })
    }
}

impl Part {
    fn matches(&self, other: &Self) -> bool {
        let covers = |one: &Self, two: &Self| one.0.iter().all(|a| two.0.iter().any(|b| a.matches(b)));
        self.0.len() == other.0.len() && covers(self, other) && covers(other, self)
    }
}

impl Attribute {
    fn matches(&self, other: &Self) -> bool {
        self.kind.eq_ignore_ascii_case(&other.kind) && self.value == other.value
    }
}

#[derive(Default)]
struct Reader {
    buffer: Vec<u8>,
    trailing_blanks: usize,
    kind: String,
    attributes: Vec<Attribute>,
    parts: Vec<Part>,
}

impl Reader {
    fn keep(&mut self, byte: u8) {
        self.buffer.push(byte);
        self.trailing_blanks = 0;
    }

    fn take(&mut self) -> Option<String> {
        let length = self.buffer.len().saturating_sub(self.trailing_blanks);
        self.trailing_blanks = 0;
        let mut bytes = std::mem::take(&mut self.buffer);
        bytes.truncate(length);
        String::from_utf8(bytes).ok()
    }

    fn end_attribute(&mut self) -> Option<()> {
        let kind = std::mem::take(&mut self.kind);
        if kind.is_empty() {
            return None;
        }
        let value = self.take()?;
        self.attributes.push(Attribute { kind, value });
        Some(())
    }

    fn end_part(&mut self) {
        self.parts.push(Part(std::mem::take(&mut self.attributes)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> DistinguishedName {
        DistinguishedName::parse(text).expect("a name")
    }

    #[test]
    fn order_of_parts_and_case_of_types() {
        assert!(name("CN=www,OU=a+O=b").matches(&name("cn=www, O=b+ou=a")));
        assert!(!name("CN=www,O=a").matches(&name("O=a,CN=www")));
        assert!(name("CN=www,O=a").matches_reordered(&name("O=a,CN=www")));
        assert!(!name("CN=www,O=a").matches_reordered(&name("O=a,CN=WWW")));
        assert!(!name("DC=a,DC=a").matches_reordered(&name("DC=a,DC=b")));
    }

    #[test]
    fn escapes_and_blanks() {
        assert_eq!(name("CN=a\\,b\\20").0[0].0[0].value, "a,b ");
        assert_eq!(name(" CN = a b  ,O=x").0[0].0[0], Attribute { kind: "CN".into(), value: "a b".into() });
    }

    #[test]
    fn what_is_no_name_is_refused() {
        for bad in ["alice", "a,b", "CN=a\\", "CN=a\\4", "CN=#0401", ",", "=a"] {
            assert!(DistinguishedName::parse(bad).is_none(), "{bad}");
        }
    }
}
