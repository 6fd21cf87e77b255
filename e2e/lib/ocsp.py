"""An OCSP responder (RFC 6960) that says what a test wants it to say, signed by the openssl program.

Not a library for OCSP: it writes the one shape of answer that servers here read, and reads one shape of request.
"""

import base64
import contextlib
import subprocess
import threading
import time
import urllib.parse
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from certificates import Authority, Certificate

SHA256_WITH_ECDSA = bytes.fromhex("300a06082a8648ce3d040302")
BASIC = bytes.fromhex("06092b0601050507300101")
GOOD, UNKNOWN = b"\x80\x00", b"\x82\x00"


def der(tag: int, *parts: bytes) -> bytes:
    body = b"".join(parts)
    if len(body) < 0x80:
        return bytes([tag, len(body)]) + body
    length = len(body).to_bytes((len(body).bit_length() + 7) // 8, "big")
    return bytes([tag, 0x80 | len(length)]) + length + body


def split(data: bytes) -> tuple[int, bytes, bytes, bytes]:
    """The first element: its tag, its body, itself, and what is behind it."""
    tag, length, start = data[0], data[1], 2
    if length & 0x80:
        start += length & 0x7F
        length = int.from_bytes(data[2:start], "big")
    return tag, data[start:start + length], data[:start + length], data[start + length:]


def moment(seconds: float) -> bytes:
    return der(0x18, time.strftime("%Y%m%d%H%M%SZ", time.gmtime(seconds)).encode())


def revoked() -> bytes:
    return der(0xA1, moment(time.time() - 3600))


def asked(request: bytes) -> tuple[bytes, int]:
    """The certificate's id in a request, and its serial number."""
    content = split(request)[1]
    inner = split(content)[1]
    while split(inner)[0] != 0x30:
        inner = split(inner)[3]
    first = split(split(inner)[1])[1]
    identity = split(first)[2]
    rest = split(identity)[1]
    for _ in range(3):
        rest = split(rest)[3]
    return identity, int.from_bytes(split(rest)[1], "big")


class Responder:
    """Listens on loopback from the start. `say` sets what is said of a certificate; of others nothing is known."""

    def __init__(self, authority: Authority, delegate: Certificate | None = None):
        self.authority, self.delegate = authority, delegate
        self.status: dict[int, bytes] = {}
        self.valid_seconds: float | None = 3600.0
        self.age_seconds = 60.0
        self.http_status = 200
        self.delay_seconds = 0.0
        self.spoiled = False
        self.requests: list[str] = []
        responder = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self):
                self.reply("POST", self.rfile.read(int(self.headers["Content-Length"])))

            def do_GET(self):
                text = urllib.parse.unquote(self.path.lstrip("/"))
                self.reply("GET", base64.b64decode(text))

            def reply(self, method: str, request: bytes):
                time.sleep(responder.delay_seconds)
                responder.requests.append(method)
                body = responder.answer(request) if responder.http_status == 200 else b"no"
                self.send_response(responder.http_status)
                self.send_header("Content-Type", "application/ocsp-response")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                # Who asked may have given up.
                with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                    self.wfile.write(body)

            def log_message(self, *_):
                pass

        self._handler = Handler
        self._listen(0)

    def _listen(self, port: int):
        self._server = ThreadingHTTPServer(("127.0.0.1", port), self._handler)
        self._server.daemon_threads = True
        self.port = self._server.server_address[1]
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def extensions(self, must_staple: bool = False) -> str:
        """What a certificate says so that this responder is asked about it."""
        promise = "\ntlsfeature=status_request" if must_staple else ""
        return f"authorityInfoAccess=OCSP;URI:{self.url}{promise}"

    def say(self, certificate: Certificate, status: bytes):
        self.status[certificate.serial()] = status

    def stop(self):
        self._server.shutdown()
        self._server.server_close()

    def resume(self):
        """Listens where it did before."""
        self._listen(self.port)

    def answer(self, request: bytes) -> bytes:
        identity, serial = asked(request)
        began = time.time() - self.age_seconds
        times = [moment(began)]
        if self.valid_seconds is not None:
            times.append(der(0xA0, moment(began + self.age_seconds + self.valid_seconds)))
        single = der(0x30, identity, self.status.get(serial, UNKNOWN), *times)
        signer = self.delegate or Certificate(self.authority.certificate, self.authority.key)
        content = der(0x30, der(0xA2, der(0x04, bytes(20))), moment(time.time()), der(0x30, single))
        signature = subprocess.run(["openssl", "dgst", "-sha256", "-sign", str(signer.key)], input=content,
                                   capture_output=True, check=True).stdout
        if self.spoiled:
            content = content.replace(bytes(20), b"\x01" + bytes(19), 1)
        embedded = b""
        if self.delegate:
            pem = subprocess.run(["openssl", "x509", "-in", str(self.delegate.certificate), "-outform", "der"],
                                 capture_output=True, check=True).stdout
            embedded = der(0xA0, der(0x30, pem))
        basic = der(0x30, content, SHA256_WITH_ECDSA, der(0x03, b"\0" + signature), embedded)
        return der(0x30, der(0x0A, b"\0"), der(0xA0, der(0x30, BASIC, der(0x04, basic))))
