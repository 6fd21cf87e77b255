//! The headers of a publish that the stream acts on, found in one scan of the block. Names match exactly and the first
//! of a name counts, as in nats-server. Not what the values mean.

use weir_jsapi::headers as names;

/// A header the stream acts on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Name {
    MsgId,
    ExpectedStream,
    ExpectedLastSequence,
    ExpectedLastSubjectSequence,
    ExpectedLastSubjectSequenceSubject,
    ExpectedLastMsgId,
    Rollup,
    Ttl,
    Increment,
    StreamSource,
    BatchId,
    BatchSequence,
    BatchCommit,
    RequiredApiLevel,
    Schedule,
    ScheduleTtl,
    ScheduleTarget,
    ScheduleSource,
    ScheduleRollup,
    ScheduleTimeZone,
    ScheduleNext,
    Scheduler,
}

const COUNT: usize = Name::Scheduler as usize + 1;

impl Name {
    const fn bit(self) -> u32 {
        1 << self as u32
    }

    /// All names begin with `Nats-`.
    fn of(text: &[u8]) -> Option<Self> {
        const TABLE: [(&str, Name); COUNT] = [
            (names::MSG_ID, Name::MsgId),
            (names::EXPECTED_STREAM, Name::ExpectedStream),
            (names::EXPECTED_LAST_SEQUENCE, Name::ExpectedLastSequence),
            (names::EXPECTED_LAST_SUBJECT_SEQUENCE, Name::ExpectedLastSubjectSequence),
            (names::EXPECTED_LAST_SUBJECT_SEQUENCE_SUBJECT, Name::ExpectedLastSubjectSequenceSubject),
            (names::EXPECTED_LAST_MSG_ID, Name::ExpectedLastMsgId),
            (names::ROLLUP, Name::Rollup),
            (names::MSG_TTL, Name::Ttl),
            (names::MSG_INCREMENT, Name::Increment),
            (names::STREAM_SOURCE, Name::StreamSource),
            (names::BATCH_ID, Name::BatchId),
            (names::BATCH_SEQUENCE, Name::BatchSequence),
            (names::BATCH_COMMIT, Name::BatchCommit),
            (names::REQUIRED_API_LEVEL, Name::RequiredApiLevel),
            (names::SCHEDULE, Name::Schedule),
            (names::SCHEDULE_TTL, Name::ScheduleTtl),
            (names::SCHEDULE_TARGET, Name::ScheduleTarget),
            (names::SCHEDULE_SOURCE, Name::ScheduleSource),
            (names::SCHEDULE_ROLLUP, Name::ScheduleRollup),
            (names::SCHEDULE_TIME_ZONE, Name::ScheduleTimeZone),
            (names::SCHEDULE_NEXT, Name::ScheduleNext),
            (names::SCHEDULER, Name::Scheduler),
        ];
        TABLE.iter().find(|(name, _)| name.as_bytes() == text).map(|&(_, name)| name)
    }
}

/// Where the values are, and a bit for each name that is there.
#[derive(Debug, Clone, Copy)]
pub(crate) struct PublishHeaders<'a> {
    mask: u32,
    values: [&'a [u8]; COUNT],
}

impl<'a> PublishHeaders<'a> {
    /// Those of no message.
    pub(crate) const NONE: Self = Self { mask: 0, values: [&[]; COUNT] };

    pub(crate) fn scan(block: &'a [u8]) -> Self {
        let mut found = Self::NONE;
        let mut lines = Lines { rest: block };
        // The first line is the version.
        lines.next();
        for line in lines {
            if !line.starts_with(b"Nats-") {
                continue;
            }
            let Some(colon) = line.iter().position(|&byte| byte == b':') else { continue };
            let (name, value) = line.split_at(colon);
            if let Some(name) = Name::of(name).filter(|name| found.mask & name.bit() == 0) {
                found.mask |= name.bit();
                found.values[name as usize] = without_blanks(&value[1..]);
            }
        }
        found
    }

    /// The value, which may be empty, of a header that is there.
    pub(crate) fn present(&self, name: Name) -> Option<&'a [u8]> {
        (self.mask & name.bit() != 0).then(|| self.values[name as usize])
    }

    /// The value; an empty one is none.
    pub(crate) fn get(&self, name: Name) -> Option<&'a [u8]> {
        self.present(name).filter(|value| !value.is_empty())
    }

    /// A value that is a number; anything else that is there is one that no sequence has.
    pub(crate) fn sequence(&self, name: Name) -> Option<u64> {
        self.get(name).map(|value| decimal(value).unwrap_or(u64::MAX))
    }

    /// Whether any header asks for something else than to be stored.
    pub(crate) fn is_plain(&self) -> bool {
        self.mask == 0
    }

    /// Whether any is there that schedules are about.
    pub(crate) fn is_about_schedules(&self) -> bool {
        const MASK: u32 = Name::Schedule.bit()
            | Name::ScheduleTimeZone.bit()
            | Name::ScheduleNext.bit()
            | Name::Scheduler.bit();
        self.mask & MASK != 0
    }
}

/// Digits only, without sign.
pub(crate) fn decimal(text: &[u8]) -> Option<u64> {
    if text.is_empty() || !text.iter().all(u8::is_ascii_digit) {
        return None;
    }
    std::str::from_utf8(text).ok()?.parse().ok()
}

fn without_blanks(mut value: &[u8]) -> &[u8] {
    while let Some(rest) = value.strip_prefix(b" ") {
        value = rest;
    }
    value
}

struct Lines<'a> {
    rest: &'a [u8],
}

impl<'a> Iterator for Lines<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        let end = self.rest.windows(2).position(|pair| pair == b"\r\n")?;
        let line = &self.rest[..end];
        self.rest = &self.rest[end + 2..];
        Some(line)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_scan_finds_the_first_of_each_name() {
        let block = b"NATS/1.0\r\nA: 1\r\nNats-Msg-Id:  x \r\nNats-Msg-Id: y\r\nNats-Rollup:\r\nNats-Schedule-Next: purge\r\n\r\n";
        let headers = PublishHeaders::scan(block);
        assert_eq!(headers.get(Name::MsgId), Some(&b"x "[..]));
        assert_eq!((headers.present(Name::Rollup), headers.get(Name::Rollup)), (Some(&b""[..]), None));
        assert_eq!(headers.present(Name::Schedule), None);
        assert!(headers.is_about_schedules() && !headers.is_plain());
        assert!(PublishHeaders::scan(b"NATS/1.0\r\nA: 1\r\n\r\n").is_plain());
        assert!(PublishHeaders::scan(b"Nats-Msg-Id: 1\r\n\r\n").is_plain());
        assert!(PublishHeaders::scan(b"junk").is_plain());
    }

    #[test]
    fn what_is_no_number_equals_no_sequence() {
        let headers = PublishHeaders::scan(b"NATS/1.0\r\nNats-Expected-Last-Sequence: many\r\n\r\n");
        assert_eq!(headers.sequence(Name::ExpectedLastSequence), Some(u64::MAX));
        assert_eq!(headers.sequence(Name::ExpectedLastSubjectSequence), None);
        assert_eq!(decimal(b"+1"), None);
    }

    #[test]
    fn every_name_is_in_its_place() {
        assert_eq!(Name::of(b"Nats-Scheduler"), Some(Name::Scheduler));
        assert_eq!(Name::of(b"Nats-Schedule"), Some(Name::Schedule));
        assert_eq!(Name::of(b"Nats-Other"), None);
    }
}
