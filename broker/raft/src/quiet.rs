//! When the heartbeats and elections of an idle group may rest, and what its members promise each other meanwhile.
//! Pure: the time, chance, and what Raft says come as arguments. Neither sends nor touches Raft.
//!
//! A leader whose group has been idle for a while lists it to the other members, in one message for all its groups.
//! A member that agrees promises what the answer to a heartbeat promises: to elect nobody else within a lease after
//! it received the list. Once all members have agreed the group is quiet: Raft's clock stands still at each of them,
//! and the list, repeated each heartbeat, keeps the leader in office.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

/// A group's timing. `wait_min` and `wait_max` follow the lease before a member stands for election.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Timing {
    /// A group rests after being idle for this long; `None` for never.
    pub(crate) after: Option<Duration>,
    pub(crate) lease: Duration,
    pub(crate) wait_min: Duration,
    pub(crate) wait_max: Duration,
}

/// What the members of a quiet group agree upon, together with who leads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Listing {
    pub(crate) term: u64,
    /// Index of the last entry, which all have applied.
    pub(crate) last: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    Leader,
    /// Learners too.
    Follower,
    /// A candidate, or stopped.
    Other,
}

/// Another member, as the leader sees it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Other {
    pub(crate) peer: u64,
    pub(crate) matched: u64,
    /// When what it answered last was sent.
    pub(crate) heard: Option<Instant>,
}

/// What a replica's Raft says of itself at one moment.
#[derive(Clone, Debug)]
pub(crate) struct View {
    pub(crate) role: Role,
    pub(crate) term: u64,
    pub(crate) leader: Option<u64>,
    pub(crate) last: u64,
    pub(crate) applied: u64,
    /// A leader that may act as one, and whose members are not being changed.
    pub(crate) acting: bool,
    /// All other members; only on a leader.
    pub(crate) others: Vec<Other>,
}

impl View {
    fn listing(&self) -> Listing {
        Listing { term: self.term, last: self.last }
    }

    fn leads_idle(&self) -> bool {
        let all_here = self.others.iter().all(|other| other.matched == self.last);
        self.role == Role::Leader && self.acting && self.last > 0 && self.applied == self.last && all_here
    }

    fn follows(&self, leader: u64, term: u64) -> bool {
        self.role == Role::Follower && self.leader == Some(leader) && self.term == term
    }
}

/// When the lists were sent that the other members agreed to last, in one term.
#[derive(Clone, Debug, Default)]
pub(crate) struct Acks {
    term: u64,
    at: Arc<BTreeMap<u64, Instant>>,
}

impl Acks {
    pub(crate) fn at(&self, term: u64, peer: u64) -> Option<Instant> {
        self.at.get(&peer).copied().filter(|_| self.term == term)
    }

    fn note(&mut self, term: u64, peer: u64, sent: Instant) {
        if self.term != term {
            *self = Self { term, at: Arc::default() };
        }
        let at = Arc::make_mut(&mut self.at).entry(peer).or_insert(sent);
        *at = sent.max(*at);
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mode {
    Awake,
    Leading(Listing),
    Following { leader: u64, listing: Listing },
}

/// No vote for anybody else until a lease after `listed_at`.
#[derive(Clone, Copy, Debug)]
struct Promise {
    leader: u64,
    term: u64,
    listed_at: Instant,
}

/// A heartbeat that Raft accepted, and when it came.
#[derive(Clone, Copy, Debug)]
struct Heard {
    leader: u64,
    term: u64,
    at: Instant,
}

/// One replica's part in its group's quiet.
#[derive(Debug)]
pub(crate) struct Quiet {
    timing: Timing,
    mode: Mode,
    ticks: bool,
    /// Leader: since when nothing has changed.
    idle: Option<(Listing, Instant)>,
    /// Leader: when the list was sent that the group was last on.
    listed: Option<Instant>,
    acks: Acks,
    /// The term in which this replica, leading, has begun to hand over.
    handing_over: Option<u64>,
    promise: Option<Promise>,
    /// Follower: how long after the last list it stands for election.
    patience: Duration,
    heard: Option<Heard>,
    /// Requests for votes that Raft has not answered yet.
    votes: usize,
}

impl Quiet {
    pub(crate) fn new(timing: Timing) -> Self {
        Self {
            timing,
            mode: Mode::Awake,
            ticks: true,
            idle: None,
            listed: None,
            acks: Acks::default(),
            handing_over: None,
            promise: None,
            patience: timing.lease + timing.wait_max,
            heard: None,
            votes: 0,
        }
    }

    /// Whether Raft's clock goes: it sends heartbeats and stands for election.
    pub(crate) fn ticks(&self) -> bool {
        self.ticks
    }

    pub(crate) fn acks(&self) -> &Acks {
        &self.acks
    }

    /// Whether there is anything to end.
    pub(crate) fn is_quiet(&self) -> bool {
        self.mode != Mode::Awake || !self.ticks
    }

    fn wake(&mut self) {
        self.mode = Mode::Awake;
        self.ticks = true;
        self.idle = None;
        self.listed = None;
    }

    /// Ends the quiet when Raft has moved on.
    ///
    /// A follower that got entries does not tick again before its promise has ended or a heartbeat has come: its
    /// Raft may have been touched by the leader earlier than the promise was made, and would stand too soon.
    pub(crate) fn notice(&mut self, now: Instant, view: &View) {
        match self.mode {
            Mode::Leading(listing) if !view.leads_idle() || view.listing() != listing => self.wake(),
            Mode::Following { leader, listing } if !view.follows(leader, listing.term) => self.wake(),
            Mode::Following { listing, .. } if view.last != listing.last => self.mode = Mode::Awake,
            _ => {}
        }
        if self.mode == Mode::Awake && !self.ticks && !self.is_bound(now, view) {
            self.ticks = true;
        }
    }

    /// Whether a promise to whom it follows still holds.
    fn is_bound(&self, now: Instant, view: &View) -> bool {
        self.promise.is_some_and(|promise| {
            view.follows(promise.leader, promise.term) && now < promise.listed_at + self.timing.lease
        })
    }

    /// Looks at the group, once a heartbeat. A leader's answer is to go into the list to all other members.
    ///
    /// A leader that a member has not answered for most of a lease leaves it to Raft to find out what is the matter;
    /// so does a follower that was not listed for as long as Raft would have waited for a heartbeat.
    pub(crate) fn beat(&mut self, now: Instant, view: &View) -> Option<Listing> {
        self.notice(now, view);
        if let (Mode::Following { .. }, Some(promise)) = (self.mode, self.promise)
            && now >= promise.listed_at + self.patience
        {
            self.wake();
        }
        let after = self.timing.after?;
        let lately = |at: Option<Instant>, time| at.is_some_and(|at| now < at + time);
        let all_heard = view.others.iter().all(|other| lately(other.heard, self.timing.lease));
        if !view.leads_idle() || !all_heard || self.handing_over == Some(view.term) {
            if view.role == Role::Leader {
                self.wake();
            }
            return None;
        }
        let listing = view.listing();
        let since = match self.idle {
            Some((before, since)) if before == listing => since,
            _ => now,
        };
        self.idle = Some((listing, since));
        if let Mode::Leading(_) = self.mode {
            let mut acked = view.others.iter().map(|other| self.acks.at(view.term, other.peer));
            if !acked.all(|at| lately(at, self.timing.lease * 3 / 4)) {
                self.wake();
                return None;
            }
        } else if now < since + after {
            return None;
        } else if view.others.is_empty() {
            self.mode = Mode::Leading(listing);
            self.ticks = false;
            return None;
        }
        self.listed = Some(now);
        Some(listing)
    }

    /// A member has agreed to a list. The group is quiet once all have agreed to its latest one.
    pub(crate) fn agreed(&mut self, peer: u64, listing: Listing, sent: Instant, view: &View) {
        if view.role != Role::Leader || view.term != listing.term {
            return;
        }
        self.acks.note(listing.term, peer, sent);
        let proposed = self.idle.is_some_and(|(idle, _)| idle == listing);
        let (Mode::Awake, true, Some(listed)) = (self.mode, proposed, self.listed) else {
            return;
        };
        let mut acked = view.others.iter().map(|other| self.acks.at(view.term, other.peer));
        let all_agree = acked.all(|at| at.is_some_and(|at| at >= listed));
        let may_rest = view.leads_idle() && view.listing() == listing && self.handing_over != Some(view.term);
        if all_agree && may_rest {
            self.mode = Mode::Leading(listing);
            self.ticks = false;
        }
    }

    /// A member has refused a list: the group is to be idle for as long again.
    pub(crate) fn refused(&mut self, listing: Listing) {
        let listed = self.idle.is_some_and(|(idle, _)| idle == listing);
        if listed && !matches!(self.mode, Mode::Following { .. }) {
            self.wake();
        }
    }

    /// A leader lists this group: whether this member agrees.
    ///
    /// While it is quiet, and its promise to the same leader was not interrupted, that only renews the promise: it
    /// has passed on no vote since. Otherwise Raft must have accepted a heartbeat of this leader less than a lease
    /// ago, since when it can neither have voted nor have begun to stand, and no vote may be under way to it. From now
    /// on its clock, stopped together with elections, cannot make it stand, nor does a vote reach it.
    pub(crate) fn listed(
        &mut self,
        now: Instant,
        from: u64,
        listing: Listing,
        view: &View,
        chance: f64,
    ) -> bool {
        if self.timing.after.is_none() {
            return false;
        }
        if self.mode == (Mode::Following { leader: from, listing })
            && let Some(promise) = &mut self.promise
        {
            if now < promise.listed_at + self.timing.lease {
                promise.listed_at = now;
                return true;
            }
            self.wake();
            return false;
        }
        self.notice(now, view);
        let lately = |heard: Heard| {
            heard.leader == from && heard.term == listing.term && now < heard.at + self.timing.lease
        };
        let agrees = view.follows(from, listing.term)
            && view.last == listing.last
            && view.applied == listing.last
            && self.votes == 0
            && self.heard.is_some_and(lately);
        if agrees {
            self.mode = Mode::Following { leader: from, listing };
            self.ticks = false;
            self.promise = Some(Promise { leader: from, term: listing.term, listed_at: now });
            let spread = self.timing.wait_max.saturating_sub(self.timing.wait_min);
            self.patience = self.timing.lease + self.timing.wait_min + spread.mul_f64(chance.clamp(0.0, 1.0));
        }
        agrees
    }

    /// Raft has accepted a heartbeat that came at `at`. One older than the promise tells nothing new.
    pub(crate) fn heard(&mut self, leader: u64, term: u64, at: Instant) {
        self.heard = Some(Heard { leader, term, at });
        let before =
            |promise: &Promise| promise.leader == leader && promise.term == term && at < promise.listed_at;
        if !self.ticks && !matches!(self.mode, Mode::Leading(_)) && !self.promise.as_ref().is_some_and(before)
        {
            self.wake();
        }
    }

    /// A request for a vote, not by order of the leader, is to be refused: this member has promised not to vote, or
    /// it leads and `majority_at` is when it sent what a majority has answered.
    pub(crate) fn refuses_votes(&self, now: Instant, view: &View, majority_at: Option<Instant>) -> bool {
        let promised = self
            .promise
            .is_some_and(|promise| promise.term >= view.term && now < promise.listed_at + self.timing.lease);
        let leads = view.role == Role::Leader && majority_at.is_some_and(|at| now < at + self.timing.lease);
        promised || leads
    }

    /// A request for a vote goes to Raft; `vote_answered` follows.
    pub(crate) fn vote_passed_on(&mut self) {
        self.votes = self.votes.saturating_add(1);
    }

    pub(crate) fn vote_answered(&mut self) {
        self.votes = self.votes.saturating_sub(1);
    }

    /// The leader of `term`, or of one before it, has ordered an election: no promise to it holds.
    pub(crate) fn released(&mut self, term: u64) {
        if self.promise.is_some_and(|promise| promise.term > term) {
            return;
        }
        self.promise = None;
        self.heard = None;
        self.wake();
    }

    /// This replica begins to hand over what it leads in `term`. Raft lets it propose no more in that term, whether
    /// or not somebody takes over, so the others must be free to elect.
    pub(crate) fn hand_over(&mut self, term: u64) {
        self.handing_over = Some(term);
        self.wake();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MILLI: Duration = Duration::from_millis(1);
    const TIMING: Timing = Timing {
        after: Some(Duration::from_millis(200)),
        lease: Duration::from_millis(800),
        wait_min: Duration::from_millis(200),
        wait_max: Duration::from_millis(800),
    };
    const LISTING: Listing = Listing { term: 3, last: 9 };

    fn follower() -> View {
        let others = Vec::new();
        View { role: Role::Follower, term: 3, leader: Some(1), last: 9, applied: 9, acting: false, others }
    }

    /// Its two followers were heard of at `now`.
    fn leader(now: Instant) -> View {
        let other = |peer| Other { peer, matched: 9, heard: Some(now) };
        let others = vec![other(2), other(3)];
        View { role: Role::Leader, term: 3, leader: Some(1), last: 9, applied: 9, acting: true, others }
    }

    /// A follower that has just agreed at `now`.
    fn agreed(now: Instant) -> Quiet {
        let mut quiet = Quiet::new(TIMING);
        quiet.heard(1, 3, now);
        assert!(quiet.listed(now, 1, LISTING, &follower(), 0.0));
        quiet
    }

    /// A leader whose followers have both agreed at the time given back.
    fn leading() -> (Quiet, Instant) {
        let start = Instant::now();
        let mut quiet = Quiet::new(TIMING);
        assert_eq!(quiet.beat(start, &leader(start)), None);
        let now = start + MILLI * 200;
        assert_eq!(quiet.beat(now, &leader(now)), Some(LISTING));
        quiet.agreed(2, LISTING, now, &leader(now));
        assert!(quiet.ticks(), "one has not agreed");
        quiet.agreed(3, LISTING, now, &leader(now));
        assert!(!quiet.ticks());
        (quiet, now)
    }

    #[test]
    fn a_leader_rests_once_all_have_agreed_to_its_latest_list() {
        let (mut quiet, at) = leading();
        let later = at + MILLI * 100;
        assert_eq!(quiet.beat(later, &leader(at)), Some(LISTING), "and lists it on");
        let mut quiet = Quiet::new(TIMING);
        quiet.beat(at, &leader(at));
        let first = at + MILLI * 200;
        quiet.beat(first, &leader(first));
        quiet.agreed(2, LISTING, first, &leader(first));
        let second = first + MILLI * 100;
        quiet.beat(second, &leader(second));
        quiet.agreed(3, LISTING, second, &leader(second));
        assert!(quiet.ticks(), "one has agreed to an older list");
        quiet.agreed(2, LISTING, second, &leader(second));
        assert!(!quiet.ticks());
    }

    #[test]
    fn a_group_in_which_something_is_left_to_do_is_not_listed() {
        let start = Instant::now();
        let idle = |change: fn(&mut View)| {
            let mut quiet = Quiet::new(TIMING);
            let mut view = leader(start);
            change(&mut view);
            quiet.beat(start, &view);
            quiet.beat(start + MILLI * 300, &view).is_some()
        };
        assert!(idle(|_| ()));
        assert!(!idle(|view| view.applied = 8));
        assert!(!idle(|view| view.others[0].matched = 8));
        assert!(!idle(|view| view.others[1].heard = None));
        assert!(!idle(|view| view.acting = false));
        assert!(!idle(|view| view.role = Role::Other));
        let mut quiet = Quiet::new(Timing { after: None, ..TIMING });
        quiet.beat(start, &leader(start));
        assert_eq!(quiet.beat(start + MILLI * 300, &leader(start)), None, "never");
    }

    #[test]
    fn a_leader_alone_rests_without_asking() {
        let start = Instant::now();
        let view = View { others: Vec::new(), ..leader(start) };
        let mut quiet = Quiet::new(TIMING);
        quiet.beat(start, &view);
        assert_eq!(quiet.beat(start + MILLI * 200, &view), None);
        assert!(!quiet.ticks());
        quiet.notice(start, &View { last: 10, ..view });
        assert!(quiet.ticks());
    }

    #[test]
    fn a_leader_wakes_for_whatever_happens() {
        let wakes = |change: fn(&mut View)| {
            let (mut quiet, now) = leading();
            let mut view = leader(now);
            change(&mut view);
            quiet.notice(now, &view);
            quiet.ticks()
        };
        assert!(!wakes(|_| ()));
        assert!(wakes(|view| view.last = 10));
        assert!(wakes(|view| view.term = 4));
        assert!(wakes(|view| view.acting = false));
        assert!(wakes(|view| view.role = Role::Follower));
        let (mut quiet, _) = leading();
        quiet.refused(LISTING);
        assert!(quiet.ticks(), "a member refuses");
    }

    #[test]
    fn a_leader_wakes_when_a_member_is_silent_for_most_of_the_lease() {
        let (mut quiet, at) = leading();
        let now = at + MILLI * 500;
        quiet.beat(now, &leader(now));
        quiet.agreed(2, LISTING, now, &leader(now));
        let now = at + MILLI * 650;
        assert_eq!(quiet.beat(now, &leader(now)), None);
        assert!(quiet.ticks());
    }

    #[test]
    fn a_leader_that_hands_over_rests_no_more_in_that_term() {
        let (mut quiet, at) = leading();
        quiet.hand_over(3);
        assert!(quiet.ticks());
        for beat in 1..20 {
            let now = at + MILLI * 100 * beat;
            assert_eq!(quiet.beat(now, &leader(now)), None);
        }
        let now = at + MILLI * 2000;
        let next = View { term: 4, ..leader(now) };
        quiet.beat(now, &next);
        assert!(quiet.beat(now + MILLI * 200, &next).is_some());
    }

    #[test]
    fn a_follower_agrees_only_with_the_leader_it_follows_and_has_just_heard() {
        let now = Instant::now();
        let agrees = |listing: Listing, change: fn(&mut View), heard: Option<Instant>| {
            let mut quiet = Quiet::new(TIMING);
            if let Some(at) = heard {
                quiet.heard(1, 3, at);
            }
            let mut view = follower();
            change(&mut view);
            let agrees = quiet.listed(now + MILLI * 800, 1, listing, &view, 0.5);
            assert_eq!(agrees, !quiet.ticks());
            agrees
        };
        let lately = Some(now + MILLI * 600);
        assert!(agrees(LISTING, |_| (), lately));
        assert!(!agrees(LISTING, |_| (), None), "not heard at all");
        assert!(!agrees(LISTING, |_| (), Some(now)), "heard too long ago");
        assert!(!agrees(Listing { last: 10, ..LISTING }, |_| (), lately));
        assert!(!agrees(Listing { term: 4, ..LISTING }, |_| (), lately));
        assert!(!agrees(LISTING, |view| view.applied = 8, lately));
        assert!(!agrees(LISTING, |view| view.leader = Some(2), lately));
        assert!(!agrees(LISTING, |view| view.role = Role::Other, lately));
        let mut quiet = Quiet::new(TIMING);
        quiet.heard(1, 3, now);
        quiet.vote_passed_on();
        assert!(!quiet.listed(now, 1, LISTING, &follower(), 0.5), "a vote may be given");
        quiet.vote_answered();
        assert!(quiet.listed(now, 1, LISTING, &follower(), 0.5));
    }

    #[test]
    fn a_promise_holds_for_a_lease_after_each_list() {
        let start = Instant::now();
        let mut quiet = agreed(start);
        assert!(quiet.refuses_votes(start + MILLI * 799, &follower(), None));
        assert!(!quiet.refuses_votes(start + MILLI * 800, &follower(), None));
        let again = start + MILLI * 700;
        assert!(quiet.listed(again, 1, LISTING, &follower(), 0.0));
        assert!(quiet.refuses_votes(start + MILLI * 1499, &follower(), None));
        let elsewhere = View { term: 4, leader: Some(2), ..follower() };
        assert!(!quiet.refuses_votes(again, &elsewhere, None), "somebody else was elected");
    }

    #[test]
    fn a_list_that_comes_after_the_promise_lapsed_is_refused() {
        let start = Instant::now();
        let mut quiet = agreed(start);
        assert!(
            !quiet.listed(start + MILLI * 800, 1, LISTING, &follower(), 0.0),
            "a vote may have been given"
        );
        assert!(quiet.ticks());
    }

    #[test]
    fn a_follower_that_is_not_listed_stands_only_after_its_promise() {
        let start = Instant::now();
        let mut quiet = agreed(start);
        quiet.beat(start + MILLI * 999, &follower());
        assert!(!quiet.ticks());
        quiet.beat(start + MILLI * 1000, &follower());
        assert!(quiet.ticks());
        let mut patient = Quiet::new(TIMING);
        patient.heard(1, 3, start);
        assert!(patient.listed(start, 1, LISTING, &follower(), 1.0));
        patient.beat(start + MILLI * 1599, &follower());
        assert!(!patient.ticks(), "another may be first");
        patient.beat(start + MILLI * 1600, &follower());
        assert!(patient.ticks());
    }

    #[test]
    fn a_follower_with_new_entries_does_not_stand_before_its_promise_ends() {
        let start = Instant::now();
        let mut quiet = agreed(start);
        let view = View { last: 10, ..follower() };
        quiet.notice(start + MILLI * 100, &view);
        assert!(!quiet.ticks());
        quiet.beat(start + MILLI * 799, &view);
        assert!(!quiet.ticks());
        quiet.beat(start + MILLI * 800, &view);
        assert!(quiet.ticks());
        let mut quiet = agreed(start);
        quiet.notice(start + MILLI * 100, &view);
        quiet.heard(1, 3, start + MILLI * 150);
        assert!(quiet.ticks(), "the leader's clock goes again");
    }

    #[test]
    fn a_heartbeat_wakes_a_follower_unless_it_is_older_than_the_promise() {
        let start = Instant::now() + MILLI;
        let mut quiet = agreed(start);
        quiet.heard(1, 3, start - MILLI);
        assert!(!quiet.ticks());
        quiet.heard(1, 3, start);
        assert!(quiet.ticks());
        assert!(quiet.refuses_votes(start + MILLI, &follower(), None), "the promise holds");
        let mut quiet = agreed(start);
        quiet.heard(2, 4, start - MILLI);
        assert!(quiet.ticks(), "another leader's");
    }

    #[test]
    fn an_election_by_order_of_the_leader_ends_the_promise_to_it() {
        let start = Instant::now();
        let mut quiet = agreed(start);
        quiet.released(2);
        assert!(quiet.refuses_votes(start, &follower(), None), "not by order of an earlier one");
        quiet.released(3);
        assert!(!quiet.refuses_votes(start, &follower(), None));
        assert!(quiet.ticks());
        assert!(!quiet.listed(start, 1, LISTING, &follower(), 0.0));
    }

    #[test]
    fn a_leader_refuses_votes_while_a_majority_answers() {
        let (quiet, at) = leading();
        assert!(quiet.refuses_votes(at + MILLI * 799, &leader(at), Some(at)));
        assert!(!quiet.refuses_votes(at + MILLI * 800, &leader(at), Some(at)));
        assert!(!quiet.refuses_votes(at, &leader(at), None));
    }

    #[test]
    fn what_was_agreed_in_one_term_does_not_count_in_another() {
        let (quiet, at) = leading();
        assert_eq!(quiet.acks().at(3, 2), Some(at));
        assert_eq!(quiet.acks().at(4, 2), None);
    }
}
