//! Certificates, requests and answers of OCSP as files: read, verified, and damaged in every byte.
//! `good.der` was written by the openssl program, the other answers by the responder of `e2e/lib/ocsp.py`.

use std::time::Duration;
use weir_net::ocsp::{Certificate, NotCurrent, Response, ResponseError, Status, request};

macro_rules! file {
    ($name:literal) => {
        include_bytes!(concat!("ocsp/", $name))
    };
}

const GOOD: &[u8] = file!("good.der");
const REVOKED: &[u8] = file!("revoked.der");
const BY_DELEGATE: &[u8] = file!("by-delegate.der");
const BY_STRANGER: &[u8] = file!("by-stranger.der");

fn authority() -> Certificate {
    Certificate::parse(file!("authority.der")).expect("a certificate")
}

fn leaf() -> Certificate {
    Certificate::parse(file!("leaf.der")).expect("a certificate")
}

fn other() -> Certificate {
    Certificate::parse(file!("other.der")).expect("a certificate")
}

#[test]
fn a_certificate_says_where_to_ask_and_what_it_promises() {
    let (leaf, authority) = (leaf(), authority());
    assert_eq!(leaf.responders, ["http://127.0.0.1:1/ocsp"]);
    assert!(leaf.must_staple && !leaf.is_authority && leaf.is_signed_by(&authority));
    assert!(authority.is_authority && !authority.must_staple && authority.responders.is_empty());
    assert!(!leaf.is_signed_by(&other()));
}

#[test]
fn requests_are_those_of_the_openssl_program() {
    assert_eq!(request(&leaf(), &authority()).expect("encoded"), file!("request.der"));
}

#[test]
fn answers_are_read_and_verified() {
    let read = |answer| Response::parse(answer, &leaf(), &authority());
    let good = read(GOOD).expect("valid");
    assert_eq!(good.status, Status::Good);
    assert_eq!(good.next_update, Some(good.this_update + 7 * 24 * 3600));
    assert!(good.is_authorized(&authority()));
    assert_eq!(read(REVOKED).expect("valid").status, Status::Revoked);
    assert!(read(BY_DELEGATE).expect("valid").is_authorized(&authority()));
    assert!(!read(BY_STRANGER).expect("valid").is_authorized(&authority()));
}

#[test]
fn answers_about_others_and_from_others_are_refused() {
    let about_another = Response::parse(GOOD, &other(), &authority());
    assert_eq!(about_another, Err(ResponseError::NoMatch));
    let from_another = Response::parse(GOOD, &leaf(), &other());
    assert!(from_another.is_err());
}

#[test]
fn an_answer_counts_in_its_time() {
    let good = Response::parse(GOOD, &leaf(), &authority()).expect("valid");
    let end = good.next_update.expect("an end");
    let (skew, ttl) = (Duration::from_secs(30), Duration::from_secs(3600));
    let at = |seconds| good.check_current(Duration::from_secs(seconds), skew, ttl);
    assert_eq!(at(end + 30), Ok(()));
    assert_eq!(at(end + 31), Err(NotCurrent::Expired(end)));
    assert_eq!(at(good.this_update - 30), Ok(()));
    assert_eq!(at(good.this_update - 31), Err(NotCurrent::Future(good.this_update)));
    let mut endless = good.clone();
    endless.next_update = None;
    let late = Duration::from_secs(good.this_update) + ttl + skew + Duration::from_secs(1);
    assert_eq!(endless.check_current(late, skew, ttl), Err(NotCurrent::TtlExpired(good.this_update + 3600)));
    assert_eq!(endless.check_current(Duration::MAX, Duration::MAX, Duration::MAX), Ok(()));
}

#[test]
fn a_damaged_answer_says_nothing_else() {
    let (leaf, authority) = (leaf(), authority());
    for answer in [GOOD, REVOKED, BY_DELEGATE] {
        let whole = Response::parse(answer, &leaf, &authority).expect("valid");
        for at in 0..answer.len() {
            let mut damaged = answer.to_vec();
            damaged[at] ^= 0x41;
            // What is not signed may change: the certificate of a delegate, the wrapping.
            if let Ok(read) = Response::parse(&damaged, &leaf, &authority) {
                assert_eq!((read.status, read.next_update), (whole.status, whole.next_update), "byte {at}");
            }
            assert!(Response::parse(&answer[..at], &leaf, &authority).is_err(), "cut at {at}");
        }
    }
}

#[test]
fn damaged_certificates_are_no_danger() {
    let whole = file!("leaf.der");
    for at in 0..whole.len() {
        let mut damaged = whole.to_vec();
        damaged[at] ^= 0xff;
        if let Ok(read) = Certificate::parse(&damaged) {
            let _ = request(&read, &read);
            let _ = read.is_signed_by(&authority());
        }
    }
}
