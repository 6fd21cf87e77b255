//! Priority groups (ADR-42): which of the waiting requests may have a message. Not the queue of requests itself.

use std::sync::Arc;

use weir_jsapi::request::NextRequest;
use weir_jsapi::{ConsumerConfig, PriorityPolicy};
use weir_stdx::id::random_id;
use weir_stdx::rng::SeededRng;
use weir_stdx::time::UnixNanos;

/// Where requests without a group stand among those with priorities.
const PRIORITY_LAST: i64 = i64::MAX;

/// What a request says of its group.
#[derive(Debug, Clone)]
pub(super) struct Membership {
    group: Arc<str>,
    min_pending: i64,
    min_ack_pending: i64,
    /// The pin the client was given; empty when it has none.
    id: String,
    priority: i64,
}

/// The one client that gets the messages.
#[derive(Debug, Clone)]
pub(super) struct Pin {
    pub id: Arc<str>,
    pub since: UnixNanos,
    group: Arc<str>,
    expires: UnixNanos,
}

/// What there is to hand out, for who takes messages only above a level.
#[derive(Debug, Clone, Copy)]
pub(super) struct Demand {
    /// Messages not delivered yet, the one at hand included.
    pub pending: u64,
    pub ack_pending: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    Serve,
    /// Its turn may come.
    Wait,
    /// It has the pin of the past.
    WrongPin,
}

/// A pin that came or went; to be told as an advisory.
#[derive(Debug, Clone)]
pub(super) enum PinChange {
    Pinned { group: Arc<str>, id: Arc<str> },
    Unpinned { group: Arc<str>, reason: &'static str },
}

/// The priority policy of a consumer and its present pin.
#[derive(Debug, Default)]
pub(super) struct Priorities {
    policy: PriorityPolicy,
    timeout: u64,
    pin: Option<Pin>,
    /// Ids are drawn from the seed and the number of those before.
    seed: u64,
    pins_made: u64,
    pub changes: Vec<PinChange>,
}

impl Priorities {
    pub(super) fn new(seed: u64) -> Self {
        Self { seed, ..Self::default() }
    }

    pub(super) fn configure(&mut self, config: &ConsumerConfig) {
        self.policy = config.priority_policy;
        self.timeout = u64::try_from(config.priority_timeout).unwrap_or(0);
        if !self.pins() {
            self.pin = None;
        }
    }

    pub(super) fn is_off(&self) -> bool {
        self.policy == PriorityPolicy::None
    }

    pub(super) fn pins(&self) -> bool {
        self.policy == PriorityPolicy::PinnedClient
    }

    pub(super) fn sorts(&self) -> bool {
        self.policy == PriorityPolicy::Prioritized
    }

    pub(super) fn pin(&self) -> Option<&Pin> {
        self.pin.as_ref()
    }

    pub(super) fn needs_pin(&self) -> bool {
        self.pins() && self.pin.is_none()
    }

    pub(super) fn next_timer(&self) -> Option<UnixNanos> {
        self.pin.as_ref().map(|pin| pin.expires)
    }

    /// What a request brings, or the status line that refuses it. `None` for requests that are no JSON.
    pub(super) fn admit(
        &mut self,
        now: UnixNanos,
        config: &ConsumerConfig,
        request: Option<&NextRequest>,
    ) -> Result<Option<Membership>, &'static str> {
        let Some(request) = request else { return Ok(None) };
        let asks_overflow = request.min_pending != 0 || request.min_ack_pending != 0;
        if asks_overflow && self.policy != PriorityPolicy::Overflow {
            return Err("400 Bad Request - Not a Overflow Priority consumer");
        }
        if !request.id.is_empty() && !self.pins() {
            return Err("400 Bad Request - Not a Pinned Client Priority consumer");
        }
        if !(0..=9).contains(&request.priority) {
            return Err("400 Bad Request - Priority must be between 0 and 9");
        }
        if self.is_off() {
            return Ok(None);
        }
        if request.group.is_empty() {
            return Err("400 Bad Request - Priority Group missing");
        }
        if !config.priority_groups.contains(&request.group) {
            return Err("400 Bad Request - Invalid Priority Group");
        }
        if let Some(pin) = &mut self.pin {
            if *request.id == *pin.id {
                pin.expires = UnixNanos(now.0.saturating_add(self.timeout));
            } else if !request.id.is_empty() {
                return Err("423 Nats-Pin-Id mismatch");
            }
        }
        Ok(Some(Membership {
            group: Arc::from(request.group.as_str()),
            min_pending: request.min_pending,
            min_ack_pending: request.min_ack_pending,
            id: request.id.clone(),
            priority: request.priority,
        }))
    }

    /// Whether a request may have the message at hand. `pin_free`: nobody was pinned when the search for a request
    /// began; then the first without a pin of its own is pinned.
    pub(super) fn judge(
        &mut self,
        now: UnixNanos,
        pin_free: bool,
        member: Option<&mut Membership>,
        demand: Demand,
    ) -> Verdict {
        match self.policy {
            PriorityPolicy::None | PriorityPolicy::Prioritized => Verdict::Serve,
            PriorityPolicy::Overflow => {
                let reached = |least: i64, now: u64| u64::try_from(least).is_ok_and(|least| least <= now);
                let waits = member.is_some_and(|member| {
                    let (pending, acks) = (member.min_pending, member.min_ack_pending);
                    (pending > 0 || acks > 0)
                        && !(pending > 0 && reached(pending, demand.pending))
                        && !(acks > 0 && reached(acks, demand.ack_pending))
                });
                if waits { Verdict::Wait } else { Verdict::Serve }
            }
            PriorityPolicy::PinnedClient => self.judge_pinned(now, pin_free, member),
        }
    }

    fn judge_pinned(&mut self, now: UnixNanos, pin_free: bool, member: Option<&mut Membership>) -> Verdict {
        let has_id = member.as_ref().is_some_and(|member| !member.id.is_empty());
        if pin_free {
            if has_id {
                return Verdict::WrongPin;
            }
            if let Some(member) = member {
                self.assign(now, member);
            }
            return Verdict::Serve;
        }
        let Some(pin) = &self.pin else { return Verdict::Serve };
        match member {
            Some(member) if *member.id == *pin.id => Verdict::Serve,
            Some(member) if !member.id.is_empty() => Verdict::WrongPin,
            _ => Verdict::Wait,
        }
    }

    fn assign(&mut self, now: UnixNanos, member: &mut Membership) {
        self.pins_made += 1;
        let mut rng = SeededRng::new(self.seed ^ now.0 ^ self.pins_made.rotate_left(48));
        let id: Arc<str> = Arc::from(random_id(&mut rng));
        (*id).clone_into(&mut member.id);
        let group = Arc::clone(&member.group);
        let expires = UnixNanos(now.0.saturating_add(self.timeout));
        self.changes.push(PinChange::Pinned { group: Arc::clone(&group), id: Arc::clone(&id) });
        self.pin = Some(Pin { id, since: now, group, expires });
    }

    /// Takes the pin back from a client that could not be served after all.
    pub(super) fn release(&mut self) {
        self.pin = None;
    }

    /// Somebody asked for another client to have its turn.
    pub(super) fn unpin(&mut self, group: &str) {
        self.pin = None;
        self.changes.push(PinChange::Unpinned { group: Arc::from(group), reason: "admin" });
    }

    /// A pinned client that did not ask for too long loses its pin.
    pub(super) fn expire(&mut self, now: UnixNanos) {
        if let Some(pin) = self.pin.take_if(|pin| pin.expires <= now) {
            self.changes.push(PinChange::Unpinned { group: pin.group, reason: "timeout" });
        }
    }
}

impl Membership {
    /// The order of a request among prioritized ones; lower is served first.
    pub(super) fn rank(member: Option<&Self>) -> i64 {
        member.map_or(PRIORITY_LAST, |member| member.priority)
    }
}
