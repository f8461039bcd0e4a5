"""Whose signature it is: the operator's certificate, or a test certificate that every home makes for itself."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from filelock import FileLock

from avatar_pipeline.errors import EnvironmentProblem
from avatar_pipeline.settings import Settings
from avatar_pipeline.store.atomic import atomic_file

if TYPE_CHECKING:
    from cryptography import x509
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey
    from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes

TEST_ORGANIZATION = "avatar_pipeline test certificate, NOT TRUSTED"
TEST_FILE = "test-credentials.pem"
_TEST_YEARS = 10
_OPERATORS = "Check AVATAR_C2PA_CERTIFICATE and AVATAR_C2PA_PRIVATE_KEY, see docs/provenance.md."


@dataclass(frozen=True, slots=True)
class Credentials:
    """A certificate chain in PEM, the leaf first, with what signs for it.

    `algorithm` is C2PA's name ('es256'); `sign` signs bytes as COSE wants it; `reproducible` says that the same bytes
    get the same signature. At `ends_at` the certificate is over.
    """

    chain: str
    algorithm: str
    sign: Callable[[bytes], bytes] = field(repr=False)
    reproducible: bool
    ends_at: datetime


def open_credentials(settings: Settings, now: datetime) -> Credentials:
    """Return the operator's credentials where the settings name them, else this home's test credentials.

    Raises:
        EnvironmentProblem: the operator's cannot be read, do not belong together, or are not valid now; or a test
            certificate cannot be kept.
    """
    certificate, key = settings.c2pa_certificate, settings.c2pa_private_key
    if (certificate is None) != (key is None):
        raise EnvironmentProblem(
            "One of AVATAR_C2PA_CERTIFICATE and AVATAR_C2PA_PRIVATE_KEY is set without the other.",
            remedy="Set both, or neither for a test certificate.",
        )
    if certificate is None or key is None:
        text = _test_credentials(settings.home.absolute() / "provenance", now)
        return _credentials(text, text, now, TEST_FILE)
    return _credentials(_read(certificate), _read(key), now, certificate.name)


def _credentials(chain: bytes, key: bytes, now: datetime, name: str) -> Credentials:
    from cryptography import x509
    from cryptography.hazmat.primitives.serialization import Encoding, load_pem_private_key

    try:
        certificates = x509.load_pem_x509_certificates(chain)
        private = load_pem_private_key(key, password=None)
    except (ValueError, TypeError) as error:
        raise EnvironmentProblem(
            f"{name}: the certificate chain or its private key is not PEM, or the key has a password.",
            remedy=_OPERATORS,
        ) from error
    leaf = certificates[0]
    if private.public_key() != leaf.public_key():
        raise EnvironmentProblem(f"{name}: the private key is not that of the first certificate.", remedy=_OPERATORS)
    if not leaf.not_valid_before_utc <= now < leaf.not_valid_after_utc:
        raise EnvironmentProblem(
            f"{name}: the certificate is valid from {leaf.not_valid_before_utc:%Y-%m-%d} "
            f"to {leaf.not_valid_after_utc:%Y-%m-%d} only.",
            remedy="Renew the certificate. What was signed before, with a time stamp, stays valid.",
        )
    algorithm, sign, reproducible = _signer(private, name)
    pem = "".join(certificate.public_bytes(Encoding.PEM).decode() for certificate in certificates)
    return Credentials(pem, algorithm, sign, reproducible, leaf.not_valid_after_utc)


def _signer(key: PrivateKeyTypes, name: str) -> tuple[str, Callable[[bytes], bytes], bool]:
    """Return COSE's name of the algorithm, what signs, and whether it signs the same way twice."""
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa

    if isinstance(key, ed25519.Ed25519PrivateKey):
        return "ed25519", key.sign, True
    if isinstance(key, ec.EllipticCurvePrivateKey):
        curves: dict[str, tuple[str, hashes.HashAlgorithm]] = {
            "secp256r1": ("es256", hashes.SHA256()),
            "secp384r1": ("es384", hashes.SHA384()),
            "secp521r1": ("es512", hashes.SHA512()),
        }
        if key.curve.name in curves:
            algorithm, digest = curves[key.curve.name]
            return algorithm, lambda data: _raw_ecdsa(key, data, digest), True
    if isinstance(key, rsa.RSAPrivateKey):
        pss = padding.PSS(padding.MGF1(hashes.SHA256()), salt_length=32)
        return "ps256", lambda data: key.sign(data, pss, hashes.SHA256()), False
    raise EnvironmentProblem(
        f"{name}: content credentials cannot be signed with this kind of key.",
        remedy="Use an EC key (P-256, P-384 or P-521), Ed25519, or RSA.",
    )


def _raw_ecdsa(key: EllipticCurvePrivateKey, data: bytes, digest: object) -> bytes:
    """Sign as COSE wants it: r and s side by side; and by RFC 6979, so that the same data get the same signature."""
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature

    signature = key.sign(data, ec.ECDSA(digest, deterministic_signing=True))  # type: ignore[arg-type]  # a hash
    size = (key.key_size + 7) // 8
    r, s = decode_dss_signature(signature)
    return r.to_bytes(size, "big") + s.to_bytes(size, "big")


def _test_credentials(folder: Path, now: datetime) -> bytes:
    """Return this home's test credentials: private key, certificate and root, made when first asked for."""
    path = folder / TEST_FILE
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        with FileLock(str(folder / ".lock")):
            if path.is_file() and _in_force(found := path.read_bytes(), now):
                return found
            made = _make_test_credentials(now)
            with atomic_file(path) as temporary:
                handle = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
                with os.fdopen(handle, "wb") as file:
                    file.write(made)
            return made
    except OSError as error:
        raise EnvironmentProblem(
            f"{path} cannot be kept: {error.strerror}.", remedy="Make room in AVATAR_HOME, or check its rights."
        ) from error


def _in_force(credentials: bytes, now: datetime) -> bool:
    """Say whether test credentials are whole and valid now; made by a clock that was ahead, they are not yet."""
    from cryptography import x509

    try:
        leaf = x509.load_pem_x509_certificates(credentials)[0]
    except ValueError:
        return False
    return leaf.not_valid_before_utc <= now < leaf.not_valid_after_utc


def _make_test_credentials(now: datetime) -> bytes:
    """Make a root and a leaf as C2PA asks for them (its profile of X.509: emailProtection or document signing)."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.x509.oid import ExtendedKeyUsageOID

    root_key, leaf_key = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    root_name, leaf_name = _name("Test root"), _name("Test signer")
    root = (
        _builder(root_name, root_name, root_key, now)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .add_extension(_usage(signs_certificates=True), critical=True)
        .sign(root_key, hashes.SHA256())
    )
    issuer = x509.AuthorityKeyIdentifier.from_issuer_public_key(root_key.public_key())
    leaf = (
        _builder(leaf_name, root_name, leaf_key, now)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_usage(signs_certificates=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.EMAIL_PROTECTION]), critical=True)
        .add_extension(issuer, critical=False)
        .sign(root_key, hashes.SHA256())
    )
    pem = serialization.Encoding.PEM
    private = leaf_key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    return private + leaf.public_bytes(pem) + root.public_bytes(pem)


def _builder(
    subject: x509.Name, issuer: x509.Name, key: EllipticCurvePrivateKey, now: datetime
) -> x509.CertificateBuilder:
    from cryptography import x509

    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=365 * _TEST_YEARS))
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
    )


def _name(common: str) -> x509.Name:
    from cryptography import x509
    from cryptography.x509.oid import NameOID

    return x509.Name(
        [
            x509.NameAttribute(NameOID.ORGANIZATION_NAME, TEST_ORGANIZATION),
            x509.NameAttribute(NameOID.COMMON_NAME, common),
        ]
    )


def _usage(*, signs_certificates: bool) -> x509.KeyUsage:
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


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise EnvironmentProblem(f"{path} cannot be read: {error.strerror}.", remedy=_OPERATORS) from error
