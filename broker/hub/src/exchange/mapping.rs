//! An account's mappings: where publishes go instead. Not the language of destinations (weir-subject).

use crate::account_settings::{MappingConfig, MappingDestination};
use std::collections::{BTreeMap, BTreeSet};
use weir_subject::{Transform, has_wildcards, is_valid_subject, matches, tokenize, validate_mapping};

/// All mappings of an account, in the order they are tried.
#[derive(Debug, Default)]
pub(crate) struct Mappings {
    list: Vec<Mapping>,
}

#[derive(Debug)]
struct Mapping {
    source: Box<[u8]>,
    is_wild: bool,
    /// With the sum of the weights up to and including it, lowest weight first.
    destinations: Vec<(u32, Transform)>,
}

/// What a mapping made of a subject.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Mapped {
    /// No mapping is for it.
    Unchanged,
    /// Published there instead; empty when the weights lost it.
    To(Vec<u8>),
}

impl Mappings {
    /// Compiles mappings for a server of `cluster`; fails with nats-server's words.
    pub(super) fn new(settings: &[MappingConfig], cluster: Option<&str>) -> Result<Self, String> {
        let mut list: Vec<Mapping> = Vec::new();
        for mapping in settings {
            let compiled = Mapping::new(mapping, cluster)?;
            match list.iter_mut().find(|known| known.source == compiled.source) {
                Some(known) => *known = compiled,
                None => list.push(compiled),
            }
        }
        Ok(Self { list })
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// Where a message published to `subject` goes. `random` gives any number.
    pub(crate) fn map(&self, subject: &[u8], mut random: impl FnMut() -> u32) -> Mapped {
        let found = self.list.iter().find(|mapping| {
            if mapping.is_wild { matches(&mapping.source, subject) } else { *mapping.source == *subject }
        });
        let Some(mapping) = found else { return Mapped::Unchanged };
        let chosen = match mapping.destinations.as_slice() {
            [(100, only)] => Some(only),
            several => {
                let number = random() % 100;
                several.iter().find(|(limit, _)| number < *limit).map(|(_, transform)| transform)
            }
        };
        Mapped::To(chosen.map(|transform| transform.apply(subject, random)).unwrap_or_default())
    }
}

impl Mapping {
    fn new(settings: &MappingConfig, cluster: Option<&str>) -> Result<Self, String> {
        let source = settings.source.as_str();
        if !is_valid_subject(source.as_bytes()) {
            return Err("invalid subject".to_owned());
        }
        let mut seen = BTreeSet::new();
        let mut totals: BTreeMap<Option<&str>, u32> = BTreeMap::new();
        for destination in &settings.destinations {
            if !seen.insert(destination.subject.as_str()) {
                return Err(format!("duplicate entry for {:?}", destination.subject));
            }
            if destination.weight > 100 {
                return Err("individual weights need to be <= 100".to_owned());
            }
            let total = totals.entry(destination.cluster.as_deref()).or_default();
            *total += u32::from(destination.weight);
            if *total > 100 {
                return Err("total weight needs to be <= 100".to_owned());
            }
            validate_mapping(source, &destination.subject).map_err(|error| error.to_string())?;
        }
        let mut chosen = Vec::new();
        for wanted in [cluster, None] {
            if chosen.is_empty() {
                let is_wanted = |known: &&MappingDestination| known.cluster.as_deref() == wanted;
                chosen = settings.destinations.iter().filter(is_wanted).collect();
            }
        }
        Ok(Self {
            source: source.as_bytes().into(),
            is_wild: has_wildcards(source.as_bytes()),
            destinations: destinations(source, chosen, seen.contains(source))?,
        })
    }
}

fn destinations(
    source: &str,
    mut chosen: Vec<&MappingDestination>,
    names_source: bool,
) -> Result<Vec<(u32, Transform)>, String> {
    let compile = |to: &str| Transform::new(source, to).map_err(|error| error.to_string());
    let total: u32 = chosen.iter().map(|destination| u32::from(destination.weight)).sum();
    chosen.sort_by_key(|destination| destination.weight);
    let mut weighted = Vec::new();
    for destination in chosen {
        weighted.push((u32::from(destination.weight), compile(&destination.subject)?));
    }
    if total != 100 && !names_source {
        // What is left stays where it is, unless the source itself stands among the destinations: then it is lost.
        weighted.push((100 - total, compile(&tokenize(source))?));
        weighted.sort_by_key(|(weight, _)| *weight);
    }
    let mut sum = 0;
    for (weight, _) in &mut weighted {
        sum += *weight;
        *weight = sum;
    }
    Ok(weighted)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(source: &str, destinations: &[(&str, u8, Option<&str>)]) -> MappingConfig {
        let destinations = destinations.iter().map(|(subject, weight, cluster)| MappingDestination {
            subject: (*subject).to_owned(),
            weight: *weight,
            cluster: cluster.map(str::to_owned),
        });
        MappingConfig { source: source.to_owned(), destinations: destinations.collect() }
    }

    fn map(mappings: &Mappings, subject: &str, number: u32) -> Option<String> {
        match mappings.map(subject.as_bytes(), || number) {
            Mapped::Unchanged => None,
            Mapped::To(to) => Some(String::from_utf8(to).expect("utf-8")),
        }
    }

    #[test]
    fn weights_choose_among_destinations_and_the_rest_stays() {
        let mappings = [settings("foo.*", &[("bar.v1.$1", 40, None), ("baz.v2.$1", 20, None)])];
        let mappings = Mappings::new(&mappings, None).expect("valid");
        assert_eq!(map(&mappings, "foo.a", 0).as_deref(), Some("baz.v2.a"));
        assert_eq!(map(&mappings, "foo.a", 25).as_deref(), Some("bar.v1.a"));
        assert_eq!(map(&mappings, "foo.a", 99).as_deref(), Some("foo.a"));
        assert_eq!(map(&mappings, "other", 0), None);
    }

    #[test]
    fn what_a_named_source_leaves_over_is_lost() {
        let mappings = [settings("foo", &[("foo", 50, None)])];
        let mappings = Mappings::new(&mappings, None).expect("valid");
        assert_eq!(map(&mappings, "foo", 10).as_deref(), Some("foo"));
        assert_eq!(map(&mappings, "foo", 60).as_deref(), Some(""));
    }

    #[test]
    fn a_cluster_has_its_own_destinations() {
        let mappings = [settings("foo", &[("bar", 100, Some("east")), ("baz", 100, None)])];
        let here = |cluster| map(&Mappings::new(&mappings, cluster).expect("valid"), "foo", 0);
        assert_eq!(here(Some("east")).as_deref(), Some("bar"));
        assert_eq!(here(Some("west")).as_deref(), Some("baz"));
        assert_eq!(here(None).as_deref(), Some("baz"));
    }

    #[test]
    fn impossible_mappings_are_refused_in_the_words_of_nats_server() {
        let reason = |mapping| Mappings::new(&[mapping], None).map(drop).expect_err("refused");
        assert_eq!(reason(settings("foo", &[("a", 1, None), ("a", 2, None)])), "duplicate entry for \"a\"");
        assert_eq!(reason(settings("foo", &[("a", 101, None)])), "individual weights need to be <= 100");
        assert_eq!(
            reason(settings("foo", &[("a", 60, None), ("b", 60, None)])),
            "total weight needs to be <= 100"
        );
        assert_eq!(reason(settings("foo..", &[("a", 1, None)])), "invalid subject");
    }
}
