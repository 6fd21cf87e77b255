//! The upgrade over a transport: reads requests, answers, puts the codec on. Not the decision.

use super::codec::WebSocketCodec;
use super::request::{MAX_REQUEST_BYTES, ParsedRequest, parse_request};
use super::upgrade::{Upgrade, UpgradeRules, judge};
use crate::transport::Transport;
use std::io::{self, ErrorKind, IoSlice};
use std::time::{Duration, SystemTime};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc2822;
use tokio::io::Interest;

/// So many requests on one connection may be refused before it is closed.
const MAX_REFUSALS: usize = 16;

/// Why no WebSocket came of a connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum UpgradeError {
    /// It ended, took too long or sent what is no request: nothing for the log.
    Gone,
    /// The client sent more than a request before it was answered.
    TooEarly,
}

impl Transport {
    /// The server's side of the upgrade. `refused` is told, for the log, of every request that is not granted.
    pub async fn accept_websocket(
        &self,
        rules: &UpgradeRules,
        limit: Duration,
        refused: &(dyn Fn(&str) + Send + Sync),
    ) -> Result<Upgrade, UpgradeError> {
        for _ in 0..MAX_REFUSALS {
            let read = tokio::time::timeout(limit, self.read_request()).await;
            let (parsed, length, received) = read.map_err(|_| UpgradeError::Gone)??;
            let request = match parsed {
                ParsedRequest::Complete(request, _) => request,
                ParsedRequest::Malformed(answer) => {
                    let _ = self.write_text(&answer, limit).await;
                    return Err(UpgradeError::Gone);
                }
                ParsedRequest::Incomplete => return Err(UpgradeError::Gone),
            };
            match judge(&request, rules) {
                Ok(_) if received > length => return Err(UpgradeError::TooEarly),
                Ok(upgrade) => {
                    self.write_text(&upgrade.response, limit).await?;
                    self.set_codec(Box::new(WebSocketCodec::new(upgrade.frames)));
                    return Ok(upgrade);
                }
                Err(refusal) => {
                    refused(&refusal.reason);
                    self.write_text(&refusal.response(&http_date()), limit).await?;
                    if !request.keeps_alive || received > length {
                        return Err(UpgradeError::Gone);
                    }
                }
            }
        }
        Err(UpgradeError::Gone)
    }

    async fn read_request(&self) -> Result<(ParsedRequest, usize, usize), UpgradeError> {
        let mut received = Vec::new();
        loop {
            self.ready(Interest::READABLE).await.map_err(|_| UpgradeError::Gone)?;
            let mut piece = [0; 1024];
            let room = (MAX_REQUEST_BYTES + 1).saturating_sub(received.len()).min(piece.len());
            match self.try_read(piece.get_mut(..room).unwrap_or_default()) {
                Ok(0) => return Err(UpgradeError::Gone),
                Ok(count) => received.extend_from_slice(piece.get(..count).unwrap_or_default()),
                Err(error) if error.kind() == ErrorKind::WouldBlock => continue,
                Err(_) => return Err(UpgradeError::Gone),
            }
            match parse_request(&received) {
                ParsedRequest::Incomplete => {}
                ParsedRequest::Complete(request, length) => {
                    return Ok((ParsedRequest::Complete(request, length), length, received.len()));
                }
                malformed @ ParsedRequest::Malformed(_) => return Ok((malformed, 0, received.len())),
            }
        }
    }

    async fn write_text(&self, text: &str, limit: Duration) -> Result<(), UpgradeError> {
        let written = tokio::time::timeout(limit, self.write_all(text.as_bytes())).await;
        written.map_err(|_| UpgradeError::Gone)?.map_err(|_| UpgradeError::Gone)
    }

    async fn write_all(&self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() || self.wants_write() {
            let result = match bytes {
                [] => self.try_flush().map(|()| 0),
                bytes => self.try_write_vectored(&[IoSlice::new(bytes)]),
            };
            match result {
                Ok(count) => bytes = bytes.get(count..).unwrap_or_default(),
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    self.ready(Interest::WRITABLE).await?;
                }
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

fn http_date() -> String {
    let now = OffsetDateTime::from(SystemTime::now());
    now.format(&Rfc2822).unwrap_or_default().replace("+0000", "GMT")
}
