//! Subjects: matching, its indexes, transforms.

use std::collections::BTreeSet;
use std::ops::ControlFlow;

use weir_subject::{
    Entries, SubjectTable, Transform, Trie, is_subset, is_valid_literal, is_valid_subject, matches, overlaps,
    tokenize, untokenize, validate_mapping,
};

/// Patterns and literals, one a line: the trie and the table find exactly what matches.
pub(crate) fn subjects(data: &[u8]) {
    let lines: Vec<&[u8]> = data.split(|byte| *byte == b'\n').take(16).collect();
    let patterns: Vec<&[u8]> = lines.iter().copied().filter(|line| is_valid_subject(line)).collect();
    let literals: Vec<&[u8]> = patterns.iter().copied().filter(|line| is_valid_literal(line)).collect();
    let mut trie = Trie::new();
    for (number, pattern) in patterns.iter().enumerate() {
        trie.insert(pattern, None, number);
    }
    for literal in &literals {
        let expected = patterns.iter().filter(|pattern| matches(pattern, literal)).count();
        let mut found = 0;
        trie.for_each_match(literal, |entries| {
            if let Entries::Plain(plain) = entries {
                found += plain.len();
            }
        });
        assert_eq!(found, expected, "{:?}", String::from_utf8_lossy(literal));
    }
    table(&patterns, &literals);
    for one in &patterns {
        assert!(is_subset(one, one) && overlaps(one, one));
        for other in &patterns {
            assert_eq!(overlaps(one, other), overlaps(other, one));
            if is_subset(one, other) {
                assert!(overlaps(one, other));
                for literal in literals.iter().filter(|literal| matches(one, literal)) {
                    assert!(matches(other, literal));
                }
            }
        }
    }
}

/// Literals are put into a table and half of them taken out: patterns find what is left, in order.
fn table(patterns: &[&[u8]], literals: &[&[u8]]) {
    let mut table = SubjectTable::new();
    let mut model: BTreeSet<&[u8]> = literals.iter().copied().collect();
    for literal in &model {
        assert!(table.insert(literal, literal.len()).is_ok());
    }
    for _ in 0..2 {
        for pattern in patterns {
            let mut found = Vec::new();
            let _: ControlFlow<()> = table.for_each_match(pattern, |subject, _, length| {
                assert_eq!(subject.len(), *length);
                found.push(subject.to_vec());
                ControlFlow::Continue(())
            });
            let expected: Vec<_> =
                model.iter().copied().filter(|literal| matches(pattern, literal)).collect();
            assert_eq!(found, expected, "{:?}", String::from_utf8_lossy(pattern));
        }
        for literal in literals.iter().step_by(2) {
            let number = table.find(literal);
            assert_eq!(number.is_some(), model.remove(literal));
            assert_eq!(number.and_then(|number| table.remove(number)).is_some(), number.is_some());
        }
    }
}

/// Source, destination and subject, one a line.
pub(crate) fn transform(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    let mut lines = text.split('\n');
    let (source, destination) = (lines.next().unwrap_or_default(), lines.next().unwrap_or_default());
    let subject = lines.next().unwrap_or_default().as_bytes();
    let _ = (validate_mapping(source, destination), tokenize(source), untokenize(destination));
    for transform in [Transform::new(source, destination), Transform::new_reversible(source, destination)] {
        let Ok(transform) = transform else { continue };
        if !is_valid_literal(subject) || subject.len() > 256 {
            continue;
        }
        let _ = transform.reverse();
        let made = transform.transform(subject, || 7);
        if matches(source.as_bytes(), subject) {
            assert_eq!(made.as_deref(), Some(&transform.apply(subject, || 7)[..]));
        }
    }
}
