//! `/metrics`: the figures in Prometheus' text format. The series are bounded: one a stream at most,
//! never one a connection or a consumer.

use std::fmt::{Display, Write as _};

use crate::{Source, view::JetStream};

/// The whole page.
pub(crate) fn metrics(source: &dyn Source) -> String {
    let mut page = Page::default();
    let server = source.server();
    let (settings, counters) = (&server.settings, &server.counters);
    let labels = [("server_name", settings.server_name.as_str()), ("version", settings.version.as_str())];
    page.metric("weir_info", "gauge", "Constant 1, with what the server is as labels.");
    page.sample("weir_info", &labels, 1);
    let seconds = |time: weir_jsapi::time::Time| time.unix_nanos().unwrap_or(0) / 1_000_000_000;
    page.gauge("weir_start_time_seconds", "Start of the server.", seconds(settings.start));
    page.gauge("weir_memory_resident_bytes", "Resident memory.", server.memory_bytes);
    page.gauge("weir_connections", "Open client connections.", counters.connections);
    page.counter("weir_connections_total", "Client connections so far.", counters.total_connections);
    page.gauge("weir_routes", "Open route connections.", counters.routes);
    page.gauge("weir_remote_servers", "Servers connected by routes.", counters.remotes);
    page.gauge("weir_subscriptions", "Subscriptions.", counters.subscriptions);
    page.counter("weir_received_messages_total", "Messages received.", counters.in_msgs);
    page.counter("weir_received_bytes_total", "Message bytes received.", counters.in_bytes);
    page.counter("weir_sent_messages_total", "Messages sent.", counters.out_msgs);
    page.counter("weir_sent_bytes_total", "Message bytes sent.", counters.out_bytes);
    page.counter(
        "weir_slow_consumers_total",
        "Connections cut for being slow.",
        counters.slow_consumers + counters.slow_routes,
    );
    page.counter(
        "weir_stale_connections_total",
        "Connections cut for not answering.",
        counters.stale_connections + counters.stale_routes,
    );
    if let Some(jetstream) = source.jetstream(true) {
        stored(&mut page, &jetstream);
        let caught_up = source.health().behind.is_empty();
        let help = "1 when every replica here has applied what was committed.";
        page.gauge("weir_jetstream_caught_up", help, u8::from(caught_up));
    }
    page.text
}

fn stored(page: &mut Page, jetstream: &JetStream) {
    let stats = &jetstream.stats;
    page.gauge("weir_jetstream_memory_bytes", "Memory of streams.", stats.memory);
    page.gauge("weir_jetstream_storage_bytes", "Disk of streams.", stats.storage);
    page.gauge("weir_jetstream_streams", "Streams with a replica here.", jetstream.streams);
    page.gauge("weir_jetstream_consumers", "Consumers of those streams.", jetstream.consumers);
    page.counter("weir_jetstream_api_requests_total", "API requests answered.", stats.api_total);
    page.counter("weir_jetstream_api_errors_total", "API requests refused.", stats.api_errors);
    if let Some(meta) = &jetstream.meta {
        page.gauge("weir_meta_members", "Members of the meta group.", meta.cluster_size);
        page.gauge("weir_meta_leader", "1 on the meta leader.", u8::from(meta.is_leader));
    }
    type Figure = (&'static str, &'static str, fn(&crate::JetStreamStream) -> u64);
    const FIGURES: &[Figure] = &[
        ("weir_stream_messages", "Messages of a stream.", |s| s.state.messages),
        ("weir_stream_bytes", "Bytes of a stream.", |s| s.state.bytes),
        ("weir_stream_first_sequence", "First sequence of a stream.", |s| s.state.first_seq),
        ("weir_stream_last_sequence", "Last sequence of a stream.", |s| s.state.last_seq),
        ("weir_stream_consumers", "Consumers of a stream.", |s| s.state.consumer_count),
        ("weir_stream_leader", "1 where the stream is led.", |s| u64::from(s.is_leader)),
    ];
    for (name, help, figure) in FIGURES {
        page.metric(name, "gauge", help);
        for account in &jetstream.accounts {
            for stream in &account.streams {
                let labels = [("account", account.name.as_str()), ("stream", stream.config.name.as_str())];
                page.sample(name, &labels, figure(stream));
            }
        }
    }
}

#[derive(Default)]
struct Page {
    text: String,
}

impl Page {
    fn metric(&mut self, name: &str, kind: &str, help: &str) {
        let _ = writeln!(self.text, "# HELP {name} {help}\n# TYPE {name} {kind}");
    }

    fn sample(&mut self, name: &str, labels: &[(&str, &str)], value: impl Display) {
        self.text.push_str(name);
        if !labels.is_empty() {
            let list: Vec<String> =
                labels.iter().map(|(key, text)| format!("{key}=\"{}\"", escaped(text))).collect();
            let _ = write!(self.text, "{{{}}}", list.join(","));
        }
        let _ = writeln!(self.text, " {value}");
    }

    fn gauge(&mut self, name: &str, help: &str, value: impl Display) {
        self.metric(name, "gauge", help);
        self.sample(name, &[], value);
    }

    fn counter(&mut self, name: &str, help: &str, value: impl Display) {
        self.metric(name, "counter", help);
        self.sample(name, &[], value);
    }
}

fn escaped(text: &str) -> String {
    text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}
