//! The way of messages from one publisher to all who get them.
//!
//! Each connection has one `Ingress`, each thread another for publishes from inside. It remembers whom it
//! touched, so that each is flushed once after a whole read. It is not: parsing, or who may publish.

use crate::account::Account;
use crate::buffer::{BUFFER_BYTES, ReadBuffer, give_buffer, grow_buffer, take_buffer};
use crate::client::ClientHandle;
use crate::deferred;
use crate::exchange::{Passed, introduce, is_measured};
use crate::interest::{MatchCache, Matched, QueueGroup};
use crate::message::{Inbound, Origin};
use crate::message_trace::MessageTrace;
use crate::outbox::{Appended, Counted, Cut, Outbox, Pressure};
use crate::peer::{Peer, PeerMessage};
use crate::permissions::is_denied;
use crate::subscription::{Count, Subscription, Target};
use crate::trace;
use bytes::Bytes;
use smallvec::SmallVec;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use weir_proto::encode;

/// Payloads of at least this size are shared between several receivers instead of copied.
const SHARE_BYTES: usize = 2 * 1024;
/// Payloads of at least this size for one receiver are written from where they were read.
const SLICE_BYTES: usize = 4 * 1024;
/// How long a publisher waits, after a read, for a receiver that is nearly full, as in nats-server.
const STALL_CROWDED: Duration = Duration::from_millis(5);
/// How long it waits when everyone it sends to is behind.
const STALL_BEHIND: Duration = Duration::from_millis(10);
/// Up to so many touched connections are written to by the publisher itself; more are left to their own tasks.
const INLINE_FLUSHES: usize = 8;

/// A message to route.
#[derive(Clone, Copy)]
pub(crate) struct Message<'a> {
    /// The literal subject to match.
    pub(crate) subject: &'a [u8],
    /// The subject to show, if it is another one.
    pub(crate) shown: Option<&'a [u8]>,
    pub(crate) reply: Option<&'a [u8]>,
    pub(crate) headers: &'a [u8],
    pub(crate) payload: &'a [u8],
    /// What was read, if the payload lies in it.
    pub(crate) source: Option<&'a ReadBuffer>,
}

/// How much a receiver is worth waiting for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Urgency {
    /// When nobody else is there to go on for: it would be cut soon.
    CrowdedAndStuck,
    /// When nobody else is there to go on for: it goes at its own pace.
    Behind,
    /// In any case.
    Crowded,
}

impl Urgency {
    fn of(pressure: Pressure) -> Self {
        match pressure {
            Pressure::Crowded => Self::Crowded,
            Pressure::CrowdedAndStuck => Self::CrowdedAndStuck,
            Pressure::Low | Pressure::Behind | Pressure::Stuck => Self::Behind,
        }
    }
}

/// A receiver for whom a publisher should wait a little.
#[must_use]
pub struct Held {
    outbox: Arc<Outbox>,
    is_crowded: bool,
}

impl Held {
    /// Whether it is because the receiver is nearly full; otherwise all receivers are behind.
    pub fn is_crowded(&self) -> bool {
        self.is_crowded
    }

    /// Waits until the receiver moves, for some milliseconds at most.
    pub async fn wait(self) {
        self.outbox.wait_for_room(if self.is_crowded { STALL_CROWDED } else { STALL_BEHIND }).await;
    }
}

/// Who may get a message.
#[derive(Clone, Copy)]
pub(crate) enum Audience<'a> {
    /// Everyone, other servers included.
    Everyone,
    /// Subscribers of this server; of queue groups only the named ones.
    Local {
        /// Names of queue groups, separated by white space.
        queues: &'a [u8],
    },
}

/// A server and the queue group it was chosen for.
type Chosen<'m> = (&'m Arc<dyn Peer>, &'m [u8]);

/// What became of a message for a queue group.
enum Choice<'m> {
    /// A member here has it.
    Delivered,
    /// A member of another server shall get it.
    Remote(&'m Arc<dyn Peer>),
    Nobody,
}

struct Staged {
    outbox: Arc<Outbox>,
    buffer: Vec<u8>,
    cuts: Vec<Cut>,
    counted: Counted,
}

/// Routes the messages of one publisher.
pub(crate) struct Ingress {
    cache: MatchCache,
    delivery: Delivery,
}

/// Everything but the cache, so that a cached result can be used while this changes.
pub(crate) struct Delivery {
    staged: Option<Staged>,
    touched: Vec<Arc<Outbox>>,
    /// The receiver that is most worth waiting for.
    held: Option<(Arc<Outbox>, Urgency)>,
    /// Whether some receiver takes what comes.
    is_moving: bool,
    /// Whether some receiver is behind and not waited for.
    has_stuck: bool,
    /// Receivers that are nearly full miss messages, instead of the publisher waiting for them.
    passes_over_crowded: bool,
    /// Kept for its allocation.
    cuts: Vec<Cut>,
    /// The connection whose messages these are: it is never staged for, so that its own order holds.
    own_outbox: u64,
    random: u64,
    /// What went to other servers since the last flush: of which account, how many messages and bytes.
    routed: Option<(Arc<Account>, u64, u64)>,
    pub(crate) shared: Option<Bytes>,
    /// Who publishes, if it is a client.
    pub(crate) client: Option<Arc<ClientHandle>>,
    /// The imports that the message is going through, outermost first.
    pub(crate) passed: Vec<Passed>,
    /// The message's trace, if its sender wants one.
    pub(crate) trace: Option<Box<MessageTrace>>,
}

impl Ingress {
    /// `own_outbox` is the id of the publisher's own connection, or 0.
    pub(crate) fn new(own_outbox: u64, seed: u64) -> Self {
        Self {
            cache: MatchCache::new(),
            delivery: Delivery {
                staged: None,
                touched: Vec::new(),
                held: None,
                is_moving: false,
                has_stuck: false,
                passes_over_crowded: false,
                cuts: Vec::new(),
                own_outbox,
                random: seed | 1,
                routed: None,
                shared: None,
                client: None,
                passed: Vec::new(),
                trace: None,
            },
        }
    }

    /// Delivers to everyone in the audience; returns to how many. Nothing is written before `flush`.
    pub(crate) fn route(
        &mut self,
        account: &Arc<Account>,
        message: &Message<'_>,
        origin: Origin,
        echo: bool,
        audience: Audience<'_>,
    ) -> usize {
        let matched = self.cache.find(account.number(), account.interest(), message.subject);
        if matched.is_empty() {
            return 0;
        }
        // The result is kept alive because a handler may come back to this thread's caches.
        let matched = Arc::clone(matched);
        self.delivery.route(&matched, account, message, origin, echo, audience)
    }

    /// Says whose messages these are; services of other accounts are told.
    pub(crate) fn set_client(&mut self, client: &Arc<ClientHandle>) {
        self.delivery.client = Some(Arc::clone(client));
    }

    /// Whether receivers that are nearly full miss what comes now.
    pub(crate) fn pass_over_crowded(&mut self, yes: bool) {
        self.delivery.passes_over_crowded = yes;
    }

    /// Traces the next message, or none.
    pub(crate) fn set_trace(&mut self, trace: Option<Box<MessageTrace>>) {
        self.delivery.trace = trace;
    }

    pub(crate) fn take_trace(&mut self) -> Option<Box<MessageTrace>> {
        self.delivery.trace.take()
    }

    pub(crate) fn trace(&self) -> Option<&MessageTrace> {
        self.delivery.trace.as_deref()
    }

    /// Any number, for choices by weight.
    pub(crate) fn random_number(&mut self) -> u32 {
        self.delivery.random_number()
    }

    /// Notes an outbox that was appended to directly.
    pub(crate) fn touch(&mut self, outbox: &Arc<Outbox>, appended: Appended) {
        self.delivery.note(outbox, appended);
    }

    /// Hands over what is staged, so that it lies before anything appended afterwards.
    pub(crate) fn settle(&mut self) {
        self.delivery.settle();
    }

    /// Wakes or writes everyone touched. Returns a receiver for whom the publisher should wait: one that is
    /// nearly full, or one of those that are behind when nobody else is there for whom to go on.
    ///
    /// Writes are put off for a moment when `may_defer`, where that is possible.
    pub(crate) fn flush(&mut self, may_defer: bool) -> Option<Held> {
        self.delivery.flush(may_defer);
        self.cache.tidy();
        let is_moving = std::mem::take(&mut self.delivery.is_moving);
        let has_stuck = std::mem::take(&mut self.delivery.has_stuck);
        let (outbox, urgency) = self.delivery.held.take()?;
        let is_worth_it = match urgency {
            Urgency::Crowded => true,
            Urgency::Behind => !is_moving,
            Urgency::CrowdedAndStuck => !is_moving && !has_stuck,
        };
        is_worth_it.then_some(Held { outbox, is_crowded: urgency != Urgency::Behind })
    }
}

impl Drop for Ingress {
    fn drop(&mut self) {
        self.delivery.flush(false);
    }
}

impl Delivery {
    pub(crate) fn route(
        &mut self,
        matched: &Matched,
        account: &Arc<Account>,
        message: &Message<'_>,
        origin: Origin,
        echo: bool,
        audience: Audience<'_>,
    ) -> usize {
        let receivers = matched.plain.len() + matched.peers.len();
        let share = message.payload.len() >= SHARE_BYTES && receivers > 1;
        self.shared = share.then(|| Bytes::copy_from_slice(message.payload));
        let mut deliveries = 0;
        for subscription in &matched.plain {
            if is_own_echo(subscription, origin, echo) {
                self.note_own_echo(subscription, account);
            } else if self.deliver(subscription, account, message, origin) {
                deliveries += 1;
            }
        }
        match audience {
            Audience::Local { queues } => {
                for name in queues.split(u8::is_ascii_whitespace).filter(|name| !name.is_empty()) {
                    let group = matched.queues.iter().find(|group| *group.name == *name);
                    if group.is_some_and(|group| {
                        self.deliver_to_named_group(group, account, message, origin, echo)
                    }) {
                        deliveries += 1;
                    }
                }
            }
            Audience::Everyone => {
                deliveries += self.deliver_to_groups_and_peers(matched, account, message, origin, echo);
            }
        }
        self.shared = None;
        deliveries
    }

    fn deliver_to_groups_and_peers(
        &mut self,
        matched: &Matched,
        account: &Arc<Account>,
        message: &Message<'_>,
        origin: Origin,
        echo: bool,
    ) -> usize {
        let mut deliveries = 0;
        let mut chosen: SmallVec<[Chosen<'_>; 2]> = SmallVec::new();
        for group in &matched.queues {
            match self.choose_member(group, account, message, origin, echo) {
                Choice::Delivered => deliveries += 1,
                Choice::Remote(peer) => chosen.push((peer, &group.name)),
                Choice::Nobody => {}
            }
        }
        for peer in &matched.peers {
            let queues: SmallVec<[&[u8]; 2]> =
                chosen.iter().filter(|(other, _)| other.id() == peer.id()).map(|(_, name)| *name).collect();
            deliveries += usize::from(self.send_to_peer(peer, account, message, &queues));
        }
        while let Some((peer, _)) = chosen.first().copied() {
            let id = peer.id();
            if !matched.peers.iter().any(|other| other.id() == id) {
                let queues: SmallVec<[&[u8]; 2]> =
                    chosen.iter().filter(|(other, _)| other.id() == id).map(|(_, name)| *name).collect();
                if self.send_to_peer(peer, account, message, &queues) {
                    deliveries += queues.len();
                }
            }
            chosen.retain(|(other, _)| other.id() != id);
        }
        deliveries
    }

    /// One member of the group, each as likely, those on other servers of the cluster included, as in nats-server.
    fn choose_member<'m>(
        &mut self,
        group: &'m QueueGroup,
        account: &Arc<Account>,
        message: &Message<'_>,
        origin: Origin,
        echo: bool,
    ) -> Choice<'m> {
        let remote: usize = group.remote.iter().map(|member| weight_of(member)).sum();
        if remote > 0 && !group.local.is_empty() {
            let at = self.random_below(group.local.len() + remote);
            if let Some(far) = at.checked_sub(group.local.len()) {
                return member_at(group, far).map_or(Choice::Nobody, Choice::Remote);
            }
        }
        if self.deliver_to_local_member(group, account, message, origin, echo) {
            return Choice::Delivered;
        }
        let far = if remote > 1 { self.random_below(remote) } else { 0 };
        // Members behind another server's leaf nodes come last.
        member_at(group, far).or_else(|| leaf_member(group)).map_or(Choice::Nobody, Choice::Remote)
    }

    /// A message that another server sent for a member of the group here: when the last has just left, one
    /// elsewhere shall get it, as in nats-server.
    fn deliver_to_named_group(
        &mut self,
        group: &QueueGroup,
        account: &Arc<Account>,
        message: &Message<'_>,
        origin: Origin,
        echo: bool,
    ) -> bool {
        if self.deliver_to_local_member(group, account, message, origin, echo) {
            return true;
        }
        let Some(peer) = leaf_member(group).or_else(|| member_at(group, 0)) else { return false };
        self.send_to_peer(peer, account, message, &[&group.name])
    }

    /// Starts at a random member and goes on until one takes the message.
    fn deliver_to_local_member(
        &mut self,
        group: &QueueGroup,
        account: &Arc<Account>,
        message: &Message<'_>,
        origin: Origin,
        echo: bool,
    ) -> bool {
        let count = group.local.len();
        if count == 0 {
            return false;
        }
        let start = if count == 1 { 0 } else { self.random_below(count) };
        (0..count).any(|step| {
            let at = start + step;
            let member = &group.local[if at >= count { at - count } else { at }];
            !is_own_echo(member, origin, echo) && self.deliver(member, account, message, origin)
        })
    }

    /// Tells whether it was sent.
    fn send_to_peer(
        &mut self,
        peer: &Arc<dyn Peer>,
        account: &Arc<Account>,
        message: &Message<'_>,
        queues: &[&[u8]],
    ) -> bool {
        if !peer.accepts(message.subject) {
            return false;
        }
        let traced = self.note_server(&**peer, message.headers);
        let headers = traced.as_deref().unwrap_or(message.headers);
        let introduced = introduce(self.client.as_deref(), self.passed.last(), account, message, headers);
        let headers = introduced.as_deref().unwrap_or(headers);
        let headers = if peer.takes_headers() { headers } else { &[] };
        let routed = PeerMessage {
            account: account.name(),
            subject: message.shown.unwrap_or(message.subject),
            deliver_to: message.shown.map(|_| message.subject),
            reply: message.reply,
            headers,
            payload: message.payload,
            queues,
        };
        if trace::is_on() {
            let mut line = Vec::new();
            peer.write_line(&routed, &mut line);
            trace::message_out(&peer.label(), &line, headers, message.payload);
        }
        self.write_message(peer.outbox(), headers, message, |out| peer.write_line(&routed, out));
        self.count_routed(account, headers.len() + message.payload.len());
        true
    }

    #[inline]
    fn count_routed(&mut self, account: &Arc<Account>, bytes: usize) {
        match &mut self.routed {
            Some((known, messages, total)) if Arc::ptr_eq(known, account) => {
                *messages += 1;
                *total += bytes as u64;
            }
            _ => {
                self.settle_routed();
                self.routed = Some((Arc::clone(account), 1, bytes as u64));
            }
        }
    }

    fn settle_routed(&mut self) {
        if let Some((account, messages, bytes)) = self.routed.take() {
            account.count_routed_out(messages, bytes);
        }
    }

    #[inline]
    pub(crate) fn deliver(
        &mut self,
        subscription: &Arc<Subscription>,
        account: &Arc<Account>,
        message: &Message<'_>,
        origin: Origin,
    ) -> bool {
        if self.trace.is_some() {
            return self.deliver_traced(subscription, subscription.subject(), account, message, origin);
        }
        self.deliver_plain(subscription, account, message, origin)
    }

    #[inline]
    pub(crate) fn deliver_plain(
        &mut self,
        subscription: &Arc<Subscription>,
        account: &Arc<Account>,
        message: &Message<'_>,
        origin: Origin,
    ) -> bool {
        if subscription.closed.load(Ordering::Acquire) {
            return false;
        }
        if let Some(rules) = &subscription.denied
            && is_denied(rules, message.shown.unwrap_or(message.subject))
        {
            return false;
        }
        let count = subscription.count();
        if count == Count::Over {
            return false;
        }
        match &subscription.target {
            Target::Client(client) => {
                if self.passes_over_crowded && self.passes_over(client) {
                    return false;
                }
                self.deliver_to_client(subscription, client, message);
                client.note_request(message.reply);
                if let (Some(reply), Origin::Route { .. }) = (message.reply, origin)
                    && is_measured(reply)
                {
                    client.remote_requests.note(reply);
                }
                if count == Count::DeliverLast {
                    client.drop_subscription(subscription);
                }
            }
            Target::Internal(handler) => handler(&Inbound {
                subject: message.shown.unwrap_or(message.subject),
                reply: message.reply,
                headers: message.headers,
                payload: message.payload,
                origin,
                account,
                trace: self.trace.as_deref(),
            }),
            Target::Peer { .. } => return false,
            Target::Service(import) => return self.request_service(import, account, message, origin),
            Target::Responses => self.respond(account, message, origin),
            Target::Shadow(shadow) => {
                return self.deliver_shadow(shadow, &subscription.subject, message, origin);
            }
        }
        true
    }

    /// Whether this receiver misses the message, since nobody is to wait for it.
    #[cold]
    pub(crate) fn passes_over(&self, client: &ClientHandle) -> bool {
        self.passes_over_crowded && client.outbox.is_crowded()
    }

    fn deliver_to_client(
        &mut self,
        subscription: &Subscription,
        client: &ClientHandle,
        message: &Message<'_>,
    ) {
        let headers = if client.takes_headers() { message.headers } else { &[] };
        let subject = message.shown.unwrap_or(message.subject);
        let total = headers.len() + message.payload.len();
        if trace::is_on() {
            let mut line = Vec::new();
            encode::message_line(&mut line, subject, &subscription.sid, message.reply, headers.len(), total);
            trace::message_out(&client.label(), &line, headers, message.payload);
        }
        self.write_message(&client.outbox, headers, message, |out| {
            encode::message_line(out, subject, &subscription.sid, message.reply, headers.len(), total);
        });
    }

    /// Appends a line, headers and payload to what waits for one receiver.
    #[inline]
    fn write_message(
        &mut self,
        outbox: &Arc<Outbox>,
        headers: &[u8],
        message: &Message<'_>,
        write_line: impl FnOnce(&mut Vec<u8>),
    ) {
        let payload = message.payload;
        let total = headers.len() + payload.len();
        let write_head = |out: &mut Vec<u8>| {
            write_line(out);
            out.extend_from_slice(headers);
        };
        if let Some(shared) = self.shared.clone() {
            self.settle_if_for(outbox);
            let appended = outbox.append_shared(Counted::message(total), write_head, &shared, encode::CRLF);
            self.note(outbox, appended);
        } else if self.may_stage(outbox) {
            if let Some(staged) = &mut self.staged {
                let before = staged.buffer.len();
                grow_buffer(&mut staged.buffer);
                write_head(&mut staged.buffer);
                match cut(message, staged.buffer.len()) {
                    Some(cut) => staged.cuts.push(cut),
                    None => staged.buffer.extend_from_slice(payload),
                }
                staged.buffer.extend_from_slice(encode::CRLF);
                staged.counted.messages += 1;
                staged.counted.bytes += total as u64;
                // Another one like this would not fit any more.
                if staged.buffer.len() * 2 - before > BUFFER_BYTES {
                    self.settle();
                }
            }
        } else {
            let appended = outbox.append(Counted::message(total), |out| {
                write_head(out);
                out.extend_from_slice(payload);
                out.extend_from_slice(encode::CRLF);
            });
            self.note(outbox, appended);
        }
    }

    /// The first receiver after a flush gets its messages through a buffer of our own, without a lock each.
    fn may_stage(&mut self, outbox: &Arc<Outbox>) -> bool {
        match &self.staged {
            Some(staged) => Arc::ptr_eq(&staged.outbox, outbox),
            None if outbox.id() == self.own_outbox => false,
            None => {
                self.staged = Some(Staged {
                    outbox: Arc::clone(outbox),
                    buffer: take_buffer(),
                    cuts: std::mem::take(&mut self.cuts),
                    counted: Counted::NOTHING,
                });
                true
            }
        }
    }

    fn settle_if_for(&mut self, outbox: &Arc<Outbox>) {
        if self.staged.as_ref().is_some_and(|staged| Arc::ptr_eq(&staged.outbox, outbox)) {
            self.settle();
        }
    }

    fn settle(&mut self) {
        if let Some(mut staged) = self.staged.take() {
            let outbox = &staged.outbox;
            let appended = if staged.cuts.is_empty() {
                outbox.append_buffer(staged.counted, &mut staged.buffer)
            } else {
                outbox.append_rope(staged.counted, &mut staged.buffer, &mut staged.cuts)
            };
            give_buffer(staged.buffer);
            self.cuts = staged.cuts;
            self.note(&staged.outbox, appended);
        }
    }

    fn note(&mut self, outbox: &Arc<Outbox>, appended: Appended) {
        let pressure = match appended {
            Appended::Closed => return,
            Appended::Ok(pressure) => pressure,
            Appended::MustFlush(pressure) => {
                self.touched.push(Arc::clone(outbox));
                pressure
            }
        };
        if outbox.id() == self.own_outbox {
            return;
        }
        match pressure {
            Pressure::Low => self.is_moving = true,
            Pressure::Stuck => self.has_stuck = true,
            Pressure::Behind | Pressure::Crowded | Pressure::CrowdedAndStuck => {
                let urgency = Urgency::of(pressure);
                if self.held.as_ref().is_none_or(|(_, known)| *known < urgency) {
                    self.held = Some((Arc::clone(outbox), urgency));
                }
            }
        }
    }

    fn flush(&mut self, may_defer: bool) {
        self.settle();
        self.settle_routed();
        if self.touched.is_empty() || (may_defer && deferred::defer(&mut self.touched)) {
            return;
        }
        if self.touched.len() <= INLINE_FLUSHES {
            for outbox in self.touched.drain(..) {
                outbox.flush();
            }
        } else {
            for outbox in self.touched.drain(..) {
                outbox.wake();
            }
        }
    }

    fn random_below(&mut self, bound: usize) -> usize {
        self.random_wide() as usize % bound
    }

    pub(crate) fn random_number(&mut self) -> u32 {
        (self.random_wide() >> 16) as u32
    }

    /// 53 random bits.
    pub(crate) fn random_wide(&mut self) -> u64 {
        // xorshift64: cheap, and good enough to spread work.
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        self.random >> 11
    }
}

/// The payload as a part of what was read, when it is large enough for that.
fn cut(message: &Message<'_>, at: usize) -> Option<Cut> {
    let source = message.source.filter(|_| message.payload.len() >= SLICE_BYTES)?;
    let from = message.payload.as_ptr().addr().checked_sub(source.as_ptr().addr())?;
    let to = from + message.payload.len();
    (to <= source.len()).then(|| Cut { at, source: Arc::clone(source), from, to })
}

fn is_own_echo(subscription: &Subscription, origin: Origin, echo: bool) -> bool {
    !echo && matches!(origin, Origin::Client { id } if subscription.is_client(id))
}

/// How many members of a group another server has, not counting those of its leaf nodes.
fn weight_of(member: &Subscription) -> usize {
    match &member.target {
        Target::Peer { weight, is_leaf: false, .. } => weight.load(Ordering::Relaxed) as usize,
        _ => 0,
    }
}

/// The server that has the member at this place, counted over all servers.
fn member_at(group: &QueueGroup, mut place: usize) -> Option<&Arc<dyn Peer>> {
    for member in &group.remote {
        let weight = weight_of(member);
        if place < weight
            && let Target::Peer { peer, .. } = &member.target
        {
            return Some(peer);
        }
        place = place.saturating_sub(weight);
    }
    None
}

fn leaf_member(group: &QueueGroup) -> Option<&Arc<dyn Peer>> {
    group.remote.iter().find_map(|member| match &member.target {
        Target::Peer { peer, is_leaf: true, .. } => Some(peer),
        _ => None,
    })
}
