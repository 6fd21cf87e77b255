//! The table against an ordered map, and what it costs.

use std::collections::BTreeMap;
use std::ops::ControlFlow;

use proptest::prelude::*;

use super::*;

fn found(table: &SubjectTable<u32>, pattern: &str) -> Vec<String> {
    let mut subjects = Vec::new();
    let _: ControlFlow<()> = table.for_each_match(pattern.as_bytes(), |subject, number, value| {
        assert_eq!(table.name(number), Some(subject));
        assert_eq!(table.value(number), Some(value));
        subjects.push(String::from_utf8_lossy(subject).into_owned());
        ControlFlow::Continue(())
    });
    subjects
}

fn all(table: &SubjectTable<u32>) -> Vec<(String, u32)> {
    let mut all = Vec::new();
    table.for_each(|subject, _, value| all.push((String::from_utf8_lossy(subject).into_owned(), *value)));
    all
}

/// Every node leads to two things at least, and their keys are in order.
fn check_nodes(table: &SubjectTable<u32>) {
    let mut open = vec![(table.root, 0)];
    while let Some((link, above)) = open.pop() {
        let Target::Node(address) = link.target() else { continue };
        let node = table.nodes.get(address);
        assert!(node.depth() >= above);
        assert!(node.count() + usize::from(node.end() != Link::NOTHING) >= 2, "a node without a purpose");
        open.extend(node.children().map(|child| (child, node.depth() + 1)));
    }
}

#[test]
fn wildcard_queries_visit_in_byte_order() {
    let mut table = SubjectTable::new();
    for (id, subject) in (0..).zip(["orders.new", "orders.old", "orders", "orders.new.eu", "other.new"]) {
        table.insert(subject.as_bytes(), id).expect("there is room");
    }
    assert_eq!(found(&table, "orders.*"), ["orders.new", "orders.old"]);
    assert_eq!(found(&table, "orders.>"), ["orders.new", "orders.new.eu", "orders.old"]);
    assert_eq!(found(&table, "*.new"), ["orders.new", "other.new"]);
    assert_eq!(found(&table, "orders"), ["orders"]);
    assert_eq!(found(&table, ">").len(), 5);
    assert_eq!(found(&table, "*"), ["orders"]);
}

#[test]
fn a_visitor_can_stop() {
    let mut table = SubjectTable::new();
    table.insert(b"a.1", 1).expect("there is room");
    table.insert(b"a.2", 2).expect("there is room");
    let stopped = table.for_each_match(b"a.*", |_, _, value| ControlFlow::Break(*value));
    assert_eq!(stopped, ControlFlow::Break(1));
}

#[test]
fn what_finds_no_place_is_refused_and_changes_nothing() {
    let mut table = SubjectTable::new();
    let long = vec![b'a'; NAME_BYTES_MAX + 1];
    assert_eq!(table.insert(&long, 1), Err(Refused::TooLong { limit: NAME_BYTES_MAX }));
    assert_eq!(table.insert_as(SubjectTable::<u32>::NUMBERS, b"a", 1), Err(Refused::Full));
    assert_eq!(table.insert_as(7, b"a", 1), Ok(()));
    assert_eq!(table.insert_as(7, b"b", 1), Err(Refused::Taken));
    assert_eq!(table.insert_as(8, b"a", 1), Err(Refused::Taken));
    assert_eq!((all(&table), table.len()), (vec![("a".to_owned(), 1)], 1));
    let longest = &long[..NAME_BYTES_MAX];
    let numbers: Vec<u32> =
        [longest, &long[1..NAME_BYTES_MAX]].map(|name| table.insert(name, 2).expect("there is room")).into();
    assert_eq!(table.find(longest), Some(numbers[0]));
    assert_eq!(table.remove(numbers[0]), Some(2));
    assert_eq!(table.find(&long[1..NAME_BYTES_MAX]), Some(numbers[1]));
}

#[test]
fn a_number_far_beyond_the_others_takes_little_room_for_those_in_between() {
    let mut table = SubjectTable::new();
    table.insert_as(3, b"near", 1).expect("there is room");
    table.insert_as(100_000_000, b"far", 2).expect("there is room");
    assert!(table.heap_bytes() < 8 << 20, "{} bytes", table.heap_bytes());
    for number in 0..70_000 {
        table.insert(format!("s{number}").as_bytes(), 0).expect("there is room");
    }
    assert_eq!((table.name(100_000_000), table.name(3)), (Some(&b"far"[..]), Some(&b"near"[..])));
    assert_eq!(table.len(), 70_002);
}

#[test]
fn every_byte_can_tell_subjects_apart() {
    let mut table = SubjectTable::new();
    let mut numbers = Vec::new();
    for byte in (0..=255u8).rev() {
        numbers.push(table.insert(&[b'a', byte, b'z'], u32::from(byte)).expect("there is room"));
    }
    for byte in 0..=255u8 {
        assert_eq!(table.get(&[b'a', byte, b'z']).map(|found| *found.1), Some(u32::from(byte)));
    }
    for (removed, number) in numbers.iter().enumerate() {
        assert_eq!(table.remove(*number), u32::try_from(255 - removed).ok());
        check_nodes(&table);
    }
    assert!(table.is_empty());
}

const MILLION: u32 = 1_000_000;

#[test]
fn a_million_subjects_cost_little_and_give_it_back() {
    let subject = |at: u32| format!("kv.key.{}", u64::from(at) * 7_919 % u64::from(MILLION));
    let mut table = SubjectTable::<[u32; 5]>::new();
    for at in 0..MILLION {
        assert_eq!(table.insert(subject(at).as_bytes(), [at; 5]), Ok(at));
    }
    let per_subject = table.heap_bytes() / MILLION as usize;
    assert!(per_subject < 56, "{per_subject} bytes a subject");
    for at in (0..MILLION).step_by(9_973) {
        assert_eq!(table.get(subject(at).as_bytes()), Some((at, &[at; 5])));
    }
    // All but a hundredth go, in runs, which are spread over the tree.
    for at in (0..MILLION).filter(|at| at / 1_000 % 100 != 0) {
        assert_eq!(table.remove(at), Some([at; 5]));
    }
    assert_eq!(table.len(), MILLION as usize / 100);
    let (left, fresh) = (table.heap_bytes(), per_subject * table.len());
    assert!(left < fresh * 3, "{left} bytes stay for what needs {fresh}");
    let mut last = Vec::new();
    table.for_each(|name, number, _| {
        assert!(last.as_slice() < name && name == subject(number).as_bytes());
        last = name.to_vec();
    });
    for at in (0..MILLION).filter(|at| at / 1_000 % 100 == 0) {
        assert_eq!(table.find(subject(at).as_bytes()), Some(at));
        table.remove(at);
    }
    assert_eq!((table.len(), table.heap_bytes()), (0, 0));
}

#[test]
fn subjects_that_come_and_go_take_no_more_room_in_the_end() {
    let mut table = SubjectTable::new();
    let mut held = std::collections::VecDeque::new();
    for round in 0..200_000_u32 {
        // One in a thousand stays.
        let number =
            table.insert(format!("orders.{round:x}.created").as_bytes(), round).expect("there is room");
        if round % 1_000 != 0 {
            held.push_back(number);
        }
        if held.len() > 100 {
            table.remove(held.pop_front().expect("some are held"));
        }
    }
    check_nodes(&table);
    assert!(table.numbers_end() <= 1_024, "numbers are given again");
    assert!(table.heap_bytes() < 256 << 10, "{} bytes for {}", table.heap_bytes(), table.len());
}

proptest! {
    #[test]
    fn the_table_agrees_with_an_ordered_map(
        steps in prop::collection::vec(
            ("[ab]{1,3}(\\.[a-h]{1,2}){0,2}(\\.[a-z]{40})?", any::<bool>(), 0u32..9), 0..120),
        pattern in "([ab]{1,3}|\\*)(\\.([ab]{1,2}|\\*)){0,2}(\\.>)?",
    ) {
        let mut table = SubjectTable::new();
        let mut model = BTreeMap::new();
        for (subject, insert, value) in steps {
            let number = table.find(subject.as_bytes());
            prop_assert_eq!(number.is_some(), model.contains_key(&subject));
            match (insert, number) {
                (true, None) => {
                    let number = table.insert(subject.as_bytes(), value).expect("there is room");
                    prop_assert_eq!(table.name(number), Some(subject.as_bytes()));
                    model.insert(subject.clone(), value);
                }
                (true, Some(_)) => prop_assert_eq!(table.insert(subject.as_bytes(), value), Err(Refused::Taken)),
                (false, Some(number)) => {
                    prop_assert_eq!(table.remove(number), model.remove(&subject));
                    prop_assert_eq!(table.name(number), None);
                }
                (false, None) => {
                    // Any other goes instead, so that removals are as frequent as additions.
                    let first = model.pop_first();
                    let number = first.as_ref().and_then(|(first, _)| table.find(first.as_bytes()));
                    prop_assert_eq!(number.and_then(|number| table.remove(number)), first.map(|first| first.1));
                }
            }
            prop_assert_eq!(table.get(subject.as_bytes()).map(|found| *found.1), model.get(&subject).copied());
            prop_assert_eq!(table.len(), model.len());
        }
        check_nodes(&table);
        let expected: Vec<String> = model.keys()
            .filter(|subject| crate::matches(pattern.as_bytes(), subject.as_bytes()))
            .cloned().collect();
        prop_assert_eq!(found(&table, &pattern), expected);
        prop_assert_eq!(all(&table), model.into_iter().collect::<Vec<_>>());
    }

    #[test]
    fn numbers_that_are_given_from_outside_are_kept(
        numbers in prop::collection::btree_set(0u32..3_000, 1..60),
        removed in prop::collection::vec(any::<prop::sample::Index>(), 0..40),
    ) {
        let mut table = SubjectTable::new();
        let mut model: BTreeMap<u32, String> = numbers.iter().map(|number| (*number, format!("n.{number}"))).collect();
        for (number, name) in &model {
            table.insert_as(*number, name.as_bytes(), *number).expect("there is room");
        }
        for (round, choice) in removed.into_iter().enumerate() {
            let number = *choice.get(&model.keys().copied().collect::<Vec<_>>());
            prop_assert_eq!(table.remove(number), Some(number));
            model.remove(&number);
            let name = format!("again.{round}");
            let number = table.insert(name.as_bytes(), 0).expect("there is room");
            prop_assert!(!model.contains_key(&number), "number {number} was given twice");
            table.remove(number);
            table.insert_as(number, name.as_bytes(), number).expect("there is room");
            model.insert(number, name);
        }
        for (number, name) in &model {
            prop_assert_eq!(table.name(*number), Some(name.as_bytes()));
            prop_assert_eq!(table.find(name.as_bytes()), Some(*number));
        }
    }
}
