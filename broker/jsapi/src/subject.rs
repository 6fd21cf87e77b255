//! Subjects of the JetStream API: parsing what a request asks for, and building the ones the server uses.

/// Prefix of API requests.
pub const API_PREFIX: &str = "$JS.API.";
/// Prefix of the subjects that acknowledge messages.
pub const ACK_PREFIX: &str = "$JS.ACK.";
/// Prefix of flow-control replies.
pub const FLOW_CONTROL_PREFIX: &str = "$JS.FC.";
/// Prefix of advisories.
pub const ADVISORY_PREFIX: &str = "$JS.EVENT.ADVISORY.";

/// A request by its subject. Names are as they stand in the subject, unchecked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ApiRequest<'a> {
    AccountInfo,
    StreamCreate(&'a str),
    StreamUpdate(&'a str),
    StreamInfo(&'a str),
    StreamDelete(&'a str),
    StreamPurge(&'a str),
    StreamNames,
    StreamList,
    StreamMsgGet(&'a str),
    StreamMsgDelete(&'a str),
    StreamSnapshot(&'a str),
    StreamRestore(&'a str),
    StreamLeaderStepDown(&'a str),
    StreamPeerRemove(&'a str),
    StreamPeerEvacuate(&'a str),
    StreamCancelMove(&'a str),
    /// `CONSUMER.CREATE.S` (ephemeral by request), `.S.C` and `.S.C.filter`.
    ConsumerCreate {
        stream: &'a str,
        name: Option<&'a str>,
        filter: Option<&'a str>,
    },
    ConsumerDurableCreate {
        stream: &'a str,
        name: &'a str,
    },
    ConsumerNames(&'a str),
    ConsumerList(&'a str),
    ConsumerInfo {
        stream: &'a str,
        name: &'a str,
    },
    ConsumerDelete {
        stream: &'a str,
        name: &'a str,
    },
    ConsumerPause {
        stream: &'a str,
        name: &'a str,
    },
    ConsumerUnpin {
        stream: &'a str,
        name: &'a str,
    },
    ConsumerReset {
        stream: &'a str,
        name: &'a str,
    },
    ConsumerNext {
        stream: &'a str,
        name: &'a str,
    },
    ConsumerLeaderStepDown {
        stream: &'a str,
        name: &'a str,
    },
    ConsumerPeerRemove {
        stream: &'a str,
        name: &'a str,
    },
    ConsumerPeerEvacuate {
        stream: &'a str,
        name: &'a str,
    },
    /// `DIRECT.GET.S` and `DIRECT.GET.S.subject` (last by subject).
    DirectGet {
        stream: &'a str,
        last_by_subject: Option<&'a str>,
    },
    MetaLeaderStepDown,
    MetaRescue,
    ServerRemove,
    ServerEvacuate,
    AccountPurge(&'a str),
    AccountStreamMove {
        account: &'a str,
        stream: &'a str,
    },
    AccountStreamCancelMove {
        account: &'a str,
        stream: &'a str,
    },
}

/// Reads an API subject (with its `$JS.API.` prefix). `None`: no such request.
pub fn parse(subject: &str) -> Option<ApiRequest<'_>> {
    let rest = subject.strip_prefix(API_PREFIX)?;
    if rest == "INFO" {
        return Some(ApiRequest::AccountInfo);
    }
    let (area, rest) = rest.split_once('.')?;
    match area {
        "STREAM" => parse_stream(rest),
        "CONSUMER" => parse_consumer(rest),
        "DIRECT" => {
            let rest = rest.strip_prefix("GET.")?;
            let (stream, last_by_subject) = optional(rest);
            Some(ApiRequest::DirectGet { stream, last_by_subject })
        }
        "META" if rest == "LEADER.STEPDOWN" => Some(ApiRequest::MetaLeaderStepDown),
        "META" if rest == "RESCUE" => Some(ApiRequest::MetaRescue),
        "SERVER" if rest == "REMOVE" => Some(ApiRequest::ServerRemove),
        "SERVER" if rest == "EVACUATE" => Some(ApiRequest::ServerEvacuate),
        "ACCOUNT" => parse_account(rest),
        _ => None,
    }
}

fn parse_account(rest: &str) -> Option<ApiRequest<'_>> {
    if let Some(account) = rest.strip_prefix("PURGE.") {
        return one(account).map(ApiRequest::AccountPurge);
    }
    let (verb, rest) = rest.strip_prefix("STREAM.")?.split_once('.')?;
    let (account, stream) = two(rest)?;
    match verb {
        "MOVE" => Some(ApiRequest::AccountStreamMove { account, stream }),
        "CANCEL_MOVE" => Some(ApiRequest::AccountStreamCancelMove { account, stream }),
        _ => None,
    }
}

/// One token, then whatever follows the dot.
fn optional(text: &str) -> (&str, Option<&str>) {
    text.split_once('.').map_or((text, None), |(first, rest)| (first, Some(rest)))
}

fn one(text: &str) -> Option<&str> {
    (!text.is_empty() && !text.contains('.')).then_some(text)
}

fn two(text: &str) -> Option<(&str, &str)> {
    let (stream, name) = text.split_once('.')?;
    Some((one(stream)?, one(name)?))
}

fn parse_stream(rest: &str) -> Option<ApiRequest<'_>> {
    match rest {
        "NAMES" => return Some(ApiRequest::StreamNames),
        "LIST" => return Some(ApiRequest::StreamList),
        _ => {}
    }
    let (verb, rest) = rest.split_once('.')?;
    Some(match verb {
        "CREATE" => ApiRequest::StreamCreate(one(rest)?),
        "UPDATE" => ApiRequest::StreamUpdate(one(rest)?),
        "INFO" => ApiRequest::StreamInfo(one(rest)?),
        "DELETE" => ApiRequest::StreamDelete(one(rest)?),
        "PURGE" => ApiRequest::StreamPurge(one(rest)?),
        "SNAPSHOT" => ApiRequest::StreamSnapshot(one(rest)?),
        "RESTORE" => ApiRequest::StreamRestore(one(rest)?),
        "MSG" => match rest.split_once('.')? {
            ("GET", stream) => ApiRequest::StreamMsgGet(one(stream)?),
            ("DELETE", stream) => ApiRequest::StreamMsgDelete(one(stream)?),
            _ => return None,
        },
        "LEADER" => ApiRequest::StreamLeaderStepDown(one(rest.strip_prefix("STEPDOWN.")?)?),
        "PEER" => match rest.split_once('.')? {
            ("REMOVE", stream) => ApiRequest::StreamPeerRemove(one(stream)?),
            ("EVACUATE", stream) => ApiRequest::StreamPeerEvacuate(one(stream)?),
            _ => return None,
        },
        "CANCEL_MOVE" => ApiRequest::StreamCancelMove(one(rest)?),
        _ => return None,
    })
}

fn parse_consumer(rest: &str) -> Option<ApiRequest<'_>> {
    let (verb, rest) = rest.split_once('.')?;
    Some(match verb {
        "CREATE" => {
            let (stream, rest) = optional(rest);
            let (name, filter) = rest.map_or((None, None), |rest| {
                let (name, filter) = optional(rest);
                (Some(name), filter)
            });
            ApiRequest::ConsumerCreate { stream, name, filter }
        }
        "NAMES" => ApiRequest::ConsumerNames(one(rest)?),
        "LIST" => ApiRequest::ConsumerList(one(rest)?),
        "DURABLE" => {
            let (stream, name) = two(rest.strip_prefix("CREATE.")?)?;
            ApiRequest::ConsumerDurableCreate { stream, name }
        }
        "MSG" => {
            let (stream, name) = two(rest.strip_prefix("NEXT.")?)?;
            ApiRequest::ConsumerNext { stream, name }
        }
        "LEADER" => {
            let (stream, name) = two(rest.strip_prefix("STEPDOWN.")?)?;
            ApiRequest::ConsumerLeaderStepDown { stream, name }
        }
        "PEER" => {
            let (verb, rest) = rest.split_once('.')?;
            let (stream, name) = two(rest)?;
            match verb {
                "REMOVE" => ApiRequest::ConsumerPeerRemove { stream, name },
                "EVACUATE" => ApiRequest::ConsumerPeerEvacuate { stream, name },
                _ => return None,
            }
        }
        verb => {
            let (stream, name) = two(rest)?;
            match verb {
                "INFO" => ApiRequest::ConsumerInfo { stream, name },
                "DELETE" => ApiRequest::ConsumerDelete { stream, name },
                "PAUSE" => ApiRequest::ConsumerPause { stream, name },
                "UNPIN" => ApiRequest::ConsumerUnpin { stream, name },
                "RESET" => ApiRequest::ConsumerReset { stream, name },
                _ => return None,
            }
        }
    })
}

impl ApiRequest<'_> {
    /// The response type, one of [`crate::response::kind`]; empty for requests whose replies are not JSON.
    pub fn response_kind(&self) -> &'static str {
        use crate::response::kind;
        match self {
            Self::AccountInfo => kind::ACCOUNT_INFO,
            Self::StreamCreate(_) => kind::STREAM_CREATE,
            Self::StreamUpdate(_) => kind::STREAM_UPDATE,
            Self::StreamInfo(_) => kind::STREAM_INFO,
            Self::StreamDelete(_) => kind::STREAM_DELETE,
            Self::StreamPurge(_) => kind::STREAM_PURGE,
            Self::StreamNames => kind::STREAM_NAMES,
            Self::StreamList => kind::STREAM_LIST,
            Self::StreamMsgGet(_) => kind::STREAM_MSG_GET,
            Self::StreamMsgDelete(_) => kind::STREAM_MSG_DELETE,
            Self::StreamSnapshot(_) => kind::STREAM_SNAPSHOT,
            Self::StreamRestore(_) => kind::STREAM_RESTORE,
            Self::StreamLeaderStepDown(_) => kind::STREAM_LEADER_STEPDOWN,
            Self::StreamPeerRemove(_) => kind::STREAM_REMOVE_PEER,
            Self::StreamPeerEvacuate(_) => kind::STREAM_EVACUATE_PEER,
            Self::StreamCancelMove(_) | Self::AccountStreamCancelMove { .. } => kind::STREAM_CANCEL_MOVE,
            Self::AccountStreamMove { .. } => kind::STREAM_UPDATE,
            Self::AccountPurge(_) => kind::ACCOUNT_PURGE,
            Self::ConsumerPeerRemove { .. } => kind::CONSUMER_REMOVE_PEER,
            Self::ConsumerPeerEvacuate { .. } => kind::CONSUMER_EVACUATE_PEER,
            Self::MetaRescue => kind::META_RESCUE,
            Self::ServerEvacuate => kind::META_SERVER_EVACUATE,
            Self::ConsumerCreate { .. } | Self::ConsumerDurableCreate { .. } => kind::CONSUMER_CREATE,
            Self::ConsumerNames(_) => kind::CONSUMER_NAMES,
            Self::ConsumerList(_) => kind::CONSUMER_LIST,
            Self::ConsumerInfo { .. } => kind::CONSUMER_INFO,
            Self::ConsumerDelete { .. } => kind::CONSUMER_DELETE,
            Self::ConsumerPause { .. } => kind::CONSUMER_PAUSE,
            Self::ConsumerUnpin { .. } => kind::CONSUMER_UNPIN,
            Self::ConsumerReset { .. } => kind::CONSUMER_RESET,
            Self::ConsumerLeaderStepDown { .. } => kind::CONSUMER_LEADER_STEPDOWN,
            Self::MetaLeaderStepDown => kind::META_LEADER_STEPDOWN,
            Self::ServerRemove => kind::META_SERVER_REMOVE,
            Self::ConsumerNext { .. } | Self::DirectGet { .. } => "",
        }
    }
}

/// A message acknowledgement's subject, `$JS.ACK....`, either form.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AckSubject<'a> {
    pub stream: &'a str,
    pub consumer: &'a str,
    pub delivery_count: u64,
    pub stream_seq: u64,
    pub consumer_seq: u64,
    pub timestamp: i64,
    pub pending: u64,
}

/// Reads `$JS.ACK.<stream>.<consumer>.<dc>.<sseq>.<cseq>.<ts>.<pending>` (v1, 9 tokens) or
/// `$JS.ACK.<domain>.<account>.<stream>....<pending>[.<random>]` (v2, 11 tokens or more).
pub fn parse_ack(subject: &str) -> Option<AckSubject<'_>> {
    let rest = subject.strip_prefix(ACK_PREFIX)?;
    let skip = match rest.split('.').count() {
        7 => 0,
        count if count >= 9 => 2,
        _ => return None,
    };
    let mut tokens = rest.split('.').skip(skip);
    let (stream, consumer) = (tokens.next()?, tokens.next()?);
    let mut number = || tokens.next()?.parse::<u64>().ok();
    Some(AckSubject {
        stream,
        consumer,
        delivery_count: number()?,
        stream_seq: number()?,
        consumer_seq: number()?,
        timestamp: i64::try_from(number()?).ok()?,
        pending: number()?,
    })
}

/// The consumer that `$JS.FC.<stream>.<consumer>.<random>` (v1) or
/// `$JS.FC.<domain>.<account>.<stream>.<consumer>.<random>` (v2) is for; empty for any other subject.
pub fn flow_control_consumer(subject: &str) -> &str {
    let Some(rest) = subject.strip_prefix(FLOW_CONTROL_PREFIX) else { return "" };
    let at = if rest.split('.').count() == 3 { 1 } else { 3 };
    rest.split('.').nth(at).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flow_control_names_its_consumer_in_either_form() {
        assert_eq!(flow_control_consumer("$JS.FC.S.C.abcd"), "C");
        assert_eq!(flow_control_consumer("$JS.FC._.HASH.S.C.abcd"), "C");
        assert_eq!(flow_control_consumer("$JS.FC.S"), "");
        assert_eq!(flow_control_consumer("$JS.ACK.S.C.1.2.3.4.5"), "");
    }

    #[test]
    fn requests_are_read_from_their_subjects() {
        let cases = [
            ("$JS.API.INFO", Some(ApiRequest::AccountInfo)),
            ("$JS.API.STREAM.CREATE.S", Some(ApiRequest::StreamCreate("S"))),
            ("$JS.API.STREAM.MSG.GET.S", Some(ApiRequest::StreamMsgGet("S"))),
            ("$JS.API.STREAM.CREATE.S.T", None),
            (
                "$JS.API.CONSUMER.CREATE.S",
                Some(ApiRequest::ConsumerCreate { stream: "S", name: None, filter: None }),
            ),
            (
                "$JS.API.CONSUMER.CREATE.S.C.a.>",
                Some(ApiRequest::ConsumerCreate { stream: "S", name: Some("C"), filter: Some("a.>") }),
            ),
            ("$JS.API.CONSUMER.MSG.NEXT.S.C", Some(ApiRequest::ConsumerNext { stream: "S", name: "C" })),
            (
                "$JS.API.DIRECT.GET.KV_b.$KV.b.k",
                Some(ApiRequest::DirectGet { stream: "KV_b", last_by_subject: Some("$KV.b.k") }),
            ),
            (
                "$JS.API.CONSUMER.PEER.REMOVE.S.C",
                Some(ApiRequest::ConsumerPeerRemove { stream: "S", name: "C" }),
            ),
            ("$JS.API.STREAM.PEER.EVACUATE.S", Some(ApiRequest::StreamPeerEvacuate("S"))),
            ("$JS.API.ACCOUNT.PURGE.A", Some(ApiRequest::AccountPurge("A"))),
            (
                "$JS.API.ACCOUNT.STREAM.MOVE.A.S",
                Some(ApiRequest::AccountStreamMove { account: "A", stream: "S" }),
            ),
            ("$JS.API.ACCOUNT.STREAM.MOVE.A", None),
            ("$JS.API.FOO", None),
            ("$JS.API.", None),
        ];
        for (subject, expected) in cases {
            assert_eq!(parse(subject), expected, "{subject}");
        }
    }

    #[test]
    fn both_forms_of_ack_subjects_are_read() {
        let expected = AckSubject {
            stream: "S",
            consumer: "C",
            delivery_count: 1,
            stream_seq: 2,
            consumer_seq: 3,
            timestamp: 4,
            pending: 5,
        };
        assert_eq!(parse_ack("$JS.ACK.S.C.1.2.3.4.5"), Some(expected));
        assert_eq!(parse_ack("$JS.ACK._.HASH.S.C.1.2.3.4.5"), Some(expected));
        assert_eq!(parse_ack("$JS.ACK._.HASH.S.C.1.2.3.4.5.random"), Some(expected));
        for bad in ["$JS.ACK.S.C.1.2.3.4", "$JS.ACK.S.C.x.2.3.4.5", "$JS.FC.S.C", "$JS.ACK.S.C.1.2.3.4.5.6"] {
            assert_eq!(parse_ack(bad), None, "{bad}");
        }
    }
}
