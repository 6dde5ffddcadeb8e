"""The keys of a cluster: certificates of its head, of its workers, and of the authority that signed both.

`make` discards the authority's private key, so nobody can sign another certificate for the cluster.
"""

import os
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from engine.desk.wire import FILES, HEAD_NAME
from engine.errors import InputError

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey
    from cryptography.x509 import Certificate, ExtendedKeyUsage, Name

MOST_DAYS = 3650
WORKER_NAME = "cockpit-worker"


def make(folder: Path, days: int) -> None:
    """Write keys that are valid for `days` into a new folder, which only its owner can read.

    Raises InputError if the package cryptography is missing or the folder exists or cannot be written.
    """
    try:
        from cryptography.hazmat.primitives.asymmetric import ec
        from cryptography.x509.oid import ExtendedKeyUsageOID
    except ImportError:
        raise InputError("making keys needs the package cryptography: pip install 'lottery-cockpit[cluster]'") from None
    authority = ec.generate_private_key(ec.SECP256R1())
    root = _certificate("cockpit-cluster", authority, "cockpit-cluster", authority, days, None)
    made = {FILES[0]: _pem(root)}
    uses = (HEAD_NAME, ExtendedKeyUsageOID.SERVER_AUTH), (WORKER_NAME, ExtendedKeyUsageOID.CLIENT_AUTH)
    for file, (name, use) in zip(FILES[1:], uses, strict=True):
        key = ec.generate_private_key(ec.SECP256R1())
        made[file] = _key(key) + _pem(_certificate(name, key, "cockpit-cluster", authority, days, use))
    try:
        folder.mkdir(mode=0o700)
        for file, data in made.items():
            with os.fdopen(os.open(folder / file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as opened:
                opened.write(data)
    except OSError as error:
        raise InputError(f"cannot write keys to {folder} ({error.strerror}): name another folder") from None


def _certificate(
    name: str, key: "EllipticCurvePrivateKey", signer: str, signing: "EllipticCurvePrivateKey", days: int, use: object
) -> "Certificate":
    """A certificate of `name` for one `use`; an authority's if `use` is None."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes

    now = datetime.now(UTC)
    built = (
        x509.CertificateBuilder()
        .subject_name(_named(name))
        .issuer_name(_named(signer))
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))  # clocks differ
        .not_valid_after(now + timedelta(days=days))
        .add_extension(x509.BasicConstraints(ca=use is None, path_length=0 if use is None else None), critical=True)
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(signing.public_key()), critical=False)
    )
    if use is not None:
        built = built.add_extension(_use(use), critical=False)
    return built.sign(signing, hashes.SHA256())


def _use(use: object) -> "ExtendedKeyUsage":
    from cryptography import x509

    assert isinstance(use, x509.ObjectIdentifier)
    return x509.ExtendedKeyUsage([use])


def _named(name: str) -> "Name":
    from cryptography import x509

    return x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])


def _pem(certificate: "Certificate") -> bytes:
    from cryptography.hazmat.primitives.serialization import Encoding

    return certificate.public_bytes(Encoding.PEM)


def _key(key: "EllipticCurvePrivateKey") -> bytes:
    from cryptography.hazmat.primitives import serialization as write

    return key.private_bytes(write.Encoding.PEM, write.PrivateFormat.PKCS8, write.NoEncryption())
