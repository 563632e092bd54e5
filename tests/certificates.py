"""A certificate authority for one test, made with the machine's openssl: our lock has no library that makes one."""

import shutil
import ssl
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest


@dataclass(frozen=True)
class Authority:
    """What signs certificates, and the file that says whom to trust."""

    folder: Path

    @property
    def file(self) -> Path:
        """The authority's own certificate."""
        return self.folder / "ca.pem"

    def serve_as(self, name: str, *, days: int = 2) -> ssl.SSLContext:
        """What a server needs that calls itself `name`; 0 days make a certificate that has run out."""
        key, request, signed = (self.folder / f"{name}.{end}" for end in ("key", "csr", "pem"))
        extensions = self.folder / f"{name}.ext"
        extensions.write_text(f"subjectAltName=DNS:{name}\n")
        _openssl("req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-subj", f"/CN={name}",
                 "-keyout", key, "-out", request)  # fmt: skip
        _openssl("x509", "-req", "-in", request, "-CA", self.file, "-CAkey", self.folder / "ca.key", "-extfile",
                 extensions, "-out", signed, "-days", days)  # fmt: skip
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(signed, key)
        return context


def make_authority(folder: Path) -> Authority:
    """Make an authority, or skip the test where there is no openssl."""
    if shutil.which("openssl") is None:
        pytest.skip("there is no openssl on the PATH to make certificates with")
    folder.mkdir(parents=True, exist_ok=True)
    made = Authority(folder)
    _openssl("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", 2,
             "-subj", "/CN=a test's own authority", "-keyout", folder / "ca.key", "-out", made.file,
             "-addext", "keyUsage=critical,keyCertSign")  # fmt: skip
    return made


def _openssl(*words: object) -> None:
    subprocess.run(["openssl", *map(str, words)], check=True, capture_output=True)
