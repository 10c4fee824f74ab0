"""A certificate for this machine, made by itself: enough for a browser to allow the microphone. Knows no sockets."""

import datetime
import ipaddress
import os
import socket
from pathlib import Path
from typing import Any

from icebreaker.errors import ConfigError
from icebreaker.extras import load_extra

__all__ = ["self_signed"]

VALID_DAYS = 365
RENEW_DAYS = 30  # before the end


def self_signed(folder: Path, host: str) -> tuple[Path, Path]:
    """Certificate and key for ``host`` and this machine's own names; those in ``folder`` while they last.

    The same certificate again and again lets a browser remember that its user trusts it.

    Raises:
        ConfigError: the package ``cryptography`` is missing, or the folder cannot be written.
    """
    load_extra("cryptography", "tls")
    certificate, key = folder / f"{_file_name(host)}.crt", folder / f"{_file_name(host)}.key"
    try:
        if not (key.exists() and certificate.exists() and _lasts(certificate)):
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            _write(certificate, key, host)
    except OSError as error:
        raise ConfigError(
            f"{folder}: cannot keep a self-signed certificate there ({error.strerror}); "
            "give --tls-cert and --tls-key instead"
        ) from error
    return certificate, key


def _lasts(certificate: Path) -> bool:
    x509 = load_extra("cryptography.x509", "tls")
    try:
        end = x509.load_pem_x509_certificate(certificate.read_bytes()).not_valid_after_utc
    except ValueError:  # damaged: make another
        return False
    return bool(end - datetime.datetime.now(datetime.UTC) > datetime.timedelta(days=RENEW_DAYS))


def _write(certificate: Path, key: Path, host: str) -> None:
    x509, hashes = load_extra("cryptography.x509", "tls"), load_extra("cryptography.hazmat.primitives.hashes", "tls")
    ec = load_extra("cryptography.hazmat.primitives.asymmetric.ec", "tls")
    forms = load_extra("cryptography.hazmat.primitives.serialization", "tls")
    private = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "icebreaker")])
    now = datetime.datetime.now(datetime.UTC)
    signed = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(private.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=VALID_DAYS))
        .add_extension(x509.SubjectAlternativeName(_names(x509, host)), critical=False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .sign(private, hashes.SHA256())
    )
    secret = private.private_bytes(forms.Encoding.PEM, forms.PrivateFormat.PKCS8, forms.NoEncryption())
    key.unlink(missing_ok=True)
    with os.fdopen(os.open(key, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        file.write(secret)
    certificate.write_bytes(signed.public_bytes(forms.Encoding.PEM))


def _names(x509: Any, host: str) -> list[Any]:
    names = [x509.DNSName(name) for name in {"localhost", socket.gethostname()}]
    for address in {"127.0.0.1", "::1", host}:
        try:
            names.append(x509.IPAddress(ipaddress.ip_address(address)))
        except ValueError:
            names.append(x509.DNSName(address))
    return names


def _file_name(host: str) -> str:
    return "".join(letter if letter.isalnum() else "-" for letter in host)
