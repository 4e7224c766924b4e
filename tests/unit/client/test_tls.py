import ssl
from pathlib import Path

import pytest

from seatkeeper.errors import ConfigurationError
from seatkeeper.tls import explain, make_context
from tests.client.tls_servers import Authority


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"))


def test_certificates_are_checked_and_old_tls_is_not_spoken(authority: Authority) -> None:
    context = make_context(authority.root)
    assert context.verify_mode is ssl.CERT_REQUIRED
    assert context.check_hostname
    assert context.minimum_version == ssl.TLSVersion.TLSv1_2
    assert "Authority of tests" in str(context.get_ca_certs())


def test_an_authority_is_added_to_the_systems(authority: Authority) -> None:
    systems = {str(certificate) for certificate in make_context().get_ca_certs()}
    assert systems <= {str(certificate) for certificate in make_context(authority.root).get_ca_certs()}


def test_files_that_cannot_be_used_are_named_by_their_setting(authority: Authority, tmp_path: Path) -> None:
    own, other = authority.issue("a"), authority.issue("b")
    hidden = authority.issue("c", key_password=b"sesame")
    text = tmp_path / "text"
    text.write_text("no certificate")
    nowhere = tmp_path / "nowhere"
    for arguments, words in [
        ((nowhere, None, None), f"ca_file cannot be read \\(no such file or folder\\): {nowhere}"),
        ((text, None, None), "ca_file holds no certificates in PEM"),
        ((None, nowhere, None), "client_cert or client_key cannot be read"),
        ((None, own.certificate, nowhere), "client_cert or client_key cannot be read"),
        ((None, text, text), "one is not PEM"),
        ((None, own.certificate, other.key), "the key is not of this certificate"),
        ((None, own.certificate, None), "one is not PEM"),
        ((None, None, own.key), "client_key is set without client_cert"),
        ((None, hidden.certificate, hidden.key), "client_key is encrypted"),
    ]:
        with pytest.raises(ConfigurationError, match=words):
            make_context(*arguments)


def test_what_is_not_known_is_told_in_openssls_words() -> None:
    strange = ssl.SSLCertVerificationError(1, "strange")
    strange.verify_code, strange.verify_message = 23, "certificate revoked"
    assert explain(strange, "seats") == (
        "the certificate of seats is not accepted (certificate revoked): have the operator renew it"
    )
    broken = ssl.SSLError(1, "[SSL: TLSV1_ALERT_INTERNAL_ERROR] tlsv1 alert internal error")
    assert explain(broken, "seats").startswith("seats broke the TLS handshake off (")
