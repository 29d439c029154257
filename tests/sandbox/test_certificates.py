"""The throw-away authority: good for loopback, for this sandbox, and for nothing else."""

from __future__ import annotations

import datetime
import stat
from pathlib import Path
from typing import TYPE_CHECKING, Any

import certifi
from cryptography import x509

from airflow_provider_kubit_braze.sandbox import certificates

if TYPE_CHECKING:
    import pytest


def test_the_bundle_holds_all_authorities_trusted_before_and_ours(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("REQUESTS_CA_BUNDLE", raising=False)
    bundle = certificates.ensure_certificates(tmp_path).bundle.read_bytes()
    trusted = x509.load_pem_x509_certificates(Path(certifi.where()).read_bytes())
    *before, ours = x509.load_pem_x509_certificates(bundle)
    assert before == trusted
    constraints = ours.extensions.get_extension_for_class(x509.NameConstraints).value
    assert [str(name.value) for name in constraints.permitted_subtrees or ()] == ["localhost", "127.0.0.1/32"]


def test_a_bundle_of_the_companys_own_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    company = tmp_path / "company.pem"
    company.write_bytes(b"company's authorities\n")
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(company))
    files = certificates.ensure_certificates(tmp_path / "tls")
    assert files.bundle.read_bytes().startswith(b"company's authorities\n")
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(files.bundle))
    size = files.bundle.stat().st_size
    again = certificates.ensure_certificates(tmp_path / "tls").bundle
    assert again.read_bytes().count(b"company's authorities") <= 1
    assert again.stat().st_size != 2 * size


def test_only_the_servers_key_is_written_and_only_its_owner_reads_it(tmp_path: Path) -> None:
    files = certificates.ensure_certificates(tmp_path)
    assert [file for file in tmp_path.iterdir() if b"PRIVATE KEY" in file.read_bytes()] == [files.key]
    assert stat.S_IMODE(files.key.stat().st_mode) == 0o600


def test_good_certificates_are_used_again_and_old_ones_are_not(tmp_path: Path, mocker: Any) -> None:
    first = certificates.ensure_certificates(tmp_path).certificate.read_bytes()
    assert certificates.ensure_certificates(tmp_path).certificate.read_bytes() == first
    mocker.patch.object(certificates, "RENEW_BEFORE", datetime.timedelta(days=certificates.VALID_DAYS))
    assert certificates.ensure_certificates(tmp_path).certificate.read_bytes() != first
