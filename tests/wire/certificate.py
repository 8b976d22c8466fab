"""A certificate for loopback, made on the spot: a key in the repository would be a secret to every scanner."""

import shutil
import subprocess

import pytest


def make_certificate(folder):
    """Paths of the certificate and its key; skips the test where the openssl command is missing."""
    if shutil.which("openssl") is None:
        pytest.skip("needs the openssl command")
    made, key = folder / "made.pem", folder / "key.pem"
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"]
    command += ["-keyout", key, "-out", made, "-days", "2", "-subj", "/CN=loopback"]
    command += ["-addext", "subjectAltName=IP:127.0.0.1"]
    subprocess.run(command, check=True, capture_output=True)
    return made, key
