//! The command line by itself; what files say is tested against nats-server's answers.

use std::time::Duration;

use super::{Invocation, Persona, SignalCommand, UsageError};
use crate::{MemorySources, Options, SyncPolicy};

fn invoke(words: &[&str]) -> Result<Invocation, UsageError> {
    let arguments: Vec<String> = words.iter().map(|word| (*word).to_owned()).collect();
    let mut sources = MemorySources::default();
    let file = |name: &str, text: &str| (name.to_owned(), text.to_owned());
    sources.files.extend([
        file("a.conf", "port: 5000\ndebug: true\njetstream { store_dir: \"/a\" }\n"),
        file("secret", " s3cret \n"),
        file(
            "pod.conf",
            "server_name: $POD_NAME\ninclude 'secret/cluster.conf'\njetstream { store_dir: /data }\n\
             weir { grpc: \"0.0.0.0:4333\", grpc_advertise: $GRPC }\n",
        ),
        file(
            "secret/cluster.conf",
            "cluster { name: demo, listen: 0.0.0.0:6222\n authorization { user: r, password: p }\n\
             routes: [nats://r:p@demo-0.demo:6222, nats://r:p@demo-1.demo:6222] }\n",
        ),
        file("tls.conf", "port: 1\ntls { cert_file: a }\n"),
        file("later.conf", "leafnodes { port: 7422 }\ncluster { port: 1, compression: fast }\n"),
    ]);
    let variable = |name: &str, text: &str| (name.to_owned(), text.to_owned());
    sources.variables.extend([variable("POD_NAME", "demo-0"), variable("GRPC", "demo-0.demo:4333")]);
    Invocation::from_args(&arguments, &sources)
}

fn options(words: &[&str]) -> Options {
    match invoke(words) {
        Ok(Invocation::Run(request)) => request.options,
        other => panic!("{words:?} gave {other:?}"),
    }
}

fn refusal(words: &[&str]) -> String {
    invoke(words).expect_err("refused").to_string()
}

#[test]
fn a_flag_takes_its_value_in_every_form_of_go() {
    for words in [&["-p", "1"][..], &["--p", "1"], &["-port=1"], &["--port", "1"], &["-p=0x1"]] {
        assert_eq!(options(words).port, 1, "{words:?}");
    }
    assert_eq!(options(&["-p", "-1"]).port, -1);
    assert_eq!(options(&["-sd=/x", "-js"]).jetstream.and_then(|js| js.store_dir), Some("/x".into()));
}

#[test]
fn bad_flags_get_the_words_of_go() {
    let table = [
        (&["-p", "0x"][..], "invalid value \"0x\" for flag -p: parse error"),
        (&["-p"], "flag needs an argument: -p"),
        (&["-D=maybe"], "invalid boolean value \"maybe\" for -D: parse error"),
        (&["--bogus"], "flag provided but not defined: -bogus"),
        (&["--=x"], "bad flag syntax: --=x"),
        (&["foo"], "unrecognized command: \"foo\""),
        (&["-t"], "must specify [-c, --config] option to check configuration file syntax"),
        (&["--cluster", "bad"], "missing port in address"),
        (&["--routes", "nats://h:1"], "solicited routes require cluster capabilities, e.g. --cluster"),
        (&["-c", "nofile"], "open nofile: no such file or directory"),
    ];
    for (words, message) in table {
        assert_eq!(refusal(words), message, "{words:?}");
    }
}

#[test]
fn a_flag_beats_the_file() {
    let read = options(&["-c", "a.conf"]);
    assert_eq!((read.port, read.debug), (5000, true));
    let beaten = options(&["-c", "a.conf", "-p", "6000", "-D=false", "-sd", "/b"]);
    assert_eq!((beaten.port, beaten.debug), (6000, false));
    assert_eq!(beaten.jetstream.and_then(|js| js.store_dir), Some("/b".into()));
}

#[test]
fn signals_name_a_process() {
    match invoke(&["--signal", "ldm=42"]) {
        Ok(Invocation::Signal(request)) => {
            assert_eq!(SignalCommand::parse(&request.word), Some(SignalCommand::LameDuck));
            assert_eq!(request.target, "42");
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_pod_reads_its_name_from_the_environment_and_its_secrets_from_an_include() {
    let options = options(&["-c", "pod.conf"]);
    assert_eq!(options.server_name, "demo-0");
    assert_eq!(options.weir.grpc_advertise.as_deref(), Some("demo-0.demo:4333"));
    let cluster = options.cluster.expect("a cluster");
    assert_eq!(cluster.user.as_deref(), Some("r"));
    assert_eq!(cluster.routes.len(), 2);
    assert_eq!(cluster.routes[1].authority(6222), "demo-1.demo:6222");
    assert_eq!(cluster.routes[1].password.as_deref(), Some("p"));
    assert_eq!(options.jetstream.map(|js| js.sync), Some(SyncPolicy::Always));
}

#[test]
fn the_secret_comes_from_a_file() {
    let options = options(&["--cluster_secret_file", "secret", "--weir_grpc", "127.0.0.1:-1"]);
    assert_eq!(options.weir.cluster_secret.as_deref(), Some("s3cret"));
    assert_eq!((options.weir.grpc_host.as_str(), options.weir.grpc_port), ("127.0.0.1", -1));
}

#[test]
fn the_files_of_tls_have_to_be_there() {
    let message = refusal(&["-c", "tls.conf"]);
    assert_eq!(message, "tls.conf:2:1: missing 'key_file' in TLS configuration\n");
    assert_eq!(refusal(&["--tls"]), "TLS Server certificate must be present and valid");
    let message = refusal(&["--tlscert", "c", "--tlskey", "k"]);
    assert_eq!(message, "error parsing X509 certificate/key pair: open c: no such file or directory");
    assert!(options(&["--tls=false"]).tls.is_none());
}

#[test]
fn what_is_harmless_is_listed_when_it_is_not_served() {
    let unserved = options(&["-c", "later.conf"]).unserved;
    let keys: Vec<&str> = unserved.iter().map(|option| option.key.as_str()).collect();
    assert_eq!(keys, ["leafnodes"]);
    assert_eq!(unserved[0].place, "later.conf:1:0");
}

#[test]
fn a_clustered_jetstream_needs_names() {
    let js = ["-js", "--cluster", "nats://127.0.0.1:-1"];
    assert_eq!(refusal(&js), "jetstream cluster requires `server_name` to be set");
    let message = refusal(&[&js[..], &["-n", "a"]].concat());
    assert_eq!(message, "jetstream cluster requires `cluster.name` to be set");
}

#[test]
fn the_persona_follows_the_name_of_the_program() {
    assert_eq!(Persona::from_program("/usr/bin/nats-server"), Persona::NatsServer);
    assert_eq!(Persona::from_program("./weir"), Persona::Weir);
}

#[test]
fn the_defaults_are_those_of_nats_server() {
    let defaults = options(&[]);
    assert_eq!((defaults.host.as_str(), defaults.port), ("0.0.0.0", 4222));
    assert_eq!((defaults.max_payload, defaults.max_control_line), (1024 * 1024, 4096));
    assert_eq!(defaults.ping_interval, Duration::from_secs(120));
    assert!(defaults.jetstream.is_none() && defaults.cluster.is_none());
}
