//! Backups of streams, as a client gives them back.

use weir_backup::{BackupReader, MessageLimits, S2Reader, S2Writer};

const LIMITS: MessageLimits = MessageLimits { max_payload: 1 << 20, max_msg_size: -1 };

/// The first byte says whether a backup follows as it is sent, or what is in it once it is decompressed.
pub(crate) fn backup(data: &[u8]) {
    match data.split_first() {
        Some((kind, bytes)) if kind % 2 == 0 => read(bytes),
        Some((_, bytes)) => {
            let mut stream = S2Writer::default();
            stream.put(bytes);
            stream.end_block();
            let mut back = vec![0; bytes.len() + 1];
            let count = S2Reader::new(stream.ready()).fill(&mut back).expect("what was written is read");
            assert_eq!(&back[..count], bytes, "what was written reads back");
            read(stream.ready());
        }
        None => {}
    }
}

/// Sequences rise, and nothing is given out that is longer than allowed.
fn read(bytes: &[u8]) {
    let Ok(mut reader) = BackupReader::open(bytes) else { return };
    let mut last = reader.state().first_seq.saturating_sub(1);
    while let Ok(Some(_)) = reader.next_consumer() {}
    while let Ok(Some(message)) = reader.next_message(LIMITS) {
        assert!(message.seq > last, "out of order");
        assert!(message.headers.len() + message.payload.len() <= 1 << 20, "too long");
        last = message.seq;
    }
}
