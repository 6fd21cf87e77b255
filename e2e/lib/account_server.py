"""An HTTP server that gives accounts' claims to a URL resolver. Not a judge of them: it hands out what it is given."""

import http.server
import ssl
import threading


class AccountServer:
    """Knows `known`, tokens by account, which may change while it serves; over TLS with a certificate."""

    def __init__(self, known: dict[str, str], certificate=None):
        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self):
                key = self.path.rsplit("/", 1)[-1]
                token = known.get(key, "").encode()
                self.send_response(200 if token or not key else 404)
                self.send_header("Content-Length", str(len(token)))
                self.end_headers()
                self.wfile.write(token)

            def log_message(self, *_):
                pass

        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        if certificate:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(certificate.certificate, certificate.key)
            self._server.socket = context.wrap_socket(self._server.socket, server_side=True)
        scheme = "https" if certificate else "http"
        self.url = f"{scheme}://127.0.0.1:{self._server.server_port}/jwt/v1/accounts/"

    def __enter__(self) -> "AccountServer":
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_):
        self._server.shutdown()
