"""The program from the outside: flags, config errors, log lines, signals, exit statuses, pid and ports files.

Weir is started under the name nats-server here, as something that takes its place would be.
"""

import json
import os
import pathlib
import re
import signal
import socket
import subprocess
import time

import pytest

from broker import STANDALONE, WITH_JETSTREAM, free_port, wait_until
from compare import same
from wire import Wire

ENDS_WITHIN_SECONDS = 10


def run(program, *arguments, cwd=None, env=None, within=ENDS_WITHIN_SECONDS):
    """Runs to the end: (status, standard output, standard error)."""
    done = subprocess.run([program, *arguments], capture_output=True, text=True, timeout=within, cwd=cwd,
                          env=os.environ | (env or {}), stdin=subprocess.DEVNULL)
    return done.returncode, done.stdout, done.stderr


STAMP = re.compile(r"^\[\d+\] \d{4}/\d\d/\d\d \d\d:\d\d:\d\d\.\d{6} ", re.M)


def plain(text, *secrets):
    """A log without pids and times, and without what differs from run to run."""
    text = STAMP.sub("", text)
    for secret in secrets:
        text = text.replace(str(secret), "<masked>")
    return text.strip()


VERSIONS = [("-v",), ("--version",), ("-version",), ("-v", "-p", "1")]


@pytest.mark.parametrize("arguments", VERSIONS, ids=" ".join)
def test_version(programs, arguments):
    same(programs, lambda program: run(program, *arguments))


WRONG_FLAGS = [
    ("--nonsense",), ("-p",), ("-p", "many"), ("--port=x",), ("-m", "x"), ("-D=maybe",), ("--pid",), ("-sl", "what"),
    ("-p", "99999"), ("--routes", "::bad::"), ("-a", "300.1.2.3"), ("leftover",), ("-sl", "what=12"),
]


@pytest.mark.parametrize("arguments", WRONG_FLAGS, ids=" ".join)
def test_wrong_flags_are_refused(programs, arguments):
    def ask(program):
        status, out, err = run(program, *arguments)
        # The help text is long and is each program's own; the first line says what is wrong.
        first = (err or out).strip().splitlines()
        return status, plain(first[0], program) if first else ""

    same(programs, ask)


def test_help_is_printed_and_exits_zero(programs):
    def ask(program):
        status, out, err = run(program, "--help")
        return status, "Usage:" in out, bool(err)

    same(programs, ask)


# Config texts that are refused. What is compared: the exit status, and the line without the path.
WRONG_CONFIGS = {
    "an unknown key": "colour: blue\n",
    "an unknown key on line three": "port: 4222\n\ncolour: blue\n",
    "an unknown key in jetstream": "jetstream { colour: blue }\n",
    "an unknown key in cluster": "cluster { colour: blue }\n",
    "a wrong type": "port: many\n",
    "a bool for a number": "max_payload: true\n",
    "a port as list": "port: [1]\n",
    "an unclosed map": "jetstream {\n",
    "an unclosed array": "a: [1, 2\n",
    "an unclosed string": 'server_name: "abc\n',
    "a stray brace": "port: 4222\n}\n",
    "a key without value": "port:\n",
    "an unknown variable": "port: $NOWHERE_TO_BE_FOUND\n",
    "a missing include": "include './missing.conf'\n",
    "a duplicate user": "authorization { users: [ {user: a, password: b}, {user: a, password: c} ] }\n",
    "a token and users": "authorization { token: x, users: [ {user: a, password: b} ] }\n",
    "a no_auth_user that does not exist": "authorization { users: [ {user: a, password: b} ] }\nno_auth_user: c\n",
    "a broken listen": 'listen: "nowhere:::1"\n',
    "a negative max_payload": "max_payload: -5\n",
    "a max_payload above max_pending": "max_payload: 10MB\nmax_pending: 1MB\n",
    "a broken duration": 'ping_interval: "soon"\n',
    "a duration as word": 'write_deadline: "10 parsecs"\n',
    "a bad size suffix": "max_payload: 10QB\n",
    "a server name with a blank": 'server_name: "a b"\n',
    "a cluster name with a blank": 'cluster { name: "a b", port: -1 }\n',
    "a broken route": 'cluster { port: -1, routes: ["::::"] }\n',
    "clustered jetstream without a server name": "jetstream: enabled\ncluster { name: c, port: -1 }\n",
    "clustered jetstream without a cluster name": "server_name: x\njetstream: enabled\ncluster { port: -1, routes: [nats://127.0.0.1:1] }\n",
    "permissions with an invalid subject": 'authorization { users: [ {user: a, password: b, permissions: {publish: "a..b"}} ] }\n',
}


@pytest.mark.parametrize("text", WRONG_CONFIGS.values(), ids=[name.replace(" ", "_") for name in WRONG_CONFIGS])
@pytest.mark.parametrize("check", [False, True], ids=["start", "check"])
def test_wrong_configs_are_refused(programs, tmp_path, text, check):
    def ask(program):
        path = tmp_path / "broken.conf"
        path.write_text(text)
        # Some texts are fine for a program that then would run: the timeout says so.
        try:
            status, out, err = run(program, "-c", str(path), "-p", "-1", *(["-t"] if check else []), cwd=tmp_path, within=3)
        except subprocess.TimeoutExpired:
            return "runs"
        said = plain(err or out, path, program).splitlines()
        return status, [line for line in said if "Config" not in line][-1:]

    same(programs, ask)


RIGHT_CONFIGS = {
    "equals signs": "port = -1\nmax_payload = 1024\n",
    "blanks": "port -1\nmax_payload 1024\n",
    "json": '{"port": -1, "max_payload": 1024}\n',
    "hash comments": "# a comment\nport: -1 # another\nmax_payload: 1024\n",
    "slash comments": "// a comment\nport: -1 // another\nmax_payload: 1024\n",
    "sizes with suffix": "port: -1\nmax_payload: 1k\n",
    "binary sizes": "port: -1\nmax_payload: 1KiB\n",
    "capital keys": "PORT: -1\nMAX_PAYLOAD: 1024\n",
    "variables": "size: 1024\nport: -1\nmax_payload: $size\n",
    "environment variables": "port: -1\nmax_payload: $SIZE_FROM_OUTSIDE\n",
    "commas": "port: -1, max_payload: 1024\n",
    "semicolons": "port: -1; max_payload: 1024;\n",
    "single quotes": "host: '127.0.0.1'\nport: -1\nmax_payload: 1024\n",
    "includes": "include 'part.conf'\nport: -1\n",
    "nested blocks": "port: -1\nmax_payload: 1024\nauthorization { timeout: 3 }\n",
    "durations": 'port: -1\nmax_payload: 1024\nping_interval: "1m30s"\nwrite_deadline: "2s"\n',
}


@pytest.mark.parametrize("text", RIGHT_CONFIGS.values(), ids=[name.replace(" ", "_") for name in RIGHT_CONFIGS])
def test_right_configs_pass_the_check_and_serve(programs, tmp_path, text):
    def ask(program):
        (tmp_path / "part.conf").write_text("max_payload: 1024\n")
        path = tmp_path / "right.conf"
        path.write_text(text)
        environment = {"SIZE_FROM_OUTSIDE": "1024"}
        status, out, err = run(program, "-t", "-c", str(path), cwd=tmp_path, env=environment)
        with started(program, "-c", str(path), "-a", "127.0.0.1", cwd=tmp_path, env=environment) as server:
            with Wire(server.port()) as client:
                return status, plain(err + out, path, program), client.info["max_payload"]

    same(programs, ask)


class started:
    """The program with these arguments, from its ready line to the end of the block."""

    def __init__(self, program, *arguments, cwd, env=None):
        self.log_path = pathlib.Path(cwd) / f"log-{time.monotonic_ns()}"
        with open(self.log_path, "wb") as log:
            self.process = subprocess.Popen([program, *arguments], stderr=log, stdout=log, cwd=cwd,
                                            env=os.environ | (env or {}), stdin=subprocess.DEVNULL)

    def __enter__(self):
        try:
            wait_until(lambda: self.process.poll() is not None or "Server is ready" in self.log(), "it is ready", 10)
            assert self.process.poll() is None, self.log()
        except AssertionError:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_):
        self.process.kill()
        self.process.wait()

    def log(self):
        return self.log_path.read_text()

    def port(self):
        return int(re.search(r"Listening for client connections on \S+:(\d+)", self.log())[1])

    def signalled(self, number):
        self.process.send_signal(number)
        return self.process.wait(timeout=ENDS_WITHIN_SECONDS)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGKILL], ids=lambda number: number.name)
def test_signals_end_it_with_nats_servers_status(programs, tmp_path, number):
    def ask(program):
        with started(program, "-a", "127.0.0.1", "-p", "-1", cwd=tmp_path) as server:
            return server.signalled(number)

    same(programs, ask)


def test_a_stop_is_logged_as_nats_server_does(programs, tmp_path):
    def ask(program):
        with started(program, "-a", "127.0.0.1", "-p", "-1", "-js", "-sd", str(tmp_path / pathlib.Path(program).parent.name),
                     cwd=tmp_path) as server:
            ready = len(server.log())
            server.signalled(signal.SIGTERM)
            return plain(server.log()[ready:])

    same(programs, ask)


def test_log_lines_of_the_start_come_in_nats_servers_order(programs, tmp_path):
    def ask(program):
        store = tmp_path / pathlib.Path(program).parent.name
        config = tmp_path / "ordered.conf"
        config.write_text(f'listen: "127.0.0.1:-1"\nhttp: "127.0.0.1:{free_port()}"\nserver_name: one\n'
                          f'jetstream {{ store_dir: "{store}", max_memory_store: 64MB, max_file_store: 256MB }}\n')
        with started(program, "-c", str(config), cwd=tmp_path) as server:
            text = plain(server.log())
        starts = ["Starting nats-server", "  Version:", "  Git:", "  Name:", "  Node:", "  ID:", "Using configuration file:",
                  "Starting http monitor on", "Starting JetStream", "---------------- JETSTREAM ----------------", "  Max Memory:",
                  "  Max Storage:", "  Store Directory:", "-------------------------------------------",
                  "Listening for client connections on", "Server is ready"]
        seen = [start for line in text.splitlines() for start in starts if line.removeprefix("[INF] ").startswith(start)]
        return seen

    same(programs, ask)


def test_every_log_line_has_nats_servers_form(programs, tmp_path):
    line = re.compile(r"\[\d+\] \d{4}/\d\d/\d\d \d\d:\d\d:\d\d\.\d{6} \[(INF|WRN|ERR|DBG|TRC|FTL)\] .*")

    def ask(program):
        with started(program, "-a", "127.0.0.1", "-p", "-1", "-DV", cwd=tmp_path) as server:
            with Wire(server.port(), {}) as client:
                client.sync()
            return [text for text in server.log().splitlines() if text and not line.fullmatch(text)]

    same(programs, ask)


def test_trace_shows_the_protocol(programs, tmp_path):
    def ask(program):
        with started(program, "-a", "127.0.0.1", "-p", "-1", "-DV", cwd=tmp_path) as server:
            with Wire(server.port(), {}) as client:
                client.subscribe("traced")
                client.publish("traced", "hi")
                client.sync()
            return [bool(re.search(pattern, server.log())) for pattern in
                    (r"\[TRC\].*SUB traced", r"\[TRC\].*PUB traced", r"\[TRC\].*PING", r"\[DBG\].*Client connection created")]

    same(programs, ask)


@pytest.mark.parametrize("arguments", [("-T=false",), ("--logtime=false",)], ids=" ".join)
def test_log_times_may_be_left_out(programs, tmp_path, arguments):
    def ask(program):
        with started(program, "-a", "127.0.0.1", "-p", "-1", *arguments, cwd=tmp_path) as server:
            return re.sub(r"\d+", "N", server.log().splitlines()[0])

    same(programs, ask)


def test_a_log_file_takes_the_log(programs, tmp_path):
    def ask(program):
        path = tmp_path / f"{pathlib.Path(program).parent.name}.log"
        process = subprocess.Popen([program, "-a", "127.0.0.1", "-p", "-1", "-l", str(path)],
                                   stdout=subprocess.PIPE, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL)
        try:
            wait_until(lambda: path.exists() and "Server is ready" in path.read_text(), "the log says so")
            moved = path.with_suffix(".1")
            path.rename(moved)
            process.send_signal(signal.SIGUSR1)
            wait_until(path.exists, "the log is open again")
        finally:
            process.terminate()
            out, _ = process.communicate(timeout=ENDS_WITHIN_SECONDS)
        return process.returncode, out, "Server Exiting" in path.read_text()

    same(programs, ask)


def test_the_pid_file_holds_the_bare_number(programs, tmp_path):
    def ask(program):
        path = tmp_path / f"{pathlib.Path(program).parent.name}.pid"
        with started(program, "-a", "127.0.0.1", "-p", "-1", "-P", str(path), cwd=tmp_path) as server:
            right = path.read_text() == str(server.process.pid)
            server.signalled(signal.SIGTERM)
        return right, path.exists()

    same(programs, ask)


def test_the_ports_file_lists_the_urls(programs, tmp_path):
    def ask(program):
        directory = tmp_path / pathlib.Path(program).parent.name
        directory.mkdir()
        with started(program, "-a", "127.0.0.1", "-p", "-1", "-m", "-1", "--ports_file_dir", str(directory), cwd=tmp_path) as server:
            path = directory / f"nats-server_{server.process.pid}.ports"
            wait_until(path.exists, "the ports file is there")
            ports = json.loads(wait_until(path.read_text, "the ports file is written"))
            port = server.port()
            server.signalled(signal.SIGTERM)
        return sorted(ports), ports["nats"] == [f"nats://127.0.0.1:{port}"], path.exists()

    same(programs, ask)


def test_a_busy_port_is_fatal(programs, tmp_path):
    def ask(program):
        with socket.create_server(("127.0.0.1", 0)) as taken:
            port = taken.getsockname()[1]
            status, _, err = run(program, "-a", "127.0.0.1", "-p", str(port), cwd=tmp_path)
            fatal = [plain(line, port) for line in err.splitlines() if "[FTL]" in line]
            return status, fatal

    same(programs, ask)


def test_a_missing_config_is_fatal(programs, tmp_path):
    def ask(program):
        status, out, err = run(program, "-c", "missing.conf", cwd=tmp_path)
        return status, plain(err + out, program)

    same(programs, ask)


def test_a_store_that_cannot_be_made_is_fatal(programs, tmp_path):
    (tmp_path / "file").write_text("not a directory")

    def ask(program):
        status, _, err = run(program, "-a", "127.0.0.1", "-p", "-1", "-js", "-sd", str(tmp_path / "file/store"), cwd=tmp_path)
        return status, any("[FTL]" in line for line in err.splitlines())

    same(programs, ask)


def test_a_flag_beats_the_config(programs, tmp_path):
    path = tmp_path / "port.conf"
    path.write_text('listen: "127.0.0.1:1"\nserver_name: from-config\n')

    def ask(program):
        with started(program, "-c", str(path), "-p", "-1", "-n", "from-flag", cwd=tmp_path) as server:
            with Wire(server.port()) as client:
                return client.info["server_name"]

    same(programs, ask)


def test_credentials_by_flag(programs, tmp_path):
    def ask(program):
        with started(program, "-a", "127.0.0.1", "-p", "-1", "--user", "u", "--pass=p", cwd=tmp_path) as server:
            answers = []
            for password in ("p", "q"):
                with Wire(server.port(), {"user": "u", "pass": password}) as client:
                    answers.append([operation.verb for operation in client.until_pong() if operation.verb != "INFO"])
            return answers

    same(programs, ask)


def test_a_refused_client_is_logged_without_the_library_it_names(programs, tmp_path):
    def ask(program):
        with started(program, "-a", "127.0.0.1", "-p", "-1", "--user", "u", "--pass=p", cwd=tmp_path) as server:
            for password in ("q", "p"):
                with Wire(server.port(), {"user": "u", "pass": password, "lang": "x", "version": "1", "name": "n"}) as client:
                    client.until_pong()
                    client.send("WRONG")
            wait_until(lambda: "Client parser ERROR" in server.log(), "the log says what was wrong")
            return [re.sub(r".*127.0.0.1:\d+ - cid:\d+", "<client>", line).split(" ERROR")[0]
                    for line in server.log().splitlines() if "[ERR]" in line]

    same(programs, ask)


def test_a_token_by_flag(programs, tmp_path):
    def ask(program):
        with started(program, "-a", "127.0.0.1", "-p", "-1", "--auth", "secret", cwd=tmp_path) as server:
            with Wire(server.port(), {"auth_token": "secret"}) as client:
                return client.info.get("auth_required"), [operation.verb for operation in client.until_pong() if operation.verb != "INFO"]

    same(programs, ask)


def test_a_signal_is_sent_by_flag(programs, tmp_path):
    def ask(program):
        with started(program, "-a", "127.0.0.1", "-p", "-1", cwd=tmp_path) as server:
            status, out, err = run(program, "-sl", f"stop={server.process.pid}")
            return status, out + err, server.process.wait(timeout=ENDS_WITHIN_SECONDS)

    same(programs, ask)


# -- reload and lame duck, on a broker of the harness

@pytest.fixture
def brokers(programs, start_both):
    return lambda config: start_both(config.replace("NAME", "one"), programs)


def test_reload_changes_max_payload(brokers):
    made = brokers(STANDALONE + "max_payload: 1000\n")

    def ask(broker):
        broker.write_config(STANDALONE.replace("NAME", "one") + "max_payload: 2000\n")
        broker.signal(signal.SIGHUP)
        wait_until(lambda: "Reloaded server configuration" in broker.log(), "it is reloaded")
        with Wire(broker.port) as client:
            return client.info["max_payload"]

    same(made, ask)


def test_reload_changes_the_token_and_drops_who_has_the_old_one(brokers):
    made = brokers(STANDALONE + "authorization { token: old }\n")

    def ask(broker):
        with Wire(broker.port, {"auth_token": "old"}) as client:
            client.sync()
            broker.write_config(STANDALONE.replace("NAME", "one") + "authorization { token: new }\n")
            broker.signal(signal.SIGHUP)
            dropped = [str(operation) for operation in client.until_closed() if operation.verb != "INFO"]
        with Wire(broker.port, {"auth_token": "new"}) as client:
            return dropped, [operation.verb for operation in client.until_pong() if operation.verb != "INFO"]

    same(made, ask)


def test_a_failed_reload_keeps_the_old_config(brokers):
    made = brokers(STANDALONE + "max_payload: 1000\n")

    def ask(broker):
        broker.write_config("max_payload: nonsense\n")
        broker.signal(signal.SIGHUP)
        wait_until(lambda: "Failed to reload server configuration" in broker.log(), "it says that it failed")
        with Wire(broker.port) as client:
            return client.info["max_payload"]

    same(made, ask)


def test_a_reload_that_would_move_the_store_is_refused(brokers):
    made = brokers(WITH_JETSTREAM)

    def ask(broker):
        broker.write_config(WITH_JETSTREAM.replace("NAME", "one").replace("STORE", "STORE-elsewhere"))
        broker.signal(signal.SIGHUP)
        line = wait_until(lambda: re.search(r"\[ERR\] Failed to reload server configuration: .*", broker.log()), "it says so")
        return plain(line[0], broker.store)

    same(made, ask)


def test_lame_duck_tells_clients_and_exits(brokers):
    made = brokers(STANDALONE + 'lame_duck_duration: "30s"\nlame_duck_grace_period: "300ms"\n')

    def ask(broker):
        with Wire(broker.port, {"protocol": 1}) as client:
            client.sync()
            broker.signal(signal.SIGUSR2)
            seen = []
            while (operation := client.read(5)).verb != "<closed>":
                seen.append((operation.verb, json.loads(operation.arguments).get("ldm")) if operation.verb == "INFO" else str(operation))
        return seen, broker.wait_exit(), "Entering lame duck mode" in broker.log()

    same(made, ask)
