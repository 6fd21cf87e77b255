//! Meta commands in their log form, and the machine's checkpoint.

use std::sync::Arc;

use bytes::Bytes;
use weir_jsapi::StreamConfig;

use super::{MetaCommand, MetaMachine, MetaPeer, StreamAssignment, StreamLog};
use crate::codec::{DecodeError, Reader, Writer};

const VERSION: u8 = 1;
const WHAT: &str = "meta command";
const CHECKPOINT: &str = "meta checkpoint";
/// Without the streams' logs: those with several replicas had groups.
const CHECKPOINT_KIND_OLD: u8 = b'M';
/// Without what is being restored: nothing was.
const CHECKPOINT_KIND_LOGS: u8 = b'N';
const CHECKPOINT_KIND: u8 = b'O';

const CREATE_STREAM: u8 = 1;
const UPDATE_STREAM: u8 = 2;
const DELETE_STREAM: u8 = 3;
const MOVE_STREAM: u8 = 4;
const PEER_ADDED: u8 = 5;
const PEER_REMOVED: u8 = 6;
const RESTORE_STREAM: u8 = 7;
const END_RESTORE: u8 = 8;

fn write_peers(writer: &mut Writer, peers: &[u64]) {
    writer.varint(peers.len() as u64);
    for peer in peers {
        writer.varint(*peer);
    }
}

fn read_peers(reader: &mut Reader) -> Result<Vec<u64>, DecodeError> {
    (0..reader.count("peer count")?).map(|_| reader.varint("peer id")).collect()
}

fn write_peer(writer: &mut Writer, peer: &MetaPeer) {
    writer.varint(peer.id);
    writer.bytes(peer.name.as_bytes());
    writer.bytes(peer.endpoint.as_bytes());
}

fn read_peer(reader: &mut Reader) -> Result<MetaPeer, DecodeError> {
    Ok(MetaPeer {
        id: reader.varint("peer id")?,
        name: reader.string("peer name")?,
        endpoint: reader.string("peer endpoint")?,
    })
}

const LOG_LOCAL: u8 = 0;
const LOG_GROUP: u8 = 1;
const LOG_GROUP_FROM: u8 = 2;

fn write_log(writer: &mut Writer, log: StreamLog) {
    match log {
        StreamLog::Local => writer.u8(LOG_LOCAL),
        StreamLog::Group => writer.u8(LOG_GROUP),
        StreamLog::GroupFrom(peer) => {
            writer.u8(LOG_GROUP_FROM);
            writer.varint(peer);
        }
    }
}

fn read_log(reader: &mut Reader) -> Result<StreamLog, DecodeError> {
    match reader.u8("kind of log")? {
        LOG_LOCAL => Ok(StreamLog::Local),
        LOG_GROUP => Ok(StreamLog::Group),
        LOG_GROUP_FROM => Ok(StreamLog::GroupFrom(reader.varint("first peer of a log")?)),
        found => Err(DecodeError::Kind { what: "log of a stream", found }),
    }
}

impl MetaCommand {
    /// The log entry.
    pub fn encode(&self) -> Bytes {
        let open = |kind| Writer::new(VERSION, kind, 1024);
        match self {
            Self::CreateStream { account, config, peers, created }
            | Self::RestoreStream { account, config, peers, created } => {
                let is_restore = matches!(self, Self::RestoreStream { .. });
                let mut writer = open(if is_restore { RESTORE_STREAM } else { CREATE_STREAM });
                writer.bytes(account.as_bytes());
                writer.json(config);
                write_peers(&mut writer, peers);
                writer.time(*created);
                writer.finish()
            }
            Self::UpdateStream { account, config } => {
                let mut writer = open(UPDATE_STREAM);
                writer.bytes(account.as_bytes());
                writer.json(config);
                writer.finish()
            }
            Self::DeleteStream { account, name } => {
                let mut writer = open(DELETE_STREAM);
                writer.bytes(account.as_bytes());
                writer.bytes(name.as_bytes());
                writer.finish()
            }
            Self::MoveStream { account, name, peers } => {
                let mut writer = open(MOVE_STREAM);
                writer.bytes(account.as_bytes());
                writer.bytes(name.as_bytes());
                write_peers(&mut writer, peers);
                writer.finish()
            }
            Self::EndRestore { account, name, group, keep } => {
                let mut writer = open(END_RESTORE);
                writer.bytes(account.as_bytes());
                writer.bytes(name.as_bytes());
                writer.varint(*group);
                writer.u8(u8::from(*keep));
                writer.finish()
            }
            Self::PeerAdded(peer) => {
                let mut writer = open(PEER_ADDED);
                write_peer(&mut writer, peer);
                writer.finish()
            }
            Self::PeerRemoved { id } => {
                let mut writer = open(PEER_REMOVED);
                writer.varint(*id);
                writer.finish()
            }
        }
    }

    /// Reads a log entry.
    pub fn decode(entry: Bytes) -> Result<Self, DecodeError> {
        let (mut reader, kind) = Reader::open(entry, WHAT, VERSION)?;
        let command = match kind {
            CREATE_STREAM => Self::CreateStream {
                account: reader.string("account")?,
                config: reader.json("stream configuration")?,
                peers: read_peers(&mut reader)?,
                created: reader.time("created")?,
            },
            RESTORE_STREAM => Self::RestoreStream {
                account: reader.string("account")?,
                config: reader.json("stream configuration")?,
                peers: read_peers(&mut reader)?,
                created: reader.time("created")?,
            },
            END_RESTORE => Self::EndRestore {
                account: reader.string("account")?,
                name: reader.string("stream name")?,
                group: reader.varint("group")?,
                keep: reader.u8("keep")? != 0,
            },
            UPDATE_STREAM => Self::UpdateStream {
                account: reader.string("account")?,
                config: reader.json("stream configuration")?,
            },
            DELETE_STREAM => {
                Self::DeleteStream { account: reader.string("account")?, name: reader.string("stream name")? }
            }
            MOVE_STREAM => Self::MoveStream {
                account: reader.string("account")?,
                name: reader.string("stream name")?,
                peers: read_peers(&mut reader)?,
            },
            PEER_ADDED => Self::PeerAdded(read_peer(&mut reader)?),
            PEER_REMOVED => Self::PeerRemoved { id: reader.varint("peer id")? },
            found => return Err(DecodeError::Kind { what: WHAT, found }),
        };
        reader.finish()?;
        Ok(command)
    }
}

impl MetaMachine {
    /// The whole machine, for snapshots.
    pub fn checkpoint(&self) -> Bytes {
        let mut writer = Writer::new(VERSION, CHECKPOINT_KIND, 4096);
        writer.varint(self.next_group);
        writer.varint(self.peers.len() as u64);
        for peer in self.peers.values() {
            write_peer(&mut writer, peer);
        }
        writer.varint(self.removed.len() as u64);
        for id in &self.removed {
            writer.varint(*id);
        }
        writer.varint(self.streams().count() as u64);
        for stream in self.streams() {
            writer.bytes(stream.account.as_bytes());
            writer.json(&*stream.config);
            writer.varint(stream.group);
            write_peers(&mut writer, &stream.peers);
            writer.time(stream.created);
            write_log(&mut writer, stream.log);
            writer.u8(u8::from(stream.restoring));
        }
        writer.finish()
    }

    /// A machine from a snapshot.
    pub fn restore(checkpoint: Bytes) -> Result<Self, DecodeError> {
        let (mut reader, kind) = Reader::open(checkpoint, CHECKPOINT, VERSION)?;
        if ![CHECKPOINT_KIND, CHECKPOINT_KIND_LOGS, CHECKPOINT_KIND_OLD].contains(&kind) {
            return Err(DecodeError::Kind { what: CHECKPOINT, found: kind });
        }
        let mut machine = Self { next_group: reader.varint("next group")?, ..Self::default() };
        for _ in 0..reader.count("peer count")? {
            let peer = read_peer(&mut reader)?;
            machine.peers.insert(peer.id, peer);
        }
        for _ in 0..reader.count("removed count")? {
            machine.removed.insert(reader.varint("removed peer id")?);
        }
        for _ in 0..reader.count("stream count")? {
            let account = reader.string("account")?;
            let config: StreamConfig = reader.json("stream configuration")?;
            let name = config.name.clone();
            let log = if config.num_replicas > 1 { StreamLog::Group } else { StreamLog::Local };
            let mut stream = StreamAssignment {
                account: account.clone(),
                config: Arc::new(config),
                group: reader.varint("group")?,
                peers: read_peers(&mut reader)?,
                created: reader.time("created")?,
                log,
                restoring: false,
            };
            if kind != CHECKPOINT_KIND_OLD {
                stream.log = read_log(&mut reader)?;
            }
            if kind == CHECKPOINT_KIND {
                stream.restoring = reader.u8("restore in progress")? != 0;
            }
            machine.streams.entry(account).or_default().insert(name, Arc::new(stream));
        }
        reader.finish()?;
        Ok(machine)
    }
}
