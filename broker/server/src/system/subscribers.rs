//! How many subscriptions of clients a subject has, here and on other servers. A help for people who look for faults.

use std::time::Duration;

use base64::Engine as _;
use serde::Deserialize;
use serde_json::json;
use tokio::sync::mpsc;
use tracing::error;
use weir_hub::Origin;

use super::{System, reply_inbox::Waiting, requests::Message};

/// How long other servers may take to count.
const COUNT_LIMIT: Duration = Duration::from_millis(500);

#[derive(Deserialize, Default)]
#[serde(default)]
struct Asked {
    acc: String,
    subject: String,
    /// In base64, as Go writes bytes.
    queue: Option<String>,
}

impl System {
    /// Answers another server's question for the count here.
    pub(super) fn answer_subscriber_count(&self, message: &Message) {
        // It is this server that asks the others.
        if message.origin == Origin::Internal {
            return;
        }
        let asked = match serde_json::from_slice::<Asked>(&message.body) {
            Ok(asked) => asked,
            Err(problem) => {
                return error!("Error unmarshalling account nsubs request message: {problem}");
            }
        };
        let queue = asked
            .queue
            .as_deref()
            .and_then(|text| base64::engine::general_purpose::STANDARD.decode(text).ok());
        let Some(account) = self.hub.account(&asked.acc) else { return };
        if account.connection_count() == 0 || message.reply.is_empty() {
            return;
        }
        let count = account.count_subscribers(asked.subject.as_bytes(), queue.as_deref());
        self.publish(&message.reply, b"", count.to_string().as_bytes());
    }

    /// Counts for a client of this server: its body is a subject, perhaps with a queue group's name behind it.
    pub(super) fn count_subscribers(&self, message: Message) {
        let Origin::Client { .. } = message.origin else { return };
        if message.reply.is_empty() {
            return;
        }
        let text = String::from_utf8_lossy(&message.body).into_owned();
        let mut words = text.trim().split(' ');
        let (subject, queue) = (words.next().unwrap_or_default().to_owned(), words.next().map(str::to_owned));
        let queue_bytes = queue.as_deref().map(str::as_bytes);
        let here = self.account.count_subscribers(subject.as_bytes(), queue_bytes) as u64;
        let expected = self.remote.with_connections(self.account.name());
        if expected == 0 {
            return self.publish(&message.reply, b"", here.to_string().as_bytes());
        }
        let Some(system) = self.weak().upgrade() else { return };
        let (sender, mut counts) = mpsc::channel(64);
        let inbox = self.inbox.expect(Waiting::Count(sender));
        let mut body = json!({ "acc": self.account.name(), "subject": subject });
        if let (Some(queue), Some(fields)) = (queue_bytes, body.as_object_mut()) {
            let text = base64::engine::general_purpose::STANDARD.encode(queue);
            fields.insert("queue".to_owned(), text.into());
        }
        let body = body.to_string();
        self.account.publish(b"$SYS.REQ.ACCOUNT.NSUBS", Some(inbox.as_bytes()), b"", body.as_bytes());
        tokio::spawn(async move {
            let mut total = here;
            let gather = async {
                for _ in 0..expected {
                    let Some(count) = counts.recv().await else { return };
                    total += count;
                }
            };
            let _ = tokio::time::timeout(COUNT_LIMIT, gather).await;
            system.inbox.forget(&inbox);
            system.publish(&message.reply, b"", total.to_string().as_bytes());
        });
    }
}
