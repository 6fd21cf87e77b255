"""Certificates for tests, made by the openssl program: an authority, and what it gives out.

Not a judge of TLS: whether a certificate is taken is the servers' business.
"""

import hashlib
import pathlib
import subprocess


def openssl(*arguments: str) -> bytes:
    return subprocess.run(["openssl", *arguments], check=True, capture_output=True).stdout


class Authority:
    """A certificate authority in a folder of its own."""

    def __init__(self, directory: pathlib.Path, name: str = "authority"):
        self.directory = directory
        self.directory.mkdir(parents=True, exist_ok=True)
        self.name = name
        self.certificate = self.directory / f"{name}.pem"
        self.key = self.directory / f"{name}.key"
        openssl("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes",
                "-keyout", str(self.key), "-out", str(self.certificate), "-days", "30", "-subj", f"/CN={name}",
                "-addext", "basicConstraints=critical,CA:TRUE", "-addext", "keyUsage=keyCertSign,cRLSign")

    def issue(self, name: str, names: str = "DNS:localhost,IP:127.0.0.1", days: int = 30, extensions: str = "",
              subject: str = "") -> "Certificate":
        """A certificate for server and client use, with those subject alternative names and further extensions."""
        made = Certificate(self.directory / f"{name}.pem", self.directory / f"{name}.key")
        request, extension_file = self.directory / f"{name}.csr", self.directory / f"{name}.ext"
        if "extendedKeyUsage" not in extensions:
            extensions += "\nextendedKeyUsage=serverAuth,clientAuth"
        extension_file.write_text(f"subjectAltName={names}\n{extensions}\n")
        openssl("req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout", str(made.key),
                "-out", str(request), "-subj", subject or f"/O=Weir/CN={name}")
        openssl("x509", "-req", "-in", str(request), "-CA", str(self.certificate), "-CAkey", str(self.key),
                "-CAcreateserial", "-out", str(made.certificate), "-days", str(days), "-extfile", str(extension_file))
        return made


class Certificate:
    """A certificate and its key, in files."""

    def __init__(self, certificate: pathlib.Path, key: pathlib.Path):
        self.certificate, self.key = certificate, key

    def lines(self) -> str:
        """How a configuration names it."""
        return f'cert_file: "{self.certificate}", key_file: "{self.key}"'

    def serial(self) -> int:
        text = openssl("x509", "-in", str(self.certificate), "-noout", "-serial").decode()
        return int(text.strip().removeprefix("serial="), 16)

    def key_fingerprint(self) -> str:
        """The SHA-256 of its public key, as `pinned_certs` lists them."""
        public = openssl("x509", "-in", str(self.certificate), "-noout", "-pubkey")
        der = subprocess.run(["openssl", "pkey", "-pubin", "-outform", "der"], check=True, capture_output=True,
                             input=public).stdout
        return hashlib.sha256(der).hexdigest()


def make(folder: pathlib.Path) -> pathlib.Path:
    """`ca.pem`, and `server.pem` and `server.key` for 127.0.0.1 and localhost, in the folder, which is returned."""
    Authority(folder, "ca").issue("server")
    return folder
