//! A machine for tests: remembers every payload in order and checks that indexes grow by one.

use std::io::{Read, Write};

use bytes::Bytes;
use parking_lot::Mutex;

use crate::machine::{Committed, LogPosition, Machine, MachineError, Response, SnapshotSource};
use crate::types::Leadership;

#[derive(Default)]
pub(crate) struct Counter {
    state: Mutex<State>,
    told: Mutex<Vec<Leadership>>,
    /// Takes entries in any order, as openraft's suite gives them.
    lax: bool,
}

/// What a restart keeps: as if a checkpoint had been written after every entry, or not at all.
#[derive(Clone, Default)]
pub(crate) struct State {
    pub(crate) applied: Option<LogPosition>,
    pub(crate) payloads: Vec<Bytes>,
}

impl Counter {
    pub(crate) fn with_state(state: State) -> Self {
        Self { state: Mutex::new(state), told: Mutex::default(), lax: false }
    }

    pub(crate) fn lax() -> Self {
        Self { lax: true, ..Self::default() }
    }

    pub(crate) fn state(&self) -> State {
        self.state.lock().clone()
    }

    pub(crate) fn payloads(&self) -> usize {
        self.state.lock().payloads.len()
    }

    pub(crate) fn told(&self) -> Vec<Leadership> {
        self.told.lock().clone()
    }
}

impl Machine for Counter {
    fn applied(&self) -> Option<LogPosition> {
        self.state.lock().applied
    }

    fn apply(&self, entries: Vec<Committed>) -> Result<Vec<Response>, MachineError> {
        let mut state = self.state.lock();
        let mut answers: Vec<Response> = Vec::new();
        for entry in entries {
            let expected = state.applied.map_or(1, |at| at.index + 1);
            if entry.index != expected && !self.lax {
                return Err(format!("entry {} instead of {expected}", entry.index).into());
            }
            state.applied = Some(entry.position());
            let mut answer: Response = None;
            if !entry.payload.is_empty() {
                state.payloads.push(entry.payload);
                answer = Some(Box::new(state.payloads.len()));
            }
            answers.push(answer);
        }
        Ok(answers)
    }

    fn snapshot(&self) -> Result<Box<dyn SnapshotSource>, MachineError> {
        Ok(Box::new(self.state()))
    }

    fn install(&self, position: LogPosition, content: &mut dyn Read) -> Result<(), MachineError> {
        let mut bytes = Vec::new();
        content.read_to_end(&mut bytes)?;
        let mut payloads = Vec::new();
        let mut rest = Bytes::from(bytes);
        while !rest.is_empty() {
            let length = rest.split_to(4);
            let length = u32::from_le_bytes(length.as_ref().try_into()?);
            payloads.push(rest.split_to(usize::try_from(length)?));
        }
        *self.state.lock() = State { applied: Some(position), payloads };
        Ok(())
    }

    fn leadership(&self, state: Leadership) {
        self.told.lock().push(state);
    }
}

impl SnapshotSource for State {
    fn position(&self) -> LogPosition {
        self.applied.unwrap_or(LogPosition { term: 0, index: 0 })
    }

    fn write_to(self: Box<Self>, out: &mut dyn Write) -> std::io::Result<()> {
        for payload in &self.payloads {
            let length = u32::try_from(payload.len()).map_err(std::io::Error::other)?;
            out.write_all(&length.to_le_bytes())?;
            out.write_all(payload)?;
        }
        Ok(())
    }
}
