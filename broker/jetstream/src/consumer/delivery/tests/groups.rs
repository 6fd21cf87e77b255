//! Priority groups, resets, and acknowledgement by flow control.

use weir_jsapi::PriorityPolicy;

use super::*;

fn grouped(priority_policy: PriorityPolicy) -> ConsumerConfig {
    ConsumerConfig { priority_policy, priority_groups: vec!["A".to_owned()], ..pull() }
}

fn pin(scenario: &mut Scenario) -> String {
    let info = scenario.delivery.info(scenario.now, &scenario.machine, &|_| true).expect("info");
    info.priority_groups[0].pinned_client_id.clone()
}

#[test]
fn overflow_requests_are_served_above_their_levels() {
    let mut scenario = Scenario::new(grouped(PriorityPolicy::Overflow));
    assert_eq!(
        scenario.request("a", r#"{"batch":9,"expires":9000000000,"group":"A","min_pending":2}"#),
        NONE
    );
    assert_eq!(
        scenario.request("b", r#"{"batch":9,"expires":9000000000,"group":"A","min_ack_pending":2}"#),
        NONE
    );
    assert_eq!(scenario.publish(&["s.1"]), NONE);
    assert_eq!(scenario.publish(&["s.2"]), ["a <- s.1 #1 x1 c1 left 1"]);
    assert_eq!(
        scenario.request("c", r#"{"batch":1,"expires":9000000000,"group":"A"}"#),
        ["c <- s.2 #2 x1 c2 left 0"]
    );
    // Two wait for their acks now.
    assert_eq!(scenario.publish(&["s.3"]), ["b <- s.3 #3 x1 c3 left 0"]);
}

#[test]
fn one_client_is_pinned_until_it_is_silent_or_another_is_asked_for() {
    let mut scenario = Scenario::new(ConsumerConfig {
        priority_timeout: SECOND as i64,
        ..grouped(PriorityPolicy::PinnedClient)
    });
    scenario.publish(&["s.1", "s.2", "s.3", "s.4"]);
    let one = r#"{"batch":1,"expires":9000000000,"group":"A"}"#;
    assert_eq!(
        scenario.request("a", one),
        ["a <- s.1 #1 x1 c1 left 3", "advisory CONSUMER.PINNED.S.c"],
        "the first is pinned"
    );
    let first = pin(&mut scenario);
    assert_eq!(scenario.request("b", one), NONE, "others wait");
    assert_eq!(
        scenario.request("x", r#"{"batch":1,"expires":9,"group":"A","id":"old"}"#),
        ["x <- 423 Nats-Pin-Id mismatch"]
    );
    assert_eq!(
        scenario.request("x", r#"{"batch":1,"expires":9}"#),
        ["x <- 400 Bad Request - Priority Group missing"]
    );
    assert_eq!(
        scenario.after(SECOND),
        ["b <- s.2 #2 x1 c2 left 2", "advisory CONSUMER.UNPINNED.S.c", "advisory CONSUMER.PINNED.S.c"],
        "its silence costs it the pin"
    );
    let second = pin(&mut scenario);
    assert_ne!(first, second);
    assert!(scenario.delivery.unpin("A"));
    assert!(!scenario.delivery.unpin("B"));
    assert_eq!(scenario.poll(), ["advisory CONSUMER.UNPINNED.S.c"]);
    assert_eq!(pin(&mut scenario), "");
    let old = format!(r#"{{"batch":1,"expires":9000000000,"group":"A","id":"{second}"}}"#);
    assert_eq!(
        scenario.request("b", &old),
        ["b <- 423 Nats-Wrong-Pin-Id | Nats-Pending-Messages: 1 | Nats-Pending-Bytes: 0"]
    );
}

#[test]
fn urgent_requests_are_served_first_and_take_turns() {
    let mut scenario = Scenario::new(grouped(PriorityPolicy::Prioritized));
    for (reply, priority) in [("low", 5), ("one", 1), ("two", 1)] {
        let body = format!(r#"{{"batch":2,"expires":9000000000,"group":"A","priority":{priority}}}"#);
        assert_eq!(scenario.request(reply, &body), NONE);
    }
    let served = scenario.publish(&["s.1", "s.2", "s.3", "s.4", "s.5"]);
    let to: Vec<&str> = served.iter().filter_map(|line| line.split(' ').next()).collect();
    assert_eq!(to, ["one", "two", "one", "two", "low"]);
}

impl Scenario {
    fn reset(&mut self, seq: u64) -> Result<u64, &'static str> {
        let mut out = Vec::new();
        let result = self.delivery.reset(&self.machine, seq, &mut out);
        self.finish(out);
        result
    }
}

#[test]
fn a_reset_goes_back_to_what_is_not_acknowledged_or_to_a_sequence() {
    let mut scenario = Scenario::on(RetentionPolicy::Limits, pull(), &["s.1", "s.2", "s.3"]);
    scenario.request("a", r#"{"batch":3,"no_wait":true}"#);
    scenario.ack(1, "+ACK");
    assert_eq!(scenario.reset(0), Ok(2));
    assert_eq!(
        scenario.request("a", r#"{"batch":9,"no_wait":true}"#),
        ["a <- s.2 #2 x1 c1 left 1", "a <- s.3 #3 x1 c2 left 0", "a <- 404 No Messages"]
    );
    assert_eq!(scenario.reset(1), Ok(1));
    assert_eq!(scenario.request("a", "1"), ["a <- s.1 #1 x1 c1 left 2"]);
    assert_eq!(scenario.reset(9), Ok(9));
    assert_eq!(scenario.request("a", r#"{"no_wait":true}"#), ["a <- 404 No Messages"]);
}

#[test]
fn a_reset_goes_not_before_the_start_and_only_where_there_is_one() {
    let from = ConsumerConfig { deliver_policy: DeliverPolicy::ByStartSequence, opt_start_seq: 3, ..pull() };
    let mut scenario = Scenario::on(RetentionPolicy::Limits, from, &["s.1", "s.2", "s.3"]);
    assert_eq!(scenario.reset(2), Err("below start seq"));
    assert_eq!(scenario.reset(3), Ok(3));
    let new = ConsumerConfig { deliver_policy: DeliverPolicy::New, ..pull() };
    let mut scenario = Scenario::on(RetentionPolicy::Limits, new, &["s.1"]);
    assert_eq!(scenario.reset(1), Err("not allowed"));
    assert_eq!(scenario.reset(0), Ok(2));
}

#[test]
fn answers_to_flow_control_acknowledge() {
    let config = ConsumerConfig { ack_policy: AckPolicy::FlowControl, max_ack_pending: 2, ..push() };
    let mut scenario = Scenario::on(RetentionPolicy::WorkQueue, config, &["s.1", "s.2", "s.3"]);
    scenario.delivery.interest_changed(scenario.now, true);
    assert_eq!(
        scenario.poll(),
        ["d <- s.1 #1 x1 c1 left 2", "d <- s.2 #2 x1 c2 left 1", "d <- 100 FlowControl Request (asks)"]
    );
    assert_eq!(scenario.after(SECOND / 2), NONE, "nothing is sent again");
    let (asked, _) = scenario.delivery.push.asked.clone().expect("a request");
    let mut out = Vec::new();
    let block = b"NATS/1.0\r\nNats-Last-Consumer: 2\r\nNats-Last-Stream: 2\r\n\r\n";
    scenario.delivery.handle_flow_control(scenario.now, &asked, block, &mut out);
    assert_eq!(scenario.finish(out), ["d <- s.3 #3 x1 c3 left 0"]);
    assert_eq!(scenario.machine.store().state().messages, 1, "what is acknowledged left the queue");
}
