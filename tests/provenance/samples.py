"""Small finished files to sign, and certificates of an operator's."""

from datetime import UTC, datetime, timedelta
from fractions import Fraction
from pathlib import Path

import av
import numpy as np

from avatar_pipeline.media.audio import write_wav
from avatar_pipeline.media.types import Audio
from avatar_pipeline.provenance import Claim
from avatar_pipeline.settings import Settings

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
CLAIM = Claim(
    title="clip.mp4",
    artifact_key="0123456789abcdef0123456789abcdef",
    text="Ada Lovelace says hello.",
    provider="local",
    voice_label="voice-matched, not cloned",
    voice_key="fedcba9876543210fedcba9876543210",
    consent_id="consent-of-ada-lovelace",
)


def make(path: Path) -> Path:
    """Make a second of sound (.wav), or half a second of picture (.mp4), always the same."""
    if path.suffix == ".wav":
        tone = 0.3 * np.sin(2 * np.pi * 220 * np.arange(22_050) / 22_050)
        write_wav(path, Audio(tone.astype(np.float32), 22_050))
        return path
    with av.open(str(path), "w", options={"movflags": "+faststart"}) as container:
        stream = container.add_stream("libx264", rate=Fraction(25))
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for number in range(12):
            image = np.full((48, 64, 3), number * 20, np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        container.mux(stream.encode(None))
    return path


def operator_settings(folder: Path, *, kind: str = "ec", days: int = 30, other_key: bool = False) -> Settings:
    """Settings that name an operator's certificate: of an EC, Ed25519 or RSA key, which ends in `days`."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
    from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

    def new_key():
        if kind == "ed25519":
            return ed25519.Ed25519PrivateKey.generate()
        if kind == "rsa":
            return rsa.generate_private_key(65537, 2048)
        return ec.generate_private_key(ec.SECP384R1() if kind == "ec384" else ec.SECP256R1())

    def name(common: str) -> x509.Name:
        parts = ((NameOID.ORGANIZATION_NAME, "Example Ltd."), (NameOID.COMMON_NAME, common))
        return x509.Name([x509.NameAttribute(oid, value) for oid, value in parts])

    root_key, key = ec.generate_private_key(ec.SECP256R1()), new_key()
    refused = ("content_commitment", "key_encipherment", "data_encipherment", "key_agreement", "key_cert_sign")
    usage = dict.fromkeys((*refused, "crl_sign", "encipher_only", "decipher_only"), False)
    leaf = (
        x509.CertificateBuilder()
        .subject_name(name("Signer"))
        .issuer_name(name("Root"))
        .public_key(key.public_key())
        .serial_number(7)
        .not_valid_before(NOW - timedelta(days=400))
        .not_valid_after(NOW + timedelta(days=days))
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(x509.KeyUsage(digital_signature=True, **usage), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.EMAIL_PROTECTION]), critical=True)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(root_key.public_key()), critical=False)
        .sign(root_key, hashes.SHA256())
    )
    written = new_key() if other_key else key
    chain, private = folder / "chain.pem", folder / "key.pem"
    chain.write_bytes(leaf.public_bytes(serialization.Encoding.PEM))
    private.write_bytes(
        written.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
    )
    return Settings(home=folder / "home", c2pa_certificate=chain, c2pa_private_key=private)
