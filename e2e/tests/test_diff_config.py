"""Configurations, good and bad, through `-t` of Weir and of nats-server: status and text have to be the same.

Each text has at most one mistake: nats-server reads maps in no order, so that of two it names either first.
"""

import base64
import binascii
import re
import subprocess

import pytest

ENDS_WITHIN_SECONDS = 20


def key(kind):
    """A public key whose first letter is `kind`; nobody has its seed."""
    raw = bytes([(ord(kind) - ord("A")) << 3]) + bytes(range(32))
    check = binascii.crc_hqx(raw, 0)
    return base64.b32encode(raw + check.to_bytes(2, "little")).decode().rstrip("=")


@pytest.fixture(scope="module")
def certificates(tmp_path_factory):
    """A folder with cert.pem, key.pem, of a certificate that is its own authority, and other.txt."""
    folder = tmp_path_factory.mktemp("certificates")
    command = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 9 -subj /CN=localhost"
    made = subprocess.run([*command.split(), "-keyout", folder / "key.pem", "-out", folder / "cert.pem"],
                          capture_output=True, text=True)
    assert made.returncode == 0, made.stderr
    (folder / "other.txt").write_text("no certificate\n")
    return folder


def check(program, folder, text):
    """The status and what is said, with a nil dereference of the reference left out."""
    (folder / "c.conf").write_text(text)
    done = subprocess.run([program, "-t", "-c", "c.conf"], capture_output=True, text=True, cwd=folder,
                          timeout=ENDS_WITHIN_SECONDS)
    said = re.sub(r"^.*(invalid memory address|nil pointer).*\n", "", done.stdout + done.stderr, flags=re.M)
    return done.returncode, said


def same(programs, folder, text):
    expected, actual = (check(program, folder, text) for program in programs)
    assert actual == expected, f"\n{text}\nnats-server: {expected}\nweir:        {actual}"


TOP = """
port: "4222"|port: 4222|port: 0|port: -1|listen: 4222|listen: "127.0.0.1:4222"|listen: "a:b"|listen: abc|listen: true
host: 3|net: "127.0.0.1"|client_advertise: 3|client_advertise: "a:1"|server_name: 3|server_name: "a b"|server_name: x
debug: 1|debug: on|trace: "x"|trace_verbose: 1|trace_verbose: yes|trace_headers: 1|trace_headers: true|logtime: 1
logtime_utc: 2|disable_sublist_cache: 1|no_sublist_cache: true|default_sentinel: 3|http: 8222|http: "x"|http: [1]
https: "127.0.0.1:-1"|https: true|http_port: "a"|monitor_port: 8222|https_port: x|http_base_path: 3|http_base_path: "/a"
store_dir: 3|store_dir: "/x"|storedir: true|logfile: 1|log_file: "x"|logfile_size_limit: "x"|log_size_limit: 10k
logfile_max_num: x|log_max_num: 3|syslog: 1|syslog: true|remote_syslog: 1|remote_syslog: "udp://127.0.0.1:514"
pidfile: 1|pid_file: "a"|ports_file_dir: 1|prof_port: x|prof_port: 6060|prof_block_rate: x|prof_block_rate: 1
max_control_line: 3000000000|max_control_line: x|max_control_line: 1k|MAX_PAYLOAD: 3G|max_payload: 3G|max_payload: 1MB|max_payload: -5
max_pending: x|max_pending: 10MB|proxy_protocol: 1|proxy_protocol: true|max_connections: x|max_conn: 0|max_conn: -1
max_traced_msg_len: x|max_traced_msg_len: 10|max_subscriptions: x|max_subs: 10|max_sub_tokens: 256|max_sub_tokens: 0
max_sub_tokens: -1|max_sub_tokens: 8|max_subscription_tokens: 300|ping_interval: 5|ping_interval: "5s"|ping_interval: "x"
ping_interval: true|ping_max: "x"|ping_max: 3|allow_non_tls: 1|allow_non_tls: true|write_deadline: 5|write_deadline: "1x"
write_deadline: "2s"|write_timeout: 1|write_timeout: "later"|write_timeout: close|write_timeout: retry
write_timeout: default|lame_duck_duration: 5|lame_duck_duration: "5s"|lame_duck_duration: "x"|lame_duck_duration: "31s"
lame_duck_grace_period: 5|lame_duck_grace_period: "-5s"|lame_duck_grace_period: "5s"|lame_duck_grace_period: "x"
no_auth_user: 3|no_auth_user: a|system_account: 3|system_account: A|system: []|no_system_account: 1|no_sys_acc: true
no_header_support: 1|no_header_support: true|connect_error_reports: x|connect_error_reports: 5|reconnect_error_reports: x
reconnect_error_reports: 2|server_tags: 3|server_tags: a|server_tags: [a, b]|server_tags: [a, {}]|server_metadata: 3
server_metadata: {a: b}|server_metadata: {a: 3}|feature_flags: 3|feature_flags: {a: true}|feature_flags: {a: 3}
default_js_domain: 3|default_js_domain: {a: b}|default_js_domain: {a: 3}|no_fast_producer_stall: 1|max_closed_clients: x
no_fast_producer_stall: true|max_closed_clients: 100|ocsp: 3|ocsp: true|ocsp: false|ocsp: {mode: always}|ocsp: {mode: x}
ocsp: {mode: must}|ocsp: {url: "http://a"}|ocsp: {colour: 3}|ocsp: {mode: 3}|ocsp_cache: true|ocsp_cache: {type: x}
ocsp_cache: {type: none}|ocsp_cache: {type: 3}|ocsp_cache: {colour: 3}|ocsp_cache: {save_interval: 5}|ocsp_cache: "x"
ocsp_cache: {save_interval: "x"}|ocsp_cache: {save_interval: []}|ocsp_cache: {local_store: 3}|ocsp_cache: {local_store: a}
no_system: 1|no_system: true|ocsp_cache: {preserve_revoked: 1}|colour: blue|Colour: {a: 1}|a: 1|a: 1\\nport: $a|# only a comment|{}
"""

AUTHORIZATION = """
3|{user: a}|{user: a, password: b}|{user: 3}|{pass: 3}|{token: 3}|{token: x}|{token: x, user: a}|{password: b, token: x}
{timeout: 3}|{timeout: 0.5}|{timeout: "3s"}|{timeout: "x"}|{timeout: []}|{timeout: 61}|{timeout: 1m}|{users: 3}|{users: []}
{users: [3]}|{users: [{}]}|{users: [{user: 3}]}|{users: [{user: a}]}|{users: [{user: a, colour: 3}]}|{users: [{pass: a}]}
{users: [{user: a}, {user: a}]}|{user: a, users: [{user: b}]}|{token: a, users: [{user: b}]}|{user: a, users: []}
{colour: 3}|{users: [{nkey: 3}]}|{users: [{nkey: abc}]}|{users: [{nkey: USER}]}|{users: [{nkey: USER}, {nkey: USER}]}
{users: [{nkey: ACCOUNT}]}|{users: [{user: a, allowed_connection_types: [STANDARD, websocket]}]}
{users: [{user: a, connection_types: x}]}|{users: [{user: a, clients: [MQTT]}]}|{users: [{user: a, clients: 3}]}
{users: [{user: a, clients: [3]}]}|{users: [{user: a, proxy_required: 3}]}|{users: [{user: a, proxy_required: true}]}
{proxy_required: 3}|{proxy_required: true}|{users: [{user: a, permissions: 3}]}|{users: [{user: a, permissions: {}}]}
{users: [{user: a, permissions: {colour: 3}}]}|{users: [{user: a, permissions: {publish: 3}}]}|{users: [{user: a, permissions: {pub: a, sub: b}}]}
{users: [{user: a, permissions: {pub: 3}}]}|{users: [{user: a, permissions: {publish_allow_responses: true}}]}
{users: [{user: a, permissions: {publish_allow_responses: {max: x}}}]}|{users: [{user: a, permissions: {publish_allow_responses: {ttl: "1s"}}}]}
{users: [{user: a, clients: [LEAFNODE, LEAFNODE_WS, MQTT, MQTT_WS, IN_PROCESS]}]}|{users: [{user: a, clients: [leafnode_ws]}]}
{users: [{user: a, clients: [STANDARD, TELNET]}]}
{users: [{user: a, permissions: {publish: "a b"}}]}|{users: [{user: a, permissions: {publish: [a, "b."]}}]}
{users: [{user: a, permissions: {publish: [3]}}]}|{users: [{user: a, permissions: {subscribe: "a b"}}]}
{users: [{user: a, permissions: {subscribe: "a b c"}}]}|{users: [{user: a, permissions: {subscribe: "a. q"}}]}
{users: [{user: a, permissions: {subscribe: "a q."}}]}|{users: [{user: a, permissions: {publish: {}}}]}
{users: [{user: a, permissions: {publish: {allow: a}}}]}|{users: [{user: a, permissions: {publish: {deny: [a, b]}}}]}
{users: [{user: a, permissions: {publish: {allow: 3}}}]}|{users: [{user: a, permissions: {publish: {colour: 3}}}]}
{users: [{user: a, permissions: {publish: {allow: "a b"}}}]}|{users: [{user: a, permissions: {publish: {deny: ["a b"]}}}]}
{users: [{user: a, permissions: {subscribe: {allow: ["a b"]}}}]}|{users: [{user: a, permissions: {allow_responses: 3}}]}
{users: [{user: a, permissions: {allow_responses: true}}]}|{users: [{user: a, permissions: {allow_responses: {}}}]}
{users: [{user: a, permissions: {allow_responses: {max: 3}}}]}|{users: [{user: a, permissions: {allow_responses: {max: x}}}]}
{users: [{user: a, permissions: {allow_responses: {expires: 3}}}]}|{users: [{user: a, permissions: {import: a}}]}
{users: [{user: a, permissions: {allow_responses: {expires: x}}}]}|{users: [{user: a, permissions: {export: a}}]}
{users: [{user: a, permissions: {allow_responses: {ttl: "-1s"}}}]}|{users: [{user: a, authorization: {publish: a}}]}
{users: [{user: a, permissions: {allow_responses: {colour: 3}}}]}|{default_permissions: 3}|{default_permissions: {publish: a}}
{permissions: {publish: a}}|{default_permission: {colour: 3}}|{auth_callout: 3}|{auth_callout: {}}
{auth_callout: {issuer: 3}}|{auth_callout: {issuer: ACCOUNT}}|{auth_callout: {issuer: ACCOUNT, users: [a]}}
{auth_callout: {issuer: abc}}|{auth_callout: {issuer: ACCOUNT, users: [a], xkey: CURVE}}
{auth_callout: {issuer: ACCOUNT, auth_users: [a], xkey: abc}}|{auth_callout: {issuer: ACCOUNT, auth_users: 3}}
{auth_callout: {issuer: ACCOUNT, auth_users: [a], allowed_accounts: [B]}}
{auth_callout: {issuer: ACCOUNT, auth_users: [a], allowed_accounts: 3}}|{auth_hook: {issuer: ACCOUNT, users: [a], acc: X}}
{auth_callout: {issuer: ACCOUNT, auth_users: [a], colour: 3}}|{auth_callout: {issuer: ACCOUNT, auth_users: [3]}}
"""

ACCOUNTS = """
3|[]|[A, B]|[A, A]|[3]|["$G"]|{}|{A: 3}|{A: {}}|{"$G": {}}|{A: {colour: 3}}|{A: {nkey: abc}}|{A: {nkey: ACCOUNT}}
{A: {users: 3}}|{A: {users: [{user: a}]}}|{A: {users: [{user: a}]}, B: {users: [{user: b}]}}|{A: {users: [{user: a, x: 3}]}}
{A: {users: [{user: a}, {user: a}]}}|{A: {users: [{nkey: USER}]}}|{A: {default_permissions: 3}}
{A: {default_permissions: {publish: a}}}|{A: {jetstream: 3}}|{A: {jetstream: true}}|{A: {jetstream: enabled}}
{A: {jetstream: disabled}}|{A: {jetstream: maybe}}|{A: {jetstream: {}}}|{A: {jetstream: {max_mem: 1k}}}
{A: {jetstream: {max_mem: x}}}|{A: {jetstream: {max_file: true}}}|{A: {jetstream: {streams: x}}}|{A: {jetstream: {colour: 3}}}
{A: {jetstream: {max_memory: 1k}}}|{A: {jetstream: {max_store: 1k}}}|{A: {jetstream: {max_store: x}}}|{A: {jetstream: {max_streams: 3}}}
{A: {jetstream: {max_bytes: 3}}}|{A: {jetstream: {max_stream_bytes: true}}}|{A: {limits: {max_connections: 3}}}
{A: {limits: {max_subscriptions: x}}}|{A: {exports: [{service: a, response_type: stream}]}}|{A: {exports: [{service: a, response_type: 3}]}}
{A: {exports: [{service: a, response_threshold: "1s"}]}}|{A: {exports: [{service: a, response_threshold: 3}]}}
{A: {jetstream: {max_consumers: 3}}}|{A: {jetstream: {max_bytes_required: 3}}}|{A: {jetstream: {max_bytes_required: true}}}
{A: {jetstream: {mem_max_stream_bytes: x}}}|{A: {jetstream: {disk_max_stream_bytes: 3}}}|{A: {jetstream: {max_ack_pending: x}}}
{A: {jetstream: {cluster_traffic: 3}}}|{A: {jetstream: {cluster_traffic: x}}}|{A: {jetstream: {cluster_traffic: owner}}}
{A: {jetstream: {cluster_traffic: system}}}|{A: {limits: 3}}|{A: {limits: {}}}|{A: {limits: {max_conn: 3}}}
{A: {limits: {max_subs: x}}}|{A: {limits: {max_payload: 1k}}}|{A: {limits: {max_leafnodes: -1}}}|{A: {limits: {colour: 3}}}
{A: {msg_trace: 3}}|{A: {msg_trace: a.b}}|{A: {msg_trace: "a.*"}}|{A: {msg_trace: {dest: a}}}|{A: {msg_trace: {dest: 3}}}
{A: {trace_dest: {dest: a, sampling: 50}}}|{A: {msg_trace: {dest: a, sampling: 101}}}|{A: {msg_trace: {dest: a, sampling: "5%"}}}
{A: {msg_trace: {dest: a, sampling: x}}}|{A: {msg_trace: {dest: a, sampling: true}}}|{A: {msg_trace: {sampling: 5}}}
{A: {msg_trace: {colour: 3}}}|{A: {msg_trace: {dest: a, sampling: 0}}}|{A: {mappings: 3}}|{A: {mappings: {}}}
{A: {exports: 3}}|{A: {exports: []}}|{A: {exports: [3]}}|{A: {exports: [{}]}}|{A: {exports: [{stream: a}]}}
{A: {exports: [{stream: 3}]}}|{A: {exports: [{service: 3}]}}|{A: {exports: [{service: a, response: stream}]}}
{A: {exports: [{service: a, response: x}]}}|{A: {exports: [{service: a, response: 3}]}}|{A: {exports: [{service: a, colour: 3}]}}
{A: {exports: [{service: a, threshold: "1s"}]}}|{A: {exports: [{service: a, threshold: 3}]}}
{A: {exports: [{service: a, threshold: x}]}}|{A: {exports: [{service: a, latency: b}]}}|{A: {exports: [{service: a, latency: 3}]}}
{A: {exports: [{service: a, latency: {}}]}}|{A: {exports: [{service: a, latency: {subject: b, sampling: 50}}]}}
{A: {exports: [{service: a, latency: {subject: b, sampling: "x"}}]}}|{A: {exports: [{service: a, latency: {subject: b, sampling: 0}}]}}
{A: {exports: [{service: a, latency: {subject: b, sampling: headers}}]}}|{A: {exports: [{service: a, latency: {subject: 3}}]}}
{A: {exports: [{service: a, latency: {subject: b, sampling: true}}]}}|{A: {exports: [{service: a, latency: "b.*"}]}}
{A: {exports: [{service: a, latency: a}]}}|{A: {exports: [{service: a, accounts: [B]}]}}|{A: {exports: [{stream: a, accounts: [B]}]}}
{A: {exports: [{stream: a, accounts: 3}]}}|{A: {exports: [{stream: a, accounts: []}]}}|{A: {exports: [{stream: a, accounts: [3]}]}}
{A: {exports: [{stream: "a.*", account_token_position: 2}]}}|{A: {exports: [{stream: "a.*", account_token_position: 1}]}}
{A: {exports: [{service: "a.*", account_token_position: 3}]}}|{A: {exports: [{stream: "a", account_token_position: x}]}}
{A: {exports: [{service: a, allow_trace: true}]}}|{A: {exports: [{service: a, allow_trace: 3}]}}
{A: {imports: 3}}|{A: {imports: [3]}}|{A: {imports: [{}]}}|{A: {imports: [{stream: 3}]}}|{A: {imports: [{service: 3}]}}
{A: {imports: [{stream: {}}]}}|{A: {imports: [{stream: {account: B, subject: a}}]}}|{A: {imports: [{service: {account: B}}]}}
{A: {imports: [{stream: {account: 3, subject: a}}]}}|{A: {imports: [{stream: {account: B, subject: a, colour: 3}}]}}
{A: {imports: [{service: {account: B, subject: a}, colour: 3}]}}|{A: {imports: [{service: {account: B, subject: a}, to: 3}]}}
{A: {imports: [{stream: {account: B, subject: a}, prefix: 3}]}}|{A: {imports: [{service: {account: B, subject: a}, share: 3}]}}
{A: {imports: [{stream: {account: B, subject: a}, allow_trace: 3}]}}
{A: {imports: [{stream: {account: B, subject: a}}]}, B: {exports: [{stream: a}]}}
{A: {imports: [{stream: {account: B, subject: a}}]}, B: {exports: [{stream: b}]}}
{A: {imports: [{stream: {account: B, subject: a.b}}]}, B: {exports: [{stream: "a.*"}]}}
{A: {imports: [{stream: {account: B, subject: a}}]}, B: {exports: [{stream: a, accounts: [C]}]}, C: {}}
{A: {imports: [{stream: {account: B, subject: a}, prefix: "p.*"}]}, B: {exports: [{stream: a}]}}
{A: {imports: [{stream: {account: B, subject: a}, prefix: p}]}, B: {exports: [{stream: a}]}}
{A: {imports: [{stream: {account: B, subject: "a.*"}, to: "b.$1"}]}, B: {exports: [{stream: "a.*"}]}}
{A: {imports: [{stream: {account: B, subject: "a.*"}, to: "b"}]}, B: {exports: [{stream: "a.*"}]}}
{A: {imports: [{stream: {account: B, subject: a}}, {stream: {account: B, subject: a}}]}, B: {exports: [{stream: a}]}}
{A: {imports: [{service: {account: B, subject: a}}]}, B: {exports: [{service: a}]}}
{A: {imports: [{service: {account: B, subject: a}}]}, B: {exports: [{service: b}]}}
{A: {imports: [{service: {account: B, subject: a}, to: b}]}, B: {exports: [{service: a}]}}
{A: {imports: [{service: {account: B, subject: "a.*"}, to: "b.*"}]}, B: {exports: [{service: "a.*"}]}}
{A: {imports: [{service: {account: B, subject: "a.*"}, to: "b.$1"}]}, B: {exports: [{service: "a.*"}]}}
{A: {imports: [{service: {account: B, subject: "a.$1.$2"}, to: "b.*"}]}, B: {exports: [{service: "a.>"}]}}
{A: {imports: [{service: {account: B, subject: a}}, {service: {account: B, subject: b}, to: a}]}, B: {exports: [{service: ">"}]}}
{A: {exports: [{service: a}], imports: [{service: {account: B, subject: a}}]}, B: {exports: [{service: a}], imports: [{service: {account: A, subject: a}}]}}
{A: {exports: [{stream: a}], imports: [{stream: {account: B, subject: a}}]}, B: {exports: [{stream: a}], imports: [{stream: {account: A, subject: a}}]}}
{A: {imports: [{service: {account: "$G", subject: a}}]}}|{A: {imports: [{service: {account: B, subject: "a."}}]}, B: {exports: [{service: "a."}]}}
"""

MAPPINGS = """
3|{}|{a: b}|{a: 3}|{"a b": b}|{a: "b c"}|{"a.*": "b.$1"}|{"a.*": "b.$2"}|{"a.*": b}|{"a.*": "b.*"}|{a: {dest: b, weight: 50}}
{a: {dest: b}}|{a: {dest: b, weight: "50%"}}|{a: {dest: b, weight: "x"}}|{a: {dest: b, weight: 101}}|{a: {dest: b, weight: -1}}
{a: {dest: b, weight: true}}|{a: {dest: b, weight: 1, colour: 3}}|{a: [{dest: b, weight: 50}, {dest: c, weight: 50}]}
{a: [{dest: b, weight: 60}, {dest: c, weight: 60}]}|{a: [{dest: b, weight: 50}, {dest: b, weight: 50}]}|{a: [3]}|{a: []}
{a: [{dest: b, weight: 60, cluster: x}, {dest: c, weight: 60}]}|{a: {dest: b, weight: 1, cluster: 3}}|{a: {dest: 3, weight: 1}}
{"a.*.*": "b.{{wildcard(2)}}.{{wildcard(1)}}"}|{"a.*": "b.{{partition(3,1)}}"}|{"a.*": "b.{{colour(1)}}"}|{"a.>": "b.>"}
{"a.>": "b"}|{"a.*": "{{split(1,-)}}.x"}|{"a.*": "b.{{wildcard(x)}}"}|{"a.*": "b.{{random(5)}}"}
"""

CLUSTER = """
3|{}|{colour: 3}|{name: 3}|{name: "a b"}|{name: _}|{name: x}|{listen: x}|{listen: "127.0.0.1:-1"}|{port: x}|{port: 6222}
{host: 3}|{net: a}|{authorization: 3}|{authorization: {}}|{authorization: {user: a, password: b}}|{authorization: {token: x}}
{authorization: {users: [{user: a}]}}|{authorization: {colour: 3}}|{authorization: {timeout: x}}
{authorization: {user: a, permissions: {import: x}}}|{authorization: {auth_callout: {issuer: ACCOUNT, users: [a]}}}
{routes: 3}|{routes: []}|{routes: ["nats://a:1"]}|{routes: [3]}|{routes: ["nats://a:1", "nats://a:1"]}|{routes: ["::"]}
{routes: ["nats://[::1"]}|{routes: ["nats://a:x"]}|{tls: 3}|{tls: {}}|{tls: {colour: 3}}|{cluster_advertise: 3}|{advertise: "a:1"}
{no_advertise: 3}|{no_advertise: true}|{connect_retries: x}|{connect_retries: 3}|{connect_backoff: 3}|{connect_backoff: true}
{permissions: 3}|{permissions: {}}|{permissions: {import: a}}|{permissions: {import: {allow: a, deny: b}}}|{permissions: {export: a}}
{permissions: {export: "a b"}}|{permissions: {import: "a b"}}|{permissions: {allow_responses: true}}|{permissions: {colour: 3}}
{pool_size: x}|{pool_size: 5}|{pool_size: -1}|{accounts: 3}|{accounts: [A]}|{accounts: [3]}|{accounts: A}|{compression: 3}
{compression: on}|{compression: off}|{compression: fast}|{compression: x}|{compression: {}}|{compression: {mode: 3}}
{compression: {mode: s2_auto, rtt_thresholds: ["1ms", "2ms"]}}|{compression: {mode: auto, rtts: [3]}}|{compression: {rtt: x}}
{compression: {mode: auto, rtts: ["x"]}}|{compression: {colour: 3}}|{ping_interval: "5s"}|{ping_interval: 5}|{ping_interval: "1m"}
{ping_interval: x}|{ping_max: x}|{ping_max: 3}|{write_deadline: x}|{write_deadline: "1s"}|{write_timeout: x}|{write_timeout: close}
"""

GATEWAY = """
3|{}|{colour: 3}|{name: 3}|{name: "a b"}|{name: _}|{name: x, port: 1}|{listen: x}|{port: x}|{host: 3}|{authorization: 3}
{authorization: {token: x}}|{authorization: {users: []}}|{authorization: {user: a, password: b}}|{tls: {colour: 3}}|{advertise: 3}
{connect_retries: x}|{connect_backoff: 3}|{gateways: 3}|{gateways: [3]}|{gateways: [{}]}|{gateways: [{name: 3}]}
{gateways: [{name: a, url: "nats://a:1"}]}|{gateways: [{name: a, urls: ["nats://a:1"]}]}|{gateways: [{name: a, urls: 3}]}
{gateways: [{name: a, url: 3}]}|{gateways: [{name: a, url: "nats://a:x"}]}|{gateways: [{colour: 3}]}|{reject_unknown: 3}
{reject_unknown_cluster: true}|{write_deadline: x}|{write_timeout: x}
"""

LEAFNODES = """
3|{}|{colour: 3}|{listen: x}|{port: x}|{port: 7422}|{host: 3}|{authorization: 3}|{authorization: {}}|{authorization: {user: 3}}
{authorization: {user: a, password: b}}|{authorization: {nkey: x}}|{authorization: {nkey: USER}}|{authorization: {timeout: x}}
{authorization: {timeout: []}}|{authorization: {timeout: 70}}|{authorization: {account: 3}}|{authorization: {proxy_required: 3}}
{authorization: {users: 3}}|{authorization: {users: [3]}}|{authorization: {users: [{user: a, password: b, account: A}]}}
{authorization: {users: [{user: 3}]}}|{authorization: {users: [{colour: 3}]}}|{authorization: {users: [{user: a}, {user: a}]}}
{authorization: {token: x}}|{remotes: 3}|{remotes: []}|{remotes: [3]}|{remotes: [{}]}|{remotes: [{colour: 3}]}|{remotes: [{url: 3}]}
{remotes: [{url: "nats://a:1"}]}|{remotes: [{urls: ["nats://a:1", "nats://a:1"]}]}|{remotes: [{url: "nats://a:x"}]}
{remotes: [{account: 3}]}|{remotes: [{creds: 3}]}|{remotes: [{creds: "/a"}]}|{remotes: [{nkey: x}]}|{remotes: [{tls: {colour: 3}}]}
{remotes: [{hub: 3}]}|{remotes: [{hub: true}]}|{remotes: [{deny_imports: a}]}|{remotes: [{deny_imports: "a b"}]}
{remotes: [{deny_exports: 3}]}|{remotes: [{deny_exports: [a, b]}]}|{remotes: [{ws_compression: 3}]}|{remotes: [{ws_no_masking: true}]}
{remotes: [{js_cluster_migrate: 3}]}|{remotes: [{js_cluster_migrate: true}]}|{remotes: [{js_cluster_migrate: {leader_migrate_delay: "1s"}}]}
{reconnect_interval: 3}|{reconnect_interval: "1s"}|{remotes: [{credentials: 3}]}|{remotes: [{local: 3}]}|{remotes: [{local: A}]}
{remotes: [{ws_compress: 3}]}|{remotes: [{jetstream_cluster_migrate: 3}]}|{remotes: [{seed: x}]}|{remotes: [{isolate: 3}]}|{remotes: [{request_isolation: 3}]}|{remotes: [{compression: 3}]}|{remotes: [{compression: fast}]}
{remotes: [{first_info_timeout: x}]}|{remotes: [{dial_timeout: x}]}|{remotes: [{disabled: 3}]}|{remotes: [{no_randomize: 3}]}
{remotes: [{ignore_discovered_servers: 3}]}|{remotes: [{proxy: 3}]}|{remotes: [{proxy: {url: "http://a:1"}}]}
{remotes: [{proxy: {url: "ftp://a:1"}}]}|{remotes: [{proxy: {username: a}}]}|{remotes: [{proxy: {url: "http://a:1", username: a}}]}
{remotes: [{proxy: {colour: 3}}]}|{remotes: [{proxy: {url: 3}}]}|{remotes: [{proxy: {url: "http://a", timeout: x}}]}
{remotes: [{proxy: {url: "http://"}}]}|{reconnect: x}|{reconnect: 3}|{reconnect_delay: "2s"}|{dial_timeout: x}|{tls: 3}
{advertise: 3}|{no_advertise: 3}|{min_version: 3}|{min_version: x}|{min_version: "2.7.0"}|{min_version: "2.9.0"}|{compression: 3}
{compression: s2_auto}|{isolate: 3}|{isolate_leafnode_interest: true}|{write_deadline: x}|{write_timeout: x}
"""

JETSTREAM = """
true|false|enabled|disabled|maybe|3|{}|{colour: 3}|{enabled: false}|{enabled: 3}|{enable: true}|{strict: 3}|{strict: false}
{store_dir: 3}|{store: "/x"}|{sync: always}|{sync_interval: "1m"}|{sync_interval: 5}|{sync: x}|{sync: []}|{max_mem: 1G}
{max_mem: "1G"}|{max_mem: "1Q"}|{max_mem: "xG"}|{max_mem: true}|{max_file: ""}|{max_file: "1K"}|{max_file_store: []}|{domain: 3}
{domain: x}|{cipher: x}|{cipher: aes}|{cipher: 3}|{extension_hint: 3}|{extension_hint: no_extend}|{limits: 3}|{limits: {}}
{limits: {colour: 3}}|{limits: {max_ack_pending: x}}|{limits: {max_ha_assets: 3}}|{limits: {max_request_batch: 3}}
{limits: {default_max_consumers: 3}}|{limits: {duplicate_window: x}}|{limits: {duplicate_window: "1m"}}|{limits: {duplicate_window: 3}}
{limits: {batch: 3}}|{limits: {batch: {}}}|{limits: {batch: {max_msgs: 3}}}|{limits: {batch: {max_msgs: x}}}
{limits: {batch: {timeout: x}}}|{limits: {batch: {timeout: "1s"}}}|{limits: {batch: {colour: 3}}}|{tpm: 3}|{unique_tag: 3}
{unique_tag: "az:"}|{max_outstanding_catchup: 1k}|{max_outstanding_catchup: []}|{max_buffered_size: "1Q"}|{max_buffered_msgs: x}
{max_buffered_msgs: 3}|{request_queue_limit: x}|{request_queue_limit: 3}|{info_queue_limit: x}|{meta_compact: -1}|{meta_compact: 3}
{meta_compact: x}|{meta_compact_size: -1}|{meta_compact_size: x}|{meta_compact_size: 1k}|{meta_compact_sync: 3}
{max_memory_store: 1k}|{max_memory_store: x}|{encryption_key: 3}|{ek: 3}|{prev_ek: 3}|{prev_encryption_key: 3}
{limits: {batch: {max_inflight_per_stream: 3}}}|{limits: {batch: {max_inflight_per_stream: x}}}
{limits: {batch: {max_inflight_total: 3}}}|{limits: {batch: {max_inflight_total: x}}}|{max_concurrent_io: 3}|{max_concurrent_io: 4}|{max_concurrent_io: x}|{max_concurrent_io: 9000}|{key: 3}|{prev_key: 3}
"""

TLS = """
3|{}|{colour: 3}|{cert_file: 3}|{key_file: 3}|{ca_file: 3}|{cert_file: "cert.pem"}|{key_file: "key.pem"}
{cert_file: "cert.pem", key_file: "key.pem"}|{cert_file: "no.pem", key_file: "key.pem"}|{cert_file: "cert.pem", key_file: "no.pem"}
{cert_file: "other.txt", key_file: "key.pem"}|{cert_file: "cert.pem", key_file: "other.txt"}|{cert_file: "key.pem", key_file: "key.pem"}
{cert_file: "cert.pem", key_file: "cert.pem"}|{ca_file: "cert.pem"}|{ca_file: "no.pem"}|{ca_file: "other.txt"}|{insecure: 3}
{insecure: true}|{verify: 3}|{verify: true}|{verify_and_map: 3}|{verify_and_map: true}|{verify_cert_and_check_known_urls: 3}
{verify_cert_and_check_known_urls: true}|{verify_cert_and_check_known_urls: false}|{allow_insecure_cipher_suites: 3}
{cipher_suites: 3}|{cipher_suites: []}|{cipher_suites: [3]}|{cipher_suites: [x]}|{cipher_suites: [TLS_AES_128_GCM_SHA256]}
{cipher_suites: [TLS_RSA_WITH_RC4_128_SHA]}|{cipher_suites: [TLS_RSA_WITH_RC4_128_SHA], allow_insecure_cipher_suites: true}
{curve_preferences: 3}|{curve_preferences: []}|{curve_preferences: [x]}|{curve_preferences: [X25519, CurveP256]}|{timeout: 3}
{timeout: 0.5}|{timeout: "2s"}|{timeout: "x"}|{timeout: []}|{connection_rate_limit: x}|{connection_rate_limit: 3}|{pinned_certs: 3}
{pinned_certs: []}|{pinned_certs: [x]}|{pinned_certs: [3]}|{pinned_certs: ["A1B2C3D4E5F60718293A4B5C6D7E8F90A1B2C3D4E5F60718293A4B5C6D7E8F90"]}
{cert_store: 3}|{cert_store: x}|{cert_store: windowscurrentuser}|{cert_match_by: 3}|{cert_match_by: x}|{cert_match: 3}|{cert_match: x}
{ca_certs_match: x}|{cert_match_skip_invalid: 3}|{cert_match_skip_invalid: true}|{handshake_first: true}|{handshake_first: auto}
{first: "100ms"}|{immediate: x}|{handshake_first: 3}|{ocsp_peer: true}|{ocsp_peer: 3}|{ocsp_peer: {}}|{ocsp_peer: {verify: 3}}
{ocsp_peer: {verify: true}}|{ocsp_peer: {ca_timeout: 3}}|{ocsp_peer: {ca_timeout: x}}|{ocsp_peer: {colour: 3}}
{ocsp_peer: {cache_ttl_when_next_update_unset: []}}|{ocsp_peer: {warn_only: true}}|{certs: 3}|{certs: []}|{certs: [3]}|{certs: [{}]}
{certs: [{cert_file: "cert.pem", key_file: "key.pem"}]}|{certs: [{cert_file: 3}]}|{certs: [{colour: x}]}
{certs: [{cert_file: "no.pem", key_file: "key.pem"}]}|{certs: [{cert_file: "cert.pem", key_file: "key.pem"}], cert_file: "cert.pem"}
{min_version: 3}|{min_version: "1.2"}|{min_version: "1.3"}|{min_version: "1.1"}|{min_version: "x"}
"""

WEBSOCKET = """
3|{}|{colour: 3}|{listen: x}|{port: x}|{port: 8080}|{host: 3}|{advertise: 3}|{no_tls: 3}|{no_tls: true}|{tls: 3}|{tls: {colour: 3}}
{tls: {cert_file: "cert.pem", key_file: "key.pem"}}|{same_origin: 3}|{same_origin: true}|{allowed_origins: 3}|{origins: [a]}
{origin: "http://a"}|{allowed_origins: [3]}|{handshake_timeout: 3}|{handshake_timeout: x}|{handshake_timeout: []}|{compression: 3}
{compress: true}|{authorization: 3}|{authorization: {user: a, password: b}}|{authorization: {colour: 3}}|{authorization: {user: 3}}
{authentication: {timeout: "1s"}}|{jwt_cookie: 3}|{jwt_cookie: x}|{user_cookie: 3}|{pass_cookie: 3}|{token_cookie: x}|{no_auth_user: 3}
{headers: 3}|{headers: {a: b}}|{headers: {a: 3}}|{ping_interval: x}|{ping_interval: "1s"}|{ping_interval: 3}
"""

MQTT = """
3|{}|{colour: 3}|{listen: x}|{port: x}|{port: 1883}|{host: 3}|{tls: 3}|{authorization: {user: 3}}|{authorization: {token: x}}
{no_auth_user: 3}|{ack_wait: x}|{ack_wait: "1s"}|{js_api_timeout: x}|{api_timeout: "1s"}|{max_ack_pending: x}|{max_ack_pending: 70000}
{max_ack_pending: -1}|{max_inflight: 3}|{js_domain: 3}|{stream_replicas: x}|{stream_replicas: 3}|{consumer_replicas: 3}
{consumer_memory_storage: 3}|{consumer_memory_storage: true}|{consumer_inactive_threshold: x}|{reject_qos2_publish: 3}
{consumer_auto_cleanup: x}|{consumer_auto_cleanup: "1s"}|{max_pending: x}|{downgrade_qos2_subscribe: 3}|{downgrade_qos2_subscribe: true}
"""

OPERATOR = """
operator: 3|operator: "/no/file"|operator: [3]|operator: ["/no/file"]|operator: eyJabc|resolver: 3|resolver: MEMORY|resolver: MEM
resolver: x|resolver: "URL(http://a/b)"|resolver: URL(x)|resolver: {}|resolver: {type: full}|resolver: {type: full, dir: "./jwt"}
resolver: {type: cache, dir: "./jwt", ttl: "1h"}|resolver: {type: full, dir: "./jwt", ttl: "1h"}|resolver: {type: x, dir: "./jwt"}
resolver: {type: cache, dir: "./jwt", interval: "1m"}|resolver: {type: cache, dir: "./jwt", allow_delete: true}
resolver: {type: full, dir: "./jwt", hard_delete: true}|resolver: {type: full, dir: "./jwt", interval: x}|resolver: {type: 3}
resolver: {type: full, dir: "./jwt", allow_delete: true, hard_delete: true, limit: 10, timeout: "2s", interval: "1m"}
resolver: {type: full, dir: "c.conf"}|resolver: {type: full, dir: 3}|resolver: {type: full, dir: "./jwt", limit: x}
resolver: {type: mem}|resolver_tls: 3|resolver_tls: {colour: 3}|resolver_preload: 3|resolver_preload: {}|resolver_preload: {A: 3}
resolver_preload: {A: x}|resolver_pinned_accounts: 3|resolver_pinned_accounts: A|resolver_pinned_accounts: [A]
resolver_pinned_accounts: [3]|trusted: 3|trusted: x|trusted: OPERATOR|trusted_keys: [OPERATOR]|trusted_keys: [3]|trusted_keys: [x]
proxies: 3|proxies: {}|proxies: {colour: 3}|proxies: {trusted: 3}|proxies: {trusted: [3]}|proxies: {trusted: [{key: USER}]}
root: 3|roots: [3]|root_operator: "/no/file"|root_operators: ["/no/file"]|operators: "/no/file"|account_resolver: x|account_resolver: MEMORY
accounts_resolver: 3|accounts_resolver: {type: x}|proxies: {trusted: [{key: x}]}|proxies: {trusted: [{colour: 3}]}|proxies: {trusted: [{public_key: ACCOUNT}]}
"""

BLOCKS = {"authorization": AUTHORIZATION, "accounts": ACCOUNTS, "mappings": MAPPINGS, "cluster": CLUSTER, "gateway": GATEWAY,
          "leafnodes": LEAFNODES, "jetstream": JETSTREAM, "tls": TLS, "websocket": WEBSOCKET, "mqtt": MQTT}


def cases(table):
    texts = [text for line in table.strip().splitlines() for text in line.split("|")]
    return [text.replace("\\n", "\n") for text in texts]


def named(text):
    """With real keys in place of their kinds."""
    for kind, letter in (("ACCOUNT", "A"), ("USER", "U"), ("OPERATOR", "O"), ("CURVE", "X")):
        text = re.sub(rf"\b{kind}\b", key(letter), text)
    return text


# What Weir answers otherwise, on purpose: broker/docs/deviations/ says why.
DEVIATIONS = {
    "tls: {cipher_suites: [TLS_RSA_WITH_RC4_128_SHA], allow_insecure_cipher_suites: true}",
}


def all_cases():
    found = cases(TOP) + cases(OPERATOR)
    for block, table in BLOCKS.items():
        found += [f"{block}: {text}" for text in cases(table)]
    return [text for text in found if text not in DEVIATIONS]


@pytest.mark.parametrize("text", all_cases())
def test_a_configuration_is_judged_as_by_nats_server(programs, certificates, text):
    same(programs, certificates, f"\n  {named(text)}\n")
