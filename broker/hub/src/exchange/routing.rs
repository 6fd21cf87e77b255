//! The way of a message into another account: requests through imported services, their responses back,
//! messages of imported streams. Not the delivery inside an account (see `ingress`).

use super::Mapped;
use super::headers::set_header;
use super::latency::{Outcome, Tracking, measure, publish, tell};
use super::remote_latency::{self, is_measured};
use super::request_info::{REQUEST_INFO, Step};
use super::responses::{self, Ended, Response};
use super::sampling;
use super::service::{ServiceExport, ServiceImport, is_same_export};
use super::stream::Shadow;
use crate::account::Account;
use crate::account_settings::ResponseType;
use crate::ingress::{Audience, Delivery, Message};
use crate::message::Origin;
use crate::message_trace::{DESTINATION, DISABLED, MessageTrace};
use crate::subscription::{Subscription, Target};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// Replies of acknowledgements keep their subject: it says what is acknowledged.
const ACK_PREFIX: &[u8] = b"$JS.ACK.";
/// So many imports one message goes through at most.
const MAX_CHAIN: usize = 32;

/// One import that a message is going through right now.
pub(crate) struct Passed {
    export: Option<Arc<ServiceExport>>,
    pub(super) share: bool,
}

/// What becomes of a message's trace at an imported service.
enum Crossing {
    /// The message was for the trace only, which ends here.
    Stopped,
    On {
        headers: Vec<u8>,
        /// The trace, when the message goes on without it.
        trace: Option<Box<MessageTrace>>,
        renamed: Option<Renamed>,
    },
}

/// A trace whose destination is named as the exporting account needs it.
struct Renamed {
    destination: Vec<u8>,
    /// To how many servers the message had gone before.
    hops: u32,
    response: Arc<Response>,
}

impl Delivery {
    /// Hands a request to the account that serves it; tells whether anybody took it.
    pub(crate) fn request_service(
        &mut self,
        import: &Arc<ServiceImport>,
        importer: &Arc<Account>,
        message: &Message<'_>,
        origin: Origin,
    ) -> bool {
        // The requester's server has done this already.
        if matches!(origin, Origin::Route { .. }) || !self.may_pass(import.export.as_ref()) {
            return false;
        }
        let Some(exporter) = import.exporter.upgrade() else { return false };
        let tracking = self.tracking_of(import, message);
        let response = match message.reply {
            Some(reply) if !reply.starts_with(ACK_PREFIX) => {
                let Some(response) = self.expect_response(&exporter, importer, reply, import, tracking)
                else {
                    return false;
                };
                Some(response)
            }
            Some(_) => None,
            None => {
                if let Some(tracking) = &tracking {
                    tell(&exporter, tracking, crate::hub::now(), &Outcome::BadRequest);
                }
                None
            }
        };
        let to = import.subject_for(message.subject, || self.random_number());
        let to = self.mapped(&exporter, to);
        let step = Step {
            client: self.client.as_deref(),
            importer,
            earlier_shares: self.passed.last().map(|passed| passed.share),
            shares: import.share,
            to_system: exporter.name() == exporter.exchange().options.system_account,
            reply: message.reply,
        };
        let info = step.value(message.headers, &exporter.exchange().options);
        let headers = set_header(message.headers, REQUEST_INFO, &info);
        let reply = response.as_ref().map(|response| &*response.name).or(message.reply);
        let accounts = (importer, &exporter);
        let is_delivered = match self.cross(import, accounts, (message.subject, &to), headers) {
            Crossing::Stopped => false,
            Crossing::On { headers, trace, renamed } => {
                let forwarded = Message {
                    subject: &to,
                    shown: message.shown,
                    reply,
                    headers: &headers,
                    payload: message.payload,
                    source: message.source,
                };
                let passed = Passed { export: import.export.clone(), share: import.share };
                let is_delivered = self.pass(passed, &exporter, &forwarded, origin);
                self.uncross(&exporter, trace, renamed);
                is_delivered
            }
        };
        let only_traced = self.trace.as_ref().is_some_and(|trace| trace.only);
        if (!is_delivered || only_traced)
            && let Some(response) = &response
        {
            exporter.end_response(response, Ended::NotDelivered);
        }
        is_delivered
    }

    /// Hands a response back to the requester's account.
    pub(crate) fn respond(&mut self, exporter: &Arc<Account>, message: &Message<'_>, origin: Origin) {
        let Some(response) = exporter.exchange().responses.get(message.subject) else { return };
        let Some(importer) = response.importer.upgrade() else { return };
        if response.is_expired(crate::hub::now()) {
            return exporter.end_response(&response, Ended::TimedOut);
        }
        if !self.may_pass(response.export.as_ref()) {
            return;
        }
        // A reply of the response itself is answered the other way round.
        let back = match message.reply {
            Some(reply) if !reply.starts_with(ACK_PREFIX) => {
                let import = answer_import(&response);
                self.expect_response(&importer, exporter, reply, &import, None)
            }
            _ => None,
        };
        self.tell_latency(exporter, &response, origin);
        let to = self.mapped(&importer, response.to.to_vec());
        let reply = back.as_ref().map(|back| &*back.name).or(message.reply);
        let forwarded = Message {
            subject: &to,
            shown: message.shown,
            reply,
            headers: message.headers,
            payload: message.payload,
            source: message.source,
        };
        let passed = Passed { export: response.export.clone(), share: false };
        let is_delivered = self.pass(passed, &importer, &forwarded, origin);
        let is_last = response.response_type == ResponseType::Singleton
            || (message.headers.is_empty() && message.payload.is_empty());
        if !is_delivered {
            exporter.end_response(&response, Ended::NotDelivered);
            if let Some(back) = &back {
                importer.end_response(back, Ended::NotDelivered);
            }
        } else if is_last {
            exporter.end_response(&response, Ended::Answered);
        } else {
            response.last_used.store(crate::hub::now().as_nanos(), Ordering::Relaxed);
        }
    }

    /// Delivers a message of the exporting account to a subscription of an importing one.
    pub(crate) fn deliver_shadow(
        &mut self,
        shadow: &Shadow,
        subject: &[u8],
        message: &Message<'_>,
        origin: Origin,
    ) -> bool {
        // What came as a request is not exported again.
        if !self.passed.is_empty() {
            return false;
        }
        let Some(importer) = shadow.importer.upgrade() else { return false };
        let appears_as = shadow.import.subject_for(message.subject);
        let shown = message.shown.unwrap_or(&appears_as);
        let message = Message { shown: Some(shown), ..*message };
        let Some(trace) = &self.trace else {
            return self.deliver_plain(&shadow.subscription, &importer, &message, origin);
        };
        trace.exported(importer.name(), shown);
        if shadow.import.allow_trace {
            return self.deliver_traced(&shadow.subscription, subject, &importer, &message, origin);
        }
        if trace.only {
            return true;
        }
        let outer = self.trace.take();
        let is_delivered = self.deliver_plain(&shadow.subscription, &importer, &message, origin);
        self.trace = outer;
        is_delivered
    }

    /// Notes in the message's trace that it goes into another account, and what becomes of the trace there.
    fn cross(
        &mut self,
        import: &Arc<ServiceImport>,
        (importer, exporter): (&Arc<Account>, &Arc<Account>),
        (from, to): (&[u8], &[u8]),
        headers: Vec<u8>,
    ) -> Crossing {
        let Some(trace) = &self.trace else { return Crossing::On { headers, trace: None, renamed: None } };
        trace.imported(exporter.name(), from, to);
        if !import.allow_trace() {
            if trace.only {
                return Crossing::Stopped;
            }
            // It goes on untraced, on other servers as well.
            let headers = set_header(&headers, DESTINATION, DISABLED);
            return Crossing::On { headers, trace: self.trace.take(), renamed: None };
        }
        let (destination, hops) = (trace.destination().to_vec(), trace.hops());
        let Some(response) = self.expect_response(exporter, importer, &destination, import, None) else {
            return Crossing::Stopped;
        };
        let headers = set_header(&headers, DESTINATION, &response.name);
        if let Some(trace) = &mut self.trace {
            trace.rename_destination(response.name.to_vec());
        }
        Crossing::On { headers, trace: None, renamed: Some(Renamed { destination, hops, response }) }
    }

    /// Takes back what `cross` changed.
    fn uncross(
        &mut self,
        exporter: &Arc<Account>,
        trace: Option<Box<MessageTrace>>,
        renamed: Option<Renamed>,
    ) {
        if trace.is_some() {
            self.trace = trace;
        }
        let (Some(trace), Some(renamed)) = (&mut self.trace, renamed) else { return };
        trace.rename_destination(renamed.destination);
        // Other servers that got it tell their traces by the one-time subject, until it expires.
        if trace.hops() == renamed.hops {
            exporter.end_response(&renamed.response, Ended::Answered);
        }
    }

    fn may_pass(&self, export: Option<&Arc<ServiceExport>>) -> bool {
        self.passed.len() < MAX_CHAIN
            && !self.passed.iter().any(|passed| is_same_export(passed.export.as_ref(), export))
    }

    /// Routes in another account, with the import on record; tells whether anybody took it.
    fn pass(
        &mut self,
        passed: Passed,
        account: &Arc<Account>,
        message: &Message<'_>,
        origin: Origin,
    ) -> bool {
        let matched = account.interest().find(message.subject);
        if matched.is_empty() {
            return false;
        }
        let shared = self.shared.take();
        self.passed.push(passed);
        let deliveries = self.route(&matched, account, message, origin, true, Audience::Everyone);
        self.passed.pop();
        self.shared = shared;
        deliveries > 0
    }

    /// The subject after the account's own mappings.
    fn mapped(&mut self, account: &Account, subject: Vec<u8>) -> Vec<u8> {
        if !account.exchange().has_mappings() {
            return subject;
        }
        match account.exchange().map(&subject, || self.random_number()) {
            Mapped::To(to) => to,
            Mapped::Unchanged => subject,
        }
    }

    fn tracking_of(&mut self, import: &ServiceImport, message: &Message<'_>) -> Option<Tracking> {
        let latency = import.latency()?;
        let headers = sampling::sample(latency, message.headers, || self.random_number())?;
        Some(Tracking {
            subject: latency.subject.clone(),
            headers,
            requester: self.client.clone(),
            share: import.share,
        })
    }

    fn expect_response(
        &mut self,
        exporter: &Arc<Account>,
        importer: &Arc<Account>,
        reply: &[u8],
        import: &ServiceImport,
        tracking: Option<Tracking>,
    ) -> Option<Arc<Response>> {
        let now = crate::hub::now();
        let tracking = tracking.filter(|_| import.response_type() == ResponseType::Singleton);
        let suffix = match &tracking {
            Some(_) => remote_latency::suffix(&exporter.exchange().options.node),
            None => Vec::new(),
        };
        let added = exporter.exchange().responses.add(
            || self.random_wide(),
            &suffix,
            |name| Response {
                name,
                importer: Arc::downgrade(importer),
                to: reply.into(),
                export: import.export.clone(),
                response_type: import.response_type(),
                last_used: AtomicU64::new(now.as_nanos()),
                started: now,
                tracking,
                answered: AtomicBool::new(false),
            },
        )?;
        if let Some(pattern) = added.subscribe {
            exporter.subscribe(Arc::new(Subscription::new(&pattern, None, b"", Target::Responses)));
        }
        if added.sweep
            && let Ok(runtime) = tokio::runtime::Handle::try_current()
        {
            runtime.spawn(responses::sweep_until_idle(Arc::downgrade(exporter)));
        }
        importer.wait_for(exporter, reply, &added.response.name);
        Some(added.response)
    }

    fn tell_latency(&mut self, exporter: &Arc<Account>, response: &Response, origin: Origin) {
        let is_first = !response.answered.swap(true, Ordering::Relaxed);
        if let Some(tracking) = &response.tracking
            && is_first
        {
            let responder = self.client.as_deref().filter(|_| matches!(origin, Origin::Client { .. }));
            let metric = measure(exporter, tracking, response.started, &Outcome::Answered { responder });
            // The responder's server measures as well, if it knows that it is asked to.
            let is_remote = matches!(origin, Origin::Route { .. }) && is_measured(&response.name);
            let whole = if is_remote {
                exporter.exchange().halves.own(&response.name, metric, &tracking.subject)
            } else {
                Some(metric)
            };
            if let Some(metric) = whole {
                publish(exporter, tracking, &metric);
            }
        }
    }
}

/// What an answer to a response goes through: the same export, the other way.
fn answer_import(response: &Response) -> ServiceImport {
    ServiceImport {
        exporter_name: Box::default(),
        exporter: std::sync::Weak::new(),
        from: Box::default(),
        to: Box::default(),
        transform: None,
        keeps_subject: false,
        share: false,
        export: response.export.clone(),
    }
}
