//! The meta machine's rules.

use super::*;

fn config(name: &str, subject: &str) -> StreamConfig {
    StreamConfig { name: name.to_owned(), subjects: vec![subject.to_owned()], ..StreamConfig::default() }
}

fn create(machine: &mut MetaMachine, name: &str, subject: &str, peers: Vec<u64>) -> MetaOutcome {
    let config = machine
        .check_create("A", config(name, subject), &AccountLimitsInForce::default(), false)
        .expect("valid configuration");
    machine.apply(MetaCommand::CreateStream {
        account: "A".to_owned(),
        config: Box::new(config),
        peers,
        created: UnixNanos(5),
    })
}

fn peer(id: u64) -> MetaCommand {
    MetaCommand::PeerAdded(MetaPeer { id, name: format!("n{id}"), endpoint: format!("h{id}:1") })
}

#[test]
fn names_and_subjects_are_unique_within_an_account() {
    let mut machine = MetaMachine::default();
    assert!(
        matches!(create(&mut machine, "S", "s.>", vec![1]), MetaOutcome::Created(stream) if stream.group == 16)
    );
    assert!(matches!(create(&mut machine, "S", "s.>", vec![1]), MetaOutcome::Existed(_)));
    let limits = AccountLimitsInForce::default();
    let refused = |machine: &MetaMachine, account, name, subject| {
        machine
            .check_create(account, config(name, subject), &limits, false)
            .map_err(|error| error.err_code)
            .err()
    };
    assert_eq!(refused(&machine, "A", "S", "other"), Some(10058));
    assert_eq!(refused(&machine, "A", "T", "s.x"), Some(10065));
    assert_eq!(refused(&machine, "B", "S", "s.x"), None);
}

#[test]
fn a_deleted_streams_group_is_not_used_again() {
    let mut machine = MetaMachine::default();
    create(&mut machine, "S", "s", vec![1]);
    let delete = MetaCommand::DeleteStream { account: "A".to_owned(), name: "S".to_owned() };
    assert!(matches!(machine.apply(delete.clone()), MetaOutcome::Deleted(_)));
    assert_eq!(machine.apply(delete), MetaOutcome::Refused(errors::STREAM_NOT_FOUND.error()));
    assert!(
        matches!(create(&mut machine, "S", "s", vec![1]), MetaOutcome::Created(stream) if stream.group == 17)
    );
}

#[test]
fn limits_count_streams_and_reserved_bytes() {
    let mut machine = MetaMachine::default();
    create(&mut machine, "S", "s", vec![1]);
    let few = AccountLimitsInForce { max_streams: 1, ..AccountLimitsInForce::default() };
    let error = machine.check_create("A", config("T", "t"), &few, false).expect_err("second stream");
    assert_eq!(error.err_code, 10027);
    let small = AccountLimitsInForce { max_storage: 100, ..AccountLimitsInForce::default() };
    let big = StreamConfig { max_bytes: 101, ..config("T", "t") };
    assert_eq!(machine.check_create("A", big.clone(), &small, false).expect_err("too big").err_code, 10047);
    let fits = StreamConfig { max_bytes: 100, ..big };
    assert!(machine.check_create("A", fits, &small, false).is_ok());
}

#[test]
fn placement_prefers_peers_with_few_replicas() {
    let mut machine = MetaMachine::default();
    for id in 1..=4 {
        machine.apply(peer(id));
    }
    create(&mut machine, "S", "s", vec![1, 2]);
    let chosen = |keep: &[u64]| rank_peers(&machine, "", keep, &|_| true)[..3].to_vec();
    let free = chosen(&[]);
    assert!(free.contains(&3) && free.contains(&4), "{free:?}");
    let mut kept = chosen(&[2]);
    assert_eq!(kept[0], 2, "{kept:?}");
    kept.sort_unstable();
    assert_eq!(kept, [2, 3, 4]);
    let mut left = rank_peers(&machine, "", &[], &|id| id < 3);
    left.sort_unstable();
    assert_eq!(left, [1, 2], "only those that are available");
    assert_eq!(ApiError::from(PlacementError).err_code, 10005);
}

#[test]
fn checkpoints_and_commands_keep_everything() {
    let mut machine = MetaMachine::default();
    machine.apply(peer(7));
    create(&mut machine, "S", "s", vec![7]);
    let checkpoint = machine.checkpoint();
    assert_eq!(MetaMachine::restore(checkpoint.clone()), Ok(machine));
    for end in 0..checkpoint.len() {
        assert!(MetaMachine::restore(checkpoint.slice(..end)).is_err());
    }
    let commands = [
        peer(1),
        MetaCommand::PeerRemoved { id: 3 },
        MetaCommand::CreateStream {
            account: "A".to_owned(),
            config: Box::new(config("S", "s")),
            peers: vec![1, 300],
            created: UnixNanos(9),
        },
        MetaCommand::UpdateStream { account: "A".to_owned(), config: Box::new(config("S", "s")) },
        MetaCommand::DeleteStream { account: "A".to_owned(), name: "S".to_owned() },
        MetaCommand::MoveStream { account: "A".to_owned(), name: "S".to_owned(), peers: vec![2] },
    ];
    for command in commands {
        assert_eq!(MetaCommand::decode(command.encode()), Ok(command));
    }
}

#[test]
fn a_stream_that_is_being_restored_has_its_name_and_is_not_there() {
    let mut machine = MetaMachine::default();
    let limits = AccountLimitsInForce::default();
    let restored = machine.check_restore("A", config("S", "s.>"), &limits, 10).expect("valid");
    let begin = MetaCommand::RestoreStream {
        account: "A".to_owned(),
        config: Box::new(restored),
        peers: vec![1],
        created: UnixNanos(5),
    };
    let MetaOutcome::Created(stream) = machine.apply(begin.clone()) else { panic!("not created") };
    assert!(stream.restoring);
    assert!(machine.stream("A", "S").is_none());
    assert_eq!((machine.streams_of("A").count(), machine.streams().count()), (0, 1));
    let refused = |result: Result<StreamConfig, ApiError>| result.map_err(|error| error.err_code).err();
    assert_eq!(refused(machine.check_restore("A", config("S", "s.>"), &limits, 0)), Some(10130));
    assert_eq!(refused(machine.check_create("A", config("S", "s.>"), &limits, false)), Some(10058));
    assert_eq!(refused(machine.check_create("A", config("T", "s.x"), &limits, false)), Some(10065));
    assert!(matches!(machine.apply(begin.clone()), MetaOutcome::Refused(error) if error.err_code == 10130));
    assert_eq!(MetaMachine::restore(machine.checkpoint()), Ok(machine.clone()));

    let end =
        |group, keep| MetaCommand::EndRestore { account: "A".to_owned(), name: "S".to_owned(), group, keep };
    assert!(matches!(machine.apply(end(stream.group + 1, true)), MetaOutcome::Refused(_)));
    let mut given_up = machine.clone();
    assert!(matches!(given_up.apply(end(stream.group, false)), MetaOutcome::Deleted(_)));
    assert_eq!(given_up.streams().count(), 0);
    assert!(matches!(machine.apply(end(stream.group, true)), MetaOutcome::Updated(_)));
    assert!(machine.stream("A", "S").is_some());
    assert!(
        matches!(machine.apply(end(stream.group, false)), MetaOutcome::Refused(_)),
        "what is there stays"
    );
    for command in [begin, end(7, true)] {
        assert_eq!(MetaCommand::decode(command.encode()), Ok(command));
    }
}
