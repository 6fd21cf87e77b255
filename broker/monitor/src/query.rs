//! Query parameters, read and complained about as Go does.

use std::{
    collections::BTreeMap,
    num::{IntErrorKind, ParseIntError},
};

/// The parameters of one request.
#[derive(Debug, Clone, Default)]
pub(crate) struct Query(BTreeMap<String, String>);

/// A complaint: sent as plain text with status 400.
pub(crate) type Refused = String;

impl Query {
    /// Of several equal parameters the first counts. What only requests over the system account can say is left out.
    pub(crate) fn new(pairs: impl IntoIterator<Item = (String, String)>) -> Self {
        let mut map = BTreeMap::new();
        const REQUESTS_ONLY: [&str; 3] = ["filter_subject", "state-number", "subs-detail"];
        for (key, value) in pairs.into_iter().filter(|(key, _)| !REQUESTS_ONLY.contains(&key.as_str())) {
            map.entry(key).or_insert(value);
        }
        Self(map)
    }

    pub(crate) fn set(&mut self, key: &str, value: String) {
        self.0.insert(key.to_owned(), value);
    }

    /// Not empty.
    pub(crate) fn text(&self, key: &str) -> Option<&str> {
        self.0.get(key).map(String::as_str).filter(|text| !text.is_empty())
    }

    pub(crate) fn boolean(&self, key: &str) -> Result<bool, Refused> {
        match self.text(key) {
            None | Some("0" | "f" | "F" | "false" | "FALSE" | "False") => Ok(false),
            Some("1" | "t" | "T" | "true" | "TRUE" | "True") => Ok(true),
            Some(other) => Err(format!(
                "Error decoding boolean for '{key}': strconv.ParseBool: parsing {other:?}: invalid syntax"
            )),
        }
    }

    /// An integer, 0 when it is not given.
    pub(crate) fn integer(&self, key: &str) -> Result<i64, Refused> {
        let Some(text) = self.text(key) else { return Ok(0) };
        text.parse().map_err(|error| {
            let reason = reason(&error);
            format!("Error decoding int for '{key}': strconv.Atoi: parsing {text:?}: {reason}")
        })
    }

    pub(crate) fn unsigned(&self, key: &str) -> Result<u64, Refused> {
        let Some(text) = self.text(key) else { return Ok(0) };
        text.parse().map_err(|error| {
            let reason = reason(&error);
            format!("Error decoding uint64 for '{key}': strconv.ParseUint: parsing {text:?}: {reason}")
        })
    }

    /// `offset` and `limit`, with nats-server's defaults.
    pub(crate) fn page(&self) -> Result<Page, Refused> {
        const LIMIT_DEFAULT: usize = 1024;
        let offset = usize::try_from(self.integer("offset")?).unwrap_or(0);
        let limit = usize::try_from(self.integer("limit")?).unwrap_or(0);
        Ok(Page { offset, limit: if limit == 0 { LIMIT_DEFAULT } else { limit } })
    }
}

/// Go's words for why a text is no number.
fn reason(error: &ParseIntError) -> &'static str {
    match error.kind() {
        IntErrorKind::PosOverflow | IntErrorKind::NegOverflow => "value out of range",
        _ => "invalid syntax",
    }
}

/// A part of a list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Page {
    pub(crate) offset: usize,
    pub(crate) limit: usize,
}

impl Page {
    pub(crate) fn of<T>(self, items: Vec<T>) -> Vec<T> {
        items.into_iter().skip(self.offset).take(self.limit).collect()
    }
}
