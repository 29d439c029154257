"""A throw-away certificate authority: TLS that the unmodified Snowflake connector accepts on 127.0.0.1."""

from __future__ import annotations

import datetime
import ipaddress
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from airflow_provider_kubit_braze.sandbox.process import require_extra

if TYPE_CHECKING:
    from cryptography import x509
    from cryptography.hazmat.primitives.asymmetric.types import CertificatePublicKeyTypes

#: Days a certificate is good for; long enough for a kept sandbox directory, short enough to be forgotten.
VALID_DAYS = 90

#: A certificate with less than this left is made anew.
RENEW_BEFORE = datetime.timedelta(days=2)


@dataclass(frozen=True)
class Certificates:
    """Files of a certificate for 127.0.0.1 and localhost.

    :param certificate: the server's certificate (PEM).
    :param key: the server's private key (PEM), readable by its owner only.
    :param bundle: all authorities trusted before plus ours (PEM): the value of ``REQUESTS_CA_BUNDLE``.
    """

    certificate: Path
    key: Path
    bundle: Path


def ensure_certificates(directory: Path) -> Certificates:
    """Return the certificates in ``directory``, made now unless good ones are there.

    The authority may vouch for loopback only, and its private key is never written to disk: once the server's
    certificate is signed nobody can sign another.

    :raises SandboxError: when the extra ``sandbox`` is not installed.
    """
    require_extra("cryptography", "certifi")
    directory.mkdir(parents=True, exist_ok=True)
    files = Certificates(
        certificate=directory / "server.pem", key=directory / "server.key", bundle=directory / "ca-bundle.pem"
    )
    authority = directory / "ca.pem"
    if not (files.key.exists() and authority.exists() and _still_good(files.certificate)):
        _create(files, authority)
    # Written each time: the authorities trusted by this machine may have changed.
    files.bundle.write_bytes(_trusted_before(files.bundle) + b"\n" + authority.read_bytes())
    return files


def _trusted_before(bundle: Path) -> bytes:
    """Return the authorities in force: a company's own bundle when one is set, certifi's otherwise."""
    import certifi

    configured = os.environ.get("REQUESTS_CA_BUNDLE")
    if configured and Path(configured).is_file() and Path(configured).resolve() != bundle.resolve():
        return Path(configured).read_bytes()
    return Path(certifi.where()).read_bytes()


def _still_good(certificate: Path) -> bool:
    from cryptography import x509

    if not certificate.exists():
        return False
    ends = x509.load_pem_x509_certificate(certificate.read_bytes()).not_valid_after_utc
    return ends - datetime.datetime.now(datetime.UTC) > RENEW_BEFORE


def _create(files: Certificates, authority_file: Path) -> None:
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

    loopback = [x509.DNSName("localhost"), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]
    allowed = [x509.DNSName("localhost"), x509.IPAddress(ipaddress.ip_network("127.0.0.1/32"))]
    authority_key = ec.generate_private_key(ec.SECP256R1())
    server_key = ec.generate_private_key(ec.SECP256R1())
    authority_name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "kubit-braze sandbox (throw-away)")])
    server_name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "127.0.0.1")])
    authority_id = x509.SubjectKeyIdentifier.from_public_key(authority_key.public_key())

    authority = (
        _blank(subject=authority_name, issuer=authority_name, key=authority_key.public_key())
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_key_usage(signs_certificates=True), critical=True)
        .add_extension(authority_id, critical=False)
        .add_extension(
            x509.NameConstraints(permitted_subtrees=allowed, excluded_subtrees=None), critical=True
        )
        .sign(authority_key, hashes.SHA256())
    )
    server = (
        _blank(subject=server_name, issuer=authority_name, key=server_key.public_key())
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_key_usage(signs_certificates=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(x509.SubjectAlternativeName(loopback), critical=False)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(server_key.public_key()), critical=False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(authority_id), critical=False
        )
        .sign(authority_key, hashes.SHA256())
    )
    key_pem = server_key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    files.key.unlink(missing_ok=True)
    with os.fdopen(os.open(files.key, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as key_file:
        key_file.write(key_pem)
    authority_file.write_bytes(authority.public_bytes(serialization.Encoding.PEM))
    files.certificate.write_bytes(server.public_bytes(serialization.Encoding.PEM))


def _blank(
    *, subject: x509.Name, issuer: x509.Name, key: CertificatePublicKeyTypes
) -> x509.CertificateBuilder:
    from cryptography import x509

    now = datetime.datetime.now(datetime.UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        # A clock that was set back a little must not make the certificate look unborn.
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + datetime.timedelta(days=VALID_DAYS))
    )


def _key_usage(*, signs_certificates: bool) -> x509.KeyUsage:
    from cryptography import x509

    return x509.KeyUsage(
        digital_signature=not signs_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        encipher_only=False,
        decipher_only=False,
    )
