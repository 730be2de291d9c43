"""An authority and the certificates that it signs, for a day: files as docker-compose.secure.yml expects them."""

from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID


def make_certificates(directory: Path) -> None:
    """``ca.pem``, and for broker and administrator a key with its certificate; a stranger has one of its own making."""
    directory.mkdir(parents=True, exist_ok=True)
    key, authority = _sign("headcount-test-authority", None)
    (directory / "ca.pem").write_bytes(authority.public_bytes(Encoding.PEM))
    for file, name in (("broker.pem", "kafka"), ("admin.pem", "headcount-admin")):
        (directory / file).write_bytes(_pair(*_sign(name, (key, authority))))
    (directory / "stranger.pem").write_bytes(_pair(*_sign("headcount-admin", None)))


def _pair(key: ec.EllipticCurvePrivateKey, certificate: x509.Certificate) -> bytes:
    private = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    return private + certificate.public_bytes(Encoding.PEM)


def _sign(
    name: str, by: tuple[ec.EllipticCurvePrivateKey, x509.Certificate] | None
) -> tuple[ec.EllipticCurvePrivateKey, x509.Certificate]:
    """A certificate signed by the authority, or, without one, by itself."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    names = [x509.DNSName("kafka"), x509.DNSName("localhost"), x509.IPAddress(ip_address("127.0.0.1"))]
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject if by is None else by[1].subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.BasicConstraints(ca=by is None, path_length=None), critical=True)
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .sign(key if by is None else by[0], hashes.SHA256())
    )
    return key, certificate
