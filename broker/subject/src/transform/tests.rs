//! What nats-server's own tests say of transforms, as tables. Not the server's use of them.

use super::*;

fn apply(source: &str, destination: &str, subject: &str) -> Option<String> {
    let transform = Transform::new(source, destination).expect("a transform");
    transform.transform(subject.as_bytes(), || 0).map(|bytes| String::from_utf8(bytes).expect("utf-8"))
}

#[test]
fn what_is_no_transform_is_refused_with_its_reason() {
    let cases = [
        ("foo..", "bar", "invalid subject"),
        ("foo.*", "bar.*", "invalid subject"),
        ("foo.*", "bar.$2", "invalid mapping destination: wildcard index out of range in $2: [2]"),
        ("foo.*", "bar.$1.>", "invalid subject"),
        ("foo.>", "bar.baz", "invalid subject"),
        ("foo", "bar.>", "invalid subject"),
        ("foo", "", "invalid subject"),
        (
            "foo.*",
            "foo.{{wildcard(2)}}",
            "invalid mapping destination: wildcard index out of range in {{wildcard(2)}}: [2]",
        ),
        (
            "foo.*",
            "foo.{{unimplemented(1)}}",
            "invalid mapping destination: unknown function in {{unimplemented(1)}}",
        ),
        (
            "foo.*",
            "foo.{{partition()}}",
            "invalid mapping destination: function argument is invalid or in the wrong format in {{partition()}}",
        ),
        (
            "foo.*",
            "foo.{{random()}}",
            "invalid mapping destination: function argument is invalid or in the wrong format in {{random()}}",
        ),
        (
            "foo.*",
            "foo.{{random(1,2)}}",
            "invalid mapping destination: not enough arguments passed to the function in {{random(1,2)}}",
        ),
        (
            "foo.*",
            "foo.{{wildcard(foo)}}",
            "invalid mapping destination: function argument is invalid or in the wrong format in {{wildcard(foo)}}",
        ),
        (
            "foo.*",
            "foo.{{wildcard()}}",
            "invalid mapping destination: not enough arguments passed to the function in {{wildcard()}}",
        ),
        (
            "foo.*",
            "foo.{{wildcard(1,2)}}",
            "invalid mapping destination: too many arguments passed to the function in {{wildcard(1,2)}}",
        ),
        (
            "foo.*",
            "foo.{{ wildcard5) }}",
            "invalid mapping destination: unknown function in {{ wildcard5) }}",
        ),
        (
            "foo.*",
            "foo.{{splitLeft(2,2}}",
            "invalid mapping destination: unknown function in {{splitLeft(2,2}}",
        ),
        (
            "foo",
            "bla.{{wildcard(1)}}",
            "invalid mapping destination: wildcard index out of range in {{wildcard(1)}}",
        ),
        (
            "foo.*",
            "foo.{{left(1)}}",
            "invalid mapping destination: not enough arguments passed to the function in {{left(1)}}",
        ),
        (
            "foo.*",
            "foo.{{right(1,2,3)}}",
            "invalid mapping destination: too many arguments passed to the function in {{right(1,2,3)}}",
        ),
    ];
    for (source, destination, reason) in cases {
        let error = Transform::new(source, destination).map(drop).expect_err(destination);
        assert_eq!(error.to_string(), reason, "{source} -> {destination}");
    }
}

#[test]
fn imports_take_only_what_can_be_undone() {
    let refused = |source, destination| {
        Transform::new_reversible(source, destination).map(drop).expect_err(destination).to_string()
    };
    assert_eq!(
        refused("foo.*.*", "bar.$2"),
        "invalid mapping destination: not using all of the token wildcard(s) in bar.$2"
    );
    assert_eq!(
        refused("foo.*", "foo.$foo"),
        "invalid mapping destination: not using all of the token wildcard(s) in foo.$foo"
    );
    assert_eq!(
        refused("foo.*", "bar.{{Partition(2,1)}}"),
        "invalid mapping destination: the only mapping function allowed for import transforms is {{Wildcard()}} in {{Partition(2,1)}}"
    );
    assert!(Transform::new_reversible("foo.*", "bar.{{Wildcard(1)}}").is_ok());
}

#[test]
fn what_nats_server_accepts_is_accepted() {
    for (source, destination) in [
        ("foo.*.*", "bar.$2"),
        ("foo.*.*", "bar.{{wildcard(1)}}"),
        ("foo", "bar"),
        ("foo.*.bar.*.baz", "req.$2.$1"),
        ("baz.>", "mybaz.>"),
        ("*", "{{splitfromleft(1,1)}}"),
        ("", "prefix.>"),
        ("*.*", "{{partition(10,1,2)}}"),
        ("foo.*.*", "foo.{{wildcard(1)}}.{{wildcard(2)}}.{{partition(5,1,2)}}"),
        ("foo.*", "bar.{{partition(10)}}"),
        ("foo.bar", "baz.{{partition(10)}}"),
        ("foo.bar", "baz.{{partition(10,1)}}"),
        ("foo.bar", "baz.{{random(10)}}"),
        ("foo.*", "foo.$foo"),
    ] {
        assert!(Transform::new(source, destination).is_ok(), "{source} -> {destination}");
    }
}

#[test]
fn subjects_become_what_nats_server_makes_of_them() {
    for (source, destination, subject, expected) in [
        ("", "prefix.>", "foo", "prefix.foo"),
        ("foo", "bar", "foo", "bar"),
        ("foo.*.bar.*.baz", "req.$2.$1", "foo.A.bar.B.baz", "req.B.A"),
        ("foo.*.bar.*.baz", "req.{{wildcard(2)}}.{{wildcard(1)}}", "foo.A.bar.B.baz", "req.B.A"),
        ("baz.>", "my.pre.>", "baz.1.2.3", "my.pre.1.2.3"),
        ("baz.>", "foo.bar.>", "baz.1.2.3", "foo.bar.1.2.3"),
        ("*", "foo.bar.$1", "foo", "foo.bar.foo"),
        ("*", "{{splitfromleft(1,3)}}", "12345", "123.45"),
        ("*", "{{SplitFromRight(1,3)}}", "12345", "12.345"),
        ("*", "{{SliceFromLeft(1,3)}}", "1234567890", "123.456.789.0"),
        ("*", "{{SliceFromRight(1,3)}}", "1234567890", "1.234.567.890"),
        ("*", "{{SliceFromLeft(1,3)}}", "123456", "123.456"),
        ("*", "{{SliceFromRight(1,3)}}", "123456", "123.456"),
        ("*", "{{split(1,-)}}", "-abc-def--ghi-", "abc.def.ghi"),
        ("*", "{{split(1,-)}}", "abc-def--ghi-", "abc.def.ghi"),
        ("*.*", "{{split(2,-)}}.{{splitfromleft(1,2)}}", "foo.-abc-def--ghij-", "abc.def.ghij.fo.o"),
        ("*", "{{left(1,1)}}", "1234", "1"),
        ("*", "{{left(1,3)}}", "1234", "123"),
        ("*", "{{left(1,6)}}", "1234", "1234"),
        ("*", "{{right(1,1)}}", "1234", "4"),
        ("*", "{{right(1,3)}}", "1234", "234"),
        ("*", "{{right(1,6)}}", "1234", "1234"),
        ("foo.*.*", "bar.$0", "foo.a.b", "bar.foo"),
    ] {
        assert_eq!(
            apply(source, destination, subject).as_deref(),
            Some(expected),
            "{source} -> {destination}"
        );
    }
    assert_eq!(apply("foo.*", "bar.$1", "baz.1"), None);
    assert_eq!(apply("foo.>", "bar.>", "foo."), None);
}

#[test]
fn buckets_are_those_of_nats_server() {
    // FNV-1a of the tokens without separators, or of the whole subject.
    for (source, destination, subject, expected) in [
        ("*", "bar.{{partition(10, 0)}}", "foo", "bar.3"),
        ("*.*", "bar.{{partition(10)}}", "foo.bar", "bar.6"),
        ("foo.bar", "baz.{{partition(10)}}", "foo.bar", "baz.6"),
        ("foo.baz", "qux.{{partition(10)}}", "foo.baz", "qux.4"),
        ("test.subject", "result.{{partition(5)}}", "test.subject", "result.0"),
        ("*", "bar.{{partition(10)}}", "foo", "bar.3"),
        ("*", "bar.{{partition(10)}}", "baz", "bar.0"),
        ("*", "bar.{{partition(10)}}", "qux", "bar.9"),
        ("foo", "bar.{{partition(10)}}", "foo", "bar.3"),
        ("foo.*", "bar.{{partition(0,1)}}", "foo.a", "bar.0"),
    ] {
        assert_eq!(
            apply(source, destination, subject).as_deref(),
            Some(expected),
            "{source} -> {destination}"
        );
    }
}

#[test]
fn random_numbers_stay_below_their_bound() {
    let transform = Transform::new("foo", "bar.{{random(10)}}").expect("a transform");
    for (seed, expected) in [(0, "bar.0"), (u32::MAX, "bar.7"), (7 << 1, "bar.7"), (23 << 1, "bar.3")] {
        assert_eq!(transform.apply(b"foo", || seed), expected.as_bytes());
    }
    let none = Transform::new("foo", "bar.{{random(0)}}").expect("a transform");
    assert_eq!(none.apply(b"foo", || 5), b"bar.0");
}

#[test]
fn a_reversed_transform_leads_back() {
    for (source, destination, subject) in [
        ("foo.*.*", "bar.$2.{{Wildcard(1)}}", "foo.b.a"),
        ("a.*.*.*", "x.$3.$1.y.$2", "a.1.2.3"),
        ("in.>", "out.>", "in.1.2"),
        ("foo", "bar", "foo"),
    ] {
        let transform = Transform::new_reversible(source, destination).expect("a transform");
        let there = transform.apply(subject.as_bytes(), || 0);
        let back = transform.reverse().expect("reversible").apply(&there, || 0);
        assert_eq!(back, subject.as_bytes(), "{source} -> {destination}");
    }
}

#[test]
fn patterns_and_destinations_turn_into_each_other() {
    assert_eq!(tokenize("foo.*.*.>"), "foo.$1.$2.>");
    let places = |list: &[&str]| list.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>();
    assert_eq!(untokenize("bar"), ("bar".to_owned(), places(&[])));
    assert_eq!(untokenize("foo.$2.$1"), ("foo.*.*".to_owned(), places(&["$2", "$1"])));
    assert_eq!(
        untokenize("foo.{{wildcard(2)}}.{{wildcard(1)}}"),
        ("foo.*.*".to_owned(), places(&["{{wildcard(2)}}", "{{wildcard(1)}}"]))
    );
    assert_eq!(untokenize("foo.$JS.$x"), ("foo.$JS.$x".to_owned(), places(&[])));
}

#[test]
fn mappings_are_validated_like_configuration() {
    let reason =
        |source, destination| validate_mapping(source, destination).map_err(|error| error.to_string());
    assert_eq!(reason("foo", ""), Ok(()));
    assert_eq!(reason("foo", "bar..baz"), Err("invalid mapping destination: invalid transform".to_owned()));
    assert_eq!(reason("foo", "b ar"), Err("invalid mapping destination: invalid transform".to_owned()));
    assert_eq!(
        reason("foo.>", "bar.>.baz"),
        Err("invalid mapping destination: invalid transform in baz".to_owned())
    );
    assert_eq!(
        reason("foo.*", "{{nope(1)}}"),
        Err("invalid mapping destination: unknown function in {{nope(1)}}".to_owned())
    );
}
