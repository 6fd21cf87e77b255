//! Reading a group's log for openraft: in pieces bounded by bytes, of entries that are there.

use std::fmt::Debug;
use std::io;
use std::ops::{Bound, RangeBounds};

use futures::stream::{self, Stream};
use openraft::{OptionalSend, RaftLogReader};

use crate::codec::{DecodeError, entry_from_record};
use crate::log_store::LogStore;
use crate::options::MAX_APPEND_BYTES;
use crate::raft_types::{Entry, TypeConfig, Vote, inner_index, outer_index};

impl LogStore {
    /// Reads from inner index `start` up to `end`, one piece of at most `MAX_APPEND_BYTES` (but at least
    /// one entry, if there is one).
    fn read_piece(&self, start: u64, end: u64) -> io::Result<Vec<Entry>> {
        if start >= end {
            return Ok(Vec::new());
        }
        let (from, to) = (outer_index(start), outer_index(end));
        let records = self.records(from, to, MAX_APPEND_BYTES)?;
        let entries = records.into_iter().map(entry_from_record);
        Ok(entries.collect::<Result<_, DecodeError>>()?)
    }

    /// Clips a range of inner indexes to what the log holds.
    fn clip<R: RangeBounds<u64>>(&self, range: &R) -> (u64, u64) {
        let start = match range.start_bound() {
            Bound::Included(start) => *start,
            Bound::Excluded(start) => start.saturating_add(1),
            Bound::Unbounded => 0,
        };
        let end = match range.end_bound() {
            Bound::Included(end) => end.saturating_add(1),
            Bound::Excluded(end) => *end,
            Bound::Unbounded => u64::MAX,
        };
        match self.extent().present {
            None => (0, 0),
            Some((first, last)) => (start.max(inner_index(first)), end.min(last)),
        }
    }
}

impl RaftLogReader<TypeConfig> for LogStore {
    async fn try_get_log_entries<RB>(&mut self, range: RB) -> Result<Vec<Entry>, io::Error>
    where
        RB: RangeBounds<u64> + Clone + Debug + OptionalSend,
    {
        let (mut start, end) = self.clip(&range);
        let mut entries = Vec::new();
        while start < end {
            let piece = self.read_piece(start, end)?;
            if piece.is_empty() {
                let text = format!("the journal has no entry {}", outer_index(start));
                return Err(io::Error::new(io::ErrorKind::InvalidData, text));
            }
            start = start.saturating_add(piece.len() as u64);
            entries.extend(piece);
        }
        Ok(entries)
    }

    async fn read_vote(&mut self) -> Result<Option<Vote>, io::Error> {
        Ok(self.vote())
    }

    async fn limited_get_log_entries(&mut self, start: u64, end: u64) -> Result<Vec<Entry>, io::Error> {
        let entries = self.read_piece(start, end)?;
        if entries.is_empty() && start < end {
            let text = format!("the journal has no entry {}", outer_index(start));
            return Err(io::Error::new(io::ErrorKind::InvalidData, text));
        }
        Ok(entries)
    }

    async fn entries_stream<RB>(
        &mut self,
        range: RB,
    ) -> impl Stream<Item = Result<Entry, io::Error>> + OptionalSend
    where
        RB: RangeBounds<u64> + Clone + Debug + OptionalSend,
    {
        let (start, end) = self.clip(&range);
        let store = self.clone();
        let pieces = stream::unfold(Some(start), move |next| {
            let piece = next.and_then(|start| store.next_piece(start, end));
            std::future::ready(piece)
        });
        futures::StreamExt::flatten(pieces)
    }
}

type Piece = stream::Iter<std::vec::IntoIter<Result<Entry, io::Error>>>;

impl LogStore {
    /// One step of `entries_stream`: a piece, and where the next one starts.
    fn next_piece(&self, start: u64, end: u64) -> Option<(Piece, Option<u64>)> {
        if start >= end {
            return None;
        }
        let (items, next) = match self.read_piece(start, end) {
            Ok(piece) if piece.is_empty() => {
                let text = format!("the journal has no entry {}", outer_index(start));
                (vec![Err(io::Error::new(io::ErrorKind::InvalidData, text))], None)
            }
            Ok(piece) => {
                let next = start.saturating_add(piece.len() as u64);
                (piece.into_iter().map(Ok).collect(), Some(next))
            }
            Err(error) => (vec![Err(error)], None),
        };
        Some((stream::iter(items), next))
    }
}
