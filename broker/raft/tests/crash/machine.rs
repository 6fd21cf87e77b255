//! A machine that keeps numbers in order, with a checkpoint in a file.

use std::fs::File;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};

use parking_lot::Mutex;
use weir_raft::{Committed, Leadership, LogPosition, Machine, MachineError, Response, SnapshotSource};

#[derive(Clone, Default)]
pub(crate) struct State {
    pub(crate) applied: Option<LogPosition>,
    pub(crate) numbers: Vec<u64>,
}

pub(crate) struct Numbers {
    path: PathBuf,
    pub(crate) state: Mutex<State>,
    /// One writer of the file at a time, so that an older state never replaces a newer one.
    writing: Mutex<()>,
}

impl State {
    fn encode(&self) -> Vec<u8> {
        let at = self.applied.unwrap_or(LogPosition { term: 0, index: 0 });
        let head = [at.term, at.index];
        let words = head.iter().chain(&self.numbers);
        words.flat_map(|word| word.to_le_bytes()).collect()
    }

    fn decode(bytes: &[u8]) -> Self {
        let words =
            bytes.chunks_exact(8).map(|word| u64::from_le_bytes(word.try_into().expect("eight bytes")));
        let words = words.collect::<Vec<_>>();
        let applied = LogPosition { term: words[0], index: words[1] };
        Self { applied: (applied.index > 0).then_some(applied), numbers: words[2..].to_vec() }
    }
}

impl Numbers {
    pub(crate) fn open(folder: &Path) -> Self {
        let path = folder.join("checkpoint");
        let state = match std::fs::read(&path) {
            Ok(bytes) => State::decode(&bytes),
            Err(_) => State::default(),
        };
        Self { path, state: Mutex::new(state), writing: Mutex::new(()) }
    }

    /// Makes the present state durable; says up to which entry it goes.
    pub(crate) fn checkpoint(&self) -> std::io::Result<u64> {
        let _writing = self.writing.lock();
        let state = self.state.lock().clone();
        self.write(&state)?;
        Ok(state.applied.map_or(0, |at| at.index))
    }

    fn write(&self, state: &State) -> std::io::Result<()> {
        let new = self.path.with_extension("new");
        let mut file = File::create(&new)?;
        file.write_all(&state.encode())?;
        file.sync_all()?;
        std::fs::rename(&new, &self.path)
    }
}

impl Machine for Numbers {
    fn applied(&self) -> Option<LogPosition> {
        self.state.lock().applied
    }

    fn apply(&self, entries: Vec<Committed>) -> Result<Vec<Response>, MachineError> {
        let mut state = self.state.lock();
        let mut answers: Vec<Response> = Vec::new();
        for entry in entries {
            let expected = state.applied.map_or(1, |at| at.index + 1);
            if entry.index != expected {
                return Err(format!("entry {} instead of {expected}", entry.index).into());
            }
            state.applied = Some(entry.position());
            if !entry.payload.is_empty() {
                let number = std::str::from_utf8(&entry.payload)?.parse()?;
                state.numbers.push(number);
            }
            answers.push(None);
        }
        Ok(answers)
    }

    fn snapshot(&self) -> Result<Box<dyn SnapshotSource>, MachineError> {
        Ok(Box::new(self.state.lock().clone()))
    }

    fn install(&self, position: LogPosition, content: &mut dyn Read) -> Result<(), MachineError> {
        let mut bytes = Vec::new();
        content.read_to_end(&mut bytes)?;
        let state = State::decode(&bytes);
        if state.applied != Some(position) {
            return Err("the snapshot is not where it says".into());
        }
        let _writing = self.writing.lock();
        self.write(&state)?;
        *self.state.lock() = state;
        Ok(())
    }

    fn leadership(&self, state: Leadership) {
        match state {
            Leadership::Leader { .. } => println!("leader"),
            Leadership::Follower { .. } => println!("follower"),
        }
    }
}

impl SnapshotSource for State {
    fn position(&self) -> LogPosition {
        self.applied.unwrap_or(LogPosition { term: 0, index: 0 })
    }

    fn write_to(self: Box<Self>, out: &mut dyn Write) -> std::io::Result<()> {
        out.write_all(&self.encode())
    }
}
