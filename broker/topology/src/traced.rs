//! Log lines of every operation on a route, for `-V`, as nats-server shows them. Not other log lines.

use crate::session::Session;
use weir_hub::trace;
use weir_proto::RouteOp;

impl Session {
    /// One operation from the other server; `bytes` are all of it. What nats-server does not show is not shown.
    pub(crate) fn trace_in(&self, bytes: &[u8], op: &RouteOp<'_>) {
        let message = match op {
            RouteOp::Info(_) | RouteOp::Ok | RouteOp::Err(_) => return,
            RouteOp::Message(message) => Some((message.headers, message.payload)),
            _ => None,
        };
        let end = bytes.iter().position(|byte| *byte == b'\n').unwrap_or(bytes.len());
        trace::route_in(&self.link.label(), &bytes[..end], message);
    }

    /// One operation to the other server that is no message.
    pub(crate) fn trace_out(&self, text: &str) {
        if trace::is_on() {
            trace::out(&self.link.label(), text);
        }
    }
}
