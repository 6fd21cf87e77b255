//! The header that a load balancer puts in front of a connection, in one piece and cut anywhere.

use weir_net::{Fronted, ProxyError, ProxyReader};

/// The first byte says how much comes at a time, the rest is the stream.
pub(crate) fn proxy(data: &[u8]) {
    let Some((piece, stream)) = data.split_first() else { return };
    let whole = read(stream, stream.len());
    assert_eq!(whole, read(stream, usize::from(*piece % 24) + 1));
    match whole {
        Ok(Some((Fronted::Absent, taken))) => assert_eq!(taken, 0),
        Ok(Some((_, taken))) => assert!((V1_MIN_BYTES..=stream.len()).contains(&taken)),
        Err(error) => assert!(!error.to_string().is_empty()),
        Ok(None) => {}
    }
}

/// The shorter of the shortest line (`PROXY UNKNOWN`) and the fixed part of version 2, with their ends.
const V1_MIN_BYTES: usize = 15;

/// What is in front of the stream and how long it is; `None` when more has to come.
fn read(stream: &[u8], piece: usize) -> Result<Option<(Fronted, usize)>, ProxyError> {
    let mut reader = ProxyReader::default();
    let (mut taken, mut there) = (0, 0);
    while there < stream.len() {
        there = (there + piece).min(stream.len());
        while taken < there {
            let step = reader.look(&stream[taken..there])?;
            assert!(taken + step.taken <= there);
            taken += step.taken;
            if let Some(fronted) = step.fronted {
                return Ok(Some((fronted, taken)));
            }
            if step.taken == 0 {
                break;
            }
        }
    }
    Ok(None)
}
