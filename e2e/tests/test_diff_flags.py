"""Every flag shows its effect: in INFO, /varz, files, the log, at a syslog. Both programs run as nats-server."""

import json
import os
import pathlib
import re
import signal
import socket
import subprocess
import urllib.request

import pytest

import binaries
from broker import free_port, wait_until
from certificates import Authority
from compare import same
from test_diff_process import STAMP, plain, run, started
from wire import Wire

LOCAL = ("-a", "127.0.0.1", "-p", "-1")


def varz(port):
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/varz", timeout=5) as answer:
        return json.load(answer)


# Flags, and which keys of /varz they decide.
SHOWN = {
    "-n": (("-n", "named"), ["server_name"]),
    "--name": (("--name=named",), ["server_name"]),
    "--server_name": (("--server_name", "named"), ["server_name"]),
    "--addr": (("--addr", "127.0.0.1"), ["host"]),
    "--net": (("--net=127.0.0.1",), ["host"]),
    "--cluster": (("--cluster", "nats://u:p@127.0.0.1:-1", "--cluster_name", "C"), ["cluster.name", "cluster.addr", "cluster.auth_timeout"]),
    "--cluster_listen": (("--cluster_listen", "nats://127.0.0.1:-1", "--cluster_name=C"), ["cluster.name", "cluster.addr"]),
    "--routes": (("--cluster", "nats://127.0.0.1:-1", "--cluster_name=C", "--routes", "nats://127.0.0.1:1,nats://127.0.0.1:2", "--connect_retries", "3"),
                 ["cluster.urls"]),
    "--user": (("--user", "u", "--pass", "p"), ["auth_required"]),
    "--auth": (("--auth", "t"), ["auth_required"]),
    "-js": (("-js", "-sd", "STORE"), ["jetstream.config.store_dir"]),
    "--jetstream": (("--jetstream", "--store_dir", "STORE"), ["jetstream.config.store_dir"]),
    "--no_advertise": (("--cluster", "nats://127.0.0.1:-1", "--cluster_name=C", "--no_advertise"), ["connect_urls"]),
}


@pytest.mark.parametrize("flags, keys", SHOWN.values(), ids=SHOWN)
def test_a_flag_is_shown_in_varz(programs, tmp_path, flags, keys):
    def ask(program):
        port = free_port()
        store = tmp_path / pathlib.Path(program).parent.name
        chosen = [flag.replace("STORE", str(store)) for flag in flags]
        with started(program, *LOCAL, "-m", str(port), *chosen, cwd=tmp_path):
            fields, found = varz(port), []
            for key in keys:
                value = fields
                for part in key.split("."):
                    value = (value or {}).get(part)
                found.append(str(value).replace(str(store), "<store>"))
            return found
    same(programs, ask)


@pytest.mark.parametrize("flags", [("--client_advertise", "example.org:77"), ("--client_advertise=example.org",), ("-p", "-1"), ("--port=-1",)],
                         ids=" ".join)
def test_a_flag_is_shown_in_info(programs, tmp_path, flags):
    def ask(program):
        with started(program, *LOCAL, *flags, cwd=tmp_path) as server:
            with Wire(server.port()) as client:
                return [client.info["host"], client.info["port"] == server.port() or client.info["port"], client.info.get("tls_required")]
    same(programs, ask)


@pytest.mark.parametrize("flag", ["-m", "--http_port", "-ms", "--https_port"])
def test_monitoring_by_flag(programs, tmp_path, flag):
    authority = Authority(tmp_path)
    pair = authority.issue("server")

    def ask(program):
        tls = ("--tls", "--tlscert", str(pair.certificate), "--tlskey", str(pair.key)) if "s" in flag.strip("-")[:5] and flag not in ("--http_port",) else ()
        with started(program, *LOCAL, flag, str(free_port()), *tls, cwd=tmp_path) as server:
            return re.sub(r":\d+", ":N", re.search(r"Starting https? monitor on \S+", plain(server.log()))[0])
    same(programs, ask)


TLS = {
    "--tls": [],
    "--tlsverify": ["--tlsverify", "--tlscacert", "CA"],
    "--tlscacert": ["--tlscacert", "CA"],
}


@pytest.mark.parametrize("flags", TLS.values(), ids=TLS)
def test_tls_by_flag(programs, tmp_path, flags):
    authority = Authority(tmp_path)
    pair = authority.issue("server")

    def ask(program):
        chosen = [flag.replace("CA", str(authority.certificate)) for flag in flags]
        with started(program, *LOCAL, "--tls", "--tlscert", str(pair.certificate), "--tlskey", str(pair.key), *chosen, cwd=tmp_path) as server:
            with Wire(server.port()) as client:
                return client.info.get("tls_required"), client.info.get("tls_verify")
    same(programs, ask)


WITHOUT_FILES = [("--tls",), ("--tls", "--tlscert", "no.pem"), ("--tls", "--tlscert", "no.pem", "--tlskey", "no.key"), ("--tlsverify",)]


@pytest.mark.parametrize("flags", WITHOUT_FILES, ids=" ".join)
def test_tls_without_its_files(programs, tmp_path, flags):
    def ask(program):
        try:
            status, out, err = run(program, *LOCAL, *flags, cwd=tmp_path, within=2)
        except subprocess.TimeoutExpired:
            return "it runs"
        lines = plain(err, program).splitlines()
        return status != 0, lines[0] if lines else ""
    same(programs, ask)


def test_pid_and_ports_files_by_flag(programs, tmp_path):
    def ask(program):
        folder = tmp_path / pathlib.Path(program).parent.name
        folder.mkdir()
        with started(program, *LOCAL, "-P", str(folder / "pid"), "--ports_file_dir", str(folder), cwd=folder) as server:
            [ports] = wait_until(lambda: list(folder.glob("*.ports")), "the ports are written down")
            return (folder / "pid").read_text() == str(server.process.pid), ports.name == f"nats-server_{server.process.pid}.ports", sorted(json.loads(ports.read_text()))
    same(programs, ask)


VERBOSE = {"-D": "DBG", "--debug": "DBG", "-V": "TRC", "--trace": "TRC", "-DV": "DBGTRC", "-VV": "TRC", "-DVV": "DBGTRC"}


@pytest.mark.parametrize("flag", VERBOSE)
def test_what_is_logged_by_flag(programs, tmp_path, flag):
    def ask(program):
        with started(program, *LOCAL, flag, cwd=tmp_path) as server:
            with Wire(server.port(), {}) as client:
                client.sync()
            wanted = VERBOSE[flag]
            if "DBG" in wanted:
                wait_until(lambda: "Client connection closed" in server.log(), "the end is logged")
            return ["[DBG]" in server.log(), "[TRC]" in server.log()]
    same(programs, ask)


@pytest.mark.parametrize("flags", [("--max_traced_msg_len", "4"), ("--max_traced_msg_len=0",)], ids=" ".join)
def test_traced_messages_are_cut_by_flag(programs, tmp_path, flags):
    def ask(program):
        with started(program, *LOCAL, "-V", *flags, cwd=tmp_path) as server:
            with Wire(server.port(), {}) as client:
                client.publish("a", "0123456789")
                client.sync()
            return re.findall(r"MSG_PAYLOAD: .*", server.log())
    same(programs, ask)


@pytest.mark.parametrize("flags", [("--logtime_utc",), ("-T=true",), ("-T", "--logtime_utc=true")], ids=" ".join)
def test_log_times_by_flag(programs, tmp_path, flags):
    def ask(program):
        with started(program, *LOCAL, *flags, cwd=tmp_path, env={"TZ": "Asia/Tokyo"}) as server:
            import datetime
            shown = re.match(r"\[\d+\] (\d{4}/\d\d/\d\d \d\d)", server.log())[1]
            hour = datetime.datetime.strptime(shown, "%Y/%m/%d %H").replace(tzinfo=datetime.timezone.utc)
            ahead = hour - datetime.datetime.now(datetime.timezone.utc)
            return ahead > datetime.timedelta(hours=4)
    same(programs, ask)


@pytest.mark.parametrize("flags", [("-s",), ("--syslog",)], ids=" ".join)
def test_without_a_syslog_it_does_not_start(programs, tmp_path, flags):
    if pathlib.Path("/dev/log").exists():
        pytest.skip("there is a syslog here")

    def ask(program):
        status, _, err = run(program, *LOCAL, *flags, cwd=tmp_path)
        return status, bool(plain(err, program))
    same(programs, ask)


@pytest.mark.parametrize("flag", ["-r", "--remote_syslog"])
def test_a_remote_syslog_gets_the_log(programs, tmp_path, flag):
    """What a line says, with its priority; who says it, and when, is left out."""
    def ask(program):
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as syslog:
            syslog.bind(("127.0.0.1", 0))
            syslog.settimeout(10)
            process = subprocess.Popen([program, *LOCAL, "-n", "one", flag, f"udp://127.0.0.1:{syslog.getsockname()[1]}"],
                                       stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, stdin=subprocess.DEVNULL, cwd=tmp_path)
            lines = []
            try:
                while not lines or "Server is ready" not in lines[-1]:
                    lines.append(syslog.recv(65536).decode())
                process.send_signal(signal.SIGTERM)
                while "Server Exiting" not in lines[-1]:
                    lines.append(syslog.recv(65536).decode())
            finally:
                process.kill()
                process.wait()
        shape = re.compile(r"(<\d+>)\S+ \S+ (nats-server)\[\d+\]: (.*?)\n?", re.S)
        taken = [shape.fullmatch(line) for line in lines]
        assert all(taken), lines
        said = [(found[1], found[2], found[3]) for found in taken]
        varying = re.compile(r"N[A-Z0-9]{55}|127\.0\.0\.1:\d+")
        skipped = ("  Git:", "  Go build", "  ID:", "  Version")
        return [(priority, name, varying.sub("<varies>", text)) for priority, name, text in said if not text.startswith(skipped)]
    same(programs, ask)


def rotated(folder):
    return sorted(path for path in folder.iterdir() if path.name.startswith("log.") and path.name != "log.conf")


@pytest.mark.parametrize("by_flag", [True, False], ids=["by flag", "by config"])
def test_a_full_log_is_put_aside(programs, tmp_path, by_flag):
    """At most log_max_num files are kept, and the newest lines are in the one with the plain name."""
    def ask(program):
        folder = tmp_path / pathlib.Path(program).parent.name
        folder.mkdir()
        config = folder / "rotation.conf"
        limit = "" if by_flag else "log_size_limit: 20KB\n"
        config.write_text(f'listen: "127.0.0.1:-1"\nlog_file: "{folder}/log"\nlog_max_num: 3\ndebug: true\ntrace: true\n{limit}')
        flags = ("--log_size_limit", "20000") if by_flag else ()
        process = subprocess.Popen([program, "-c", str(config), *flags], cwd=folder, stdin=subprocess.DEVNULL)
        try:
            log = folder / "log"
            wait_until(lambda: log.exists() and "Server is ready" in log.read_text(), "it is ready")
            port = int(re.search(r"Listening for client connections on \S+:(\d+)", log.read_text())[1])
            most = 0
            with Wire(port, {}) as client:
                for _ in range(40):
                    for _ in range(20):
                        client.publish("some.subject", "x" * 100)
                    client.sync()
                    most = max(most, len(rotated(folder)))
                last = "y" * 50
                client.publish("last", last)
                client.sync()
            wait_until(lambda: last in log.read_text(), "the newest line is in the log")
            # One put aside while it is looked at may be there for a moment.
            kept = wait_until(lambda: len(rotated(folder)) == 2 and rotated(folder), "the older ones are gone")
            stamped = [bool(re.fullmatch(r"log\.\d{4}\.\d\d\.\d\d\.\d\d\.\d\d\.\d\d\.\d+", path.name)) for path in kept]
            first = [STAMP.sub("", path.read_text().splitlines()[0]).split(",")[0].split(" at ")[0][:24] for path in [log]]
            return stamped, all(path.stat().st_size < 40_000 for path in [*kept, log]), first
        finally:
            process.terminate()
            process.wait(timeout=10)
    same(programs, ask)


@pytest.mark.parametrize("command", ["reopen", "reload", "ldm", "quit", "term", "stop"])
def test_commands_are_sent_by_flag(programs, tmp_path, command):
    """To a process that is named by its pid file."""
    def ask(program):
        folder = tmp_path / pathlib.Path(program).parent.name
        folder.mkdir()
        config = folder / "c.conf"
        config.write_text('listen: "127.0.0.1:-1"\npid_file: "pid"\n')
        with started(program, "-c", str(config), cwd=folder) as server:
            status, out, err = run(program, "--signal", f"{command}={folder / 'pid'}")
            said = {"reopen": "File log re-open", "reload": "Reloaded server configuration", "ldm": "lame duck"}.get(command)
            if said:
                wait_until(lambda: said in server.log(), f"it obeys {command}")
            else:
                server.process.wait(timeout=10)
            return status, out, err, [line for line in plain(server.log()).splitlines() if "Trapped" in line]
    same(programs, ask)


def test_help_about_tls(programs):
    def ask(program):
        status, out, err = run(program, "--help_tls")
        return status, bool(out or err)
    same(programs, ask)


def test_the_profiler_is_not_served(tmp_path):
    """Deliberate: there is no Go runtime to profile, see the deviations."""
    with started(binaries.weir(), *LOCAL, "--profile", str(free_port()), cwd=tmp_path) as server:
        assert '"-profile" has no effect' in server.log()
        assert not os.path.exists(f"/proc/{server.process.pid}/none")
