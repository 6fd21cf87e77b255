//! Imports and exports inside one process, with internal subscriptions. Not the wire.

use crate::account::{Account, InternalSubscription};
use crate::account_settings::{
    AccountSettings, ExchangeKind, Export, ExportAccess, Import, MappingConfig, MappingDestination,
    ResponseType,
};
use crate::auth::OpenDoor;
use crate::hub::Hub;
use crate::options::{HubOptions, Limits};
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::sync::Arc;

fn export(kind: ExchangeKind, subject: &str) -> Export {
    Export {
        kind,
        subject: subject.to_owned(),
        access: ExportAccess::default(),
        response_type: ResponseType::Singleton,
        response_threshold: None,
        latency: None,
        allow_trace: false,
    }
}

fn import(kind: ExchangeKind, account: &str, subject: &str, to: Option<&str>) -> Import {
    Import {
        kind,
        account: account.to_owned(),
        subject: subject.to_owned(),
        to: to.map(str::to_owned),
        prefix: None,
        share: false,
        allow_trace: false,
        activation: None,
    }
}

fn accounts(list: &[(&str, Vec<Export>, Vec<Import>)]) -> BTreeMap<String, AccountSettings> {
    let settings = |exports: &Vec<Export>, imports: &Vec<Import>| AccountSettings {
        exports: exports.clone(),
        imports: imports.clone(),
        ..AccountSettings::default()
    };
    list.iter().map(|(name, exports, imports)| ((*name).to_owned(), settings(exports, imports))).collect()
}

fn hub(list: &[(&str, Vec<Export>, Vec<Import>)]) -> Arc<Hub> {
    let hub = Hub::new(HubOptions::default(), Limits::default(), Arc::new(OpenDoor));
    hub.configure_accounts(accounts(list));
    hub
}

type Heard = Arc<Mutex<Vec<String>>>;

/// Subscribes and notes `subject reply payload` of each message.
fn listen(account: &Arc<Account>, subject: &str) -> (InternalSubscription, Heard) {
    let heard = Heard::default();
    let notes = Arc::clone(&heard);
    let subscription = account.subscribe_internal(
        subject,
        None,
        Arc::new(move |message| {
            let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
            let reply = message.reply.map(text).unwrap_or_default();
            notes.lock().push(format!("{} {reply} {}", text(message.subject), text(message.payload)));
        }),
    );
    (subscription, heard)
}

/// Serves `subject` by publishing `answers` to each request's reply.
fn serve(account: &Arc<Account>, subject: &str, answers: &'static [&'static str]) -> InternalSubscription {
    account.subscribe_internal(
        subject,
        None,
        Arc::new(move |message| {
            for answer in answers {
                if let Some(reply) = message.reply {
                    message.account.publish(reply, None, b"", answer.as_bytes());
                }
            }
        }),
    )
}

#[test]
fn a_streams_messages_appear_where_it_is_imported() {
    let stream = ExchangeKind::Stream;
    for (to, listened, published, appears) in [
        (None, "orders.*", "orders.new", Some("orders.new  x")),
        (Some("in.$1"), "in.*", "orders.new", Some("in.new  x")),
        (Some("in.$1"), "in.new", "orders.new", Some("in.new  x")),
        (Some("in.$1"), "in.old", "orders.new", None),
        (Some("in.$1"), ">", "orders.new", Some("in.new  x")),
        (Some("in.$1"), "*.new", "orders.new", Some("in.new  x")),
        (Some("in.$1"), "orders.new", "orders.new", None),
    ] {
        let hub = hub(&[
            ("A", vec![export(stream, "orders.*")], vec![]),
            ("B", vec![], vec![import(stream, "A", "orders.*", to)]),
        ]);
        let (a, b) = (hub.ensure_account("A"), hub.ensure_account("B"));
        let (subscription, heard) = listen(&b, listened);
        a.publish(published.as_bytes(), None, b"", b"x");
        let expected: Vec<_> = appears.map(str::to_owned).into_iter().collect();
        assert_eq!(*heard.lock(), expected, "{to:?} {listened}");
        drop(subscription);
        assert!(!a.has_interest(published.as_bytes()), "{to:?} {listened}");
    }
}

#[test]
fn a_request_reaches_its_service_and_the_response_its_requester() {
    let service = ExchangeKind::Service;
    let hub = hub(&[
        ("A", vec![export(service, "svc.*")], vec![]),
        ("B", vec![], vec![import(service, "A", "svc.*", Some("my.$1"))]),
    ]);
    let (a, b) = (hub.ensure_account("A"), hub.ensure_account("B"));
    let _service = serve(&a, "svc.time", &["one", "two"]);
    let (_inbox, heard) = listen(&b, "inbox");
    assert_eq!(b.publish(b"my.time", Some(b"inbox"), b"", b"?"), 1);
    assert_eq!(*heard.lock(), ["inbox  one"], "a singleton answers once");
    assert_eq!(a.exchange().responses.len(), 0);
    assert_eq!(b.publish(b"my.date", Some(b"inbox"), b"", b"?"), 0, "nobody serves this");
    assert_eq!(a.exchange().responses.len(), 0);
    assert!(a.publish(b"svc.time", None, b"", b"") > 0 && b.publish(b"svc.time", None, b"", b"") == 0);
}

#[test]
fn a_chunked_response_ends_with_an_empty_message() {
    let service = ExchangeKind::Service;
    let chunked = Export { response_type: ResponseType::Chunked, ..export(service, "svc") };
    let hub = hub(&[("A", vec![chunked], vec![]), ("B", vec![], vec![import(service, "A", "svc", None)])]);
    let (a, b) = (hub.ensure_account("A"), hub.ensure_account("B"));
    let _service = serve(&a, "svc", &["one", "two", "", "late"]);
    let (_inbox, heard) = listen(&b, "inbox");
    b.publish(b"svc", Some(b"inbox"), b"", b"?");
    assert_eq!(*heard.lock(), ["inbox  one", "inbox  two", "inbox  "]);
    assert_eq!(a.exchange().responses.len(), 0);
}

#[test]
fn a_response_is_not_awaited_when_its_requester_is_gone() {
    let service = ExchangeKind::Service;
    let hub = hub(&[
        ("A", vec![export(service, "svc")], vec![]),
        ("B", vec![], vec![import(service, "A", "svc", None)]),
    ]);
    let (a, b) = (hub.ensure_account("A"), hub.ensure_account("B"));
    let (_service, requests) = listen(&a, "svc");
    let (inbox, _) = listen(&b, "_INBOX.x.*");
    b.publish(b"svc", Some(b"_INBOX.x.1"), b"", b"?");
    assert_eq!(a.exchange().responses.len(), 1);
    assert!(requests.lock()[0].starts_with("svc _R_."), "{:?}", requests.lock());
    drop(inbox);
    assert_eq!(a.exchange().responses.len(), 0);
}

#[test]
fn an_import_of_an_import_leads_on() {
    let service = ExchangeKind::Service;
    let hub = hub(&[
        ("A", vec![export(service, "a")], vec![]),
        ("B", vec![export(service, "b")], vec![import(service, "A", "a", Some("b"))]),
        ("C", vec![], vec![import(service, "B", "b", Some("c"))]),
    ]);
    let (a, c) = (hub.ensure_account("A"), hub.ensure_account("C"));
    let _service = serve(&a, "a", &["yes"]);
    let (_inbox, heard) = listen(&c, "inbox");
    assert_eq!(c.publish(b"c", Some(b"inbox"), b"", b"?"), 1);
    assert_eq!(*heard.lock(), ["inbox  yes"]);
}

#[test]
fn an_account_that_changes_takes_its_importers_along() {
    let service = ExchangeKind::Service;
    let list =
        [("A", vec![export(service, "svc")], vec![]), ("B", vec![], vec![import(service, "A", "svc", None)])];
    let hub = hub(&list);
    let (a, b) = (hub.ensure_account("A"), hub.ensure_account("B"));
    let _service = serve(&a, "svc", &["yes"]);
    let (_inbox, heard) = listen(&b, "inbox");
    hub.configure_account("A", AccountSettings::default());
    assert_eq!(b.publish(b"svc", Some(b"inbox"), b"", b"?"), 0);
    hub.configure_accounts(accounts(&list));
    assert_eq!(b.publish(b"svc", Some(b"inbox"), b"", b"?"), 1);
    assert_eq!(*heard.lock(), ["inbox  yes"]);
}

#[test]
fn a_mapping_applies_to_what_comes_through_an_import() {
    let service = ExchangeKind::Service;
    let mut list = accounts(&[
        ("A", vec![export(service, "svc")], vec![]),
        ("B", vec![], vec![import(service, "A", "svc", None)]),
    ]);
    let destination = MappingDestination { subject: "svc.v2".to_owned(), weight: 100, cluster: None };
    let mapping = MappingConfig { source: "svc".to_owned(), destinations: vec![destination] };
    list.entry("A".to_owned()).or_default().mappings.push(mapping);
    let hub = hub(&[]);
    hub.configure_accounts(list);
    let (a, b) = (hub.ensure_account("A"), hub.ensure_account("B"));
    let (_service, heard) = listen(&a, "svc.v2");
    assert_eq!(b.publish(b"svc", None, b"", b"?"), 1);
    assert_eq!(*heard.lock(), ["svc.v2  ?"]);
}

#[test]
fn what_nats_server_refuses_is_refused_in_its_words() {
    let (stream, service) = (ExchangeKind::Stream, ExchangeKind::Service);
    let private = |kind, subject: &str, names: &[&str]| {
        let accounts = Some(names.iter().map(|name| (*name).to_owned()).collect());
        Export { access: ExportAccess { accounts, ..ExportAccess::default() }, ..export(kind, subject) }
    };
    for (list, reason) in [
        (
            vec![("A", vec![], vec![]), ("B", vec![], vec![import(service, "A", "svc", None)])],
            "Error adding service import \"svc\": service import not authorized",
        ),
        (
            vec![("B", vec![], vec![import(stream, "A", "s", None)])],
            "\"A\" account not defined for stream import",
        ),
        (
            vec![
                ("A", vec![private(stream, "s", &["C"])], vec![]),
                ("B", vec![], vec![import(stream, "A", "s", None)]),
                ("C", vec![], vec![]),
            ],
            "Error adding stream import \"s\": stream import not authorized",
        ),
        (
            vec![("A", vec![private(stream, "s", &["C"])], vec![])],
            "\"C\" account not defined for stream export",
        ),
        (
            vec![
                ("A", vec![export(service, "a")], vec![import(service, "B", "b", Some("a"))]),
                ("B", vec![export(service, "b")], vec![import(service, "A", "a", Some("b"))]),
            ],
            "Error adding service import \"a\": import forms a cycle",
        ),
        (
            vec![
                ("A", vec![export(stream, "s")], vec![]),
                ("B", vec![], vec![import(stream, "A", "s", None), import(stream, "A", "s", Some("t"))]),
            ],
            "Error adding stream import \"s\": stream import already exists",
        ),
    ] {
        assert_eq!(super::check(&accounts(&list), None), Err(reason.to_owned()));
    }
}

#[test]
fn an_account_may_be_named_by_a_token() {
    let service = ExchangeKind::Service;
    let access = ExportAccess { account_token_position: 2, ..ExportAccess::default() };
    let export = Export { access, ..export(service, "svc.*") };
    let with = |subject| {
        super::check(
            &accounts(&[
                ("A", vec![export.clone()], vec![]),
                ("B", vec![], vec![import(service, "A", subject, None)]),
            ]),
            None,
        )
    };
    assert_eq!(with("svc.B"), Ok(()));
    assert!(with("svc.C").is_err() && with("svc.*").is_err());
}
