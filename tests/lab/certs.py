# SPDX-License-Identifier: Apache-2.0
"""Certificates made on the spot: a small CA for a server's own TLS, self-signed ones for ejabberd's
first start, and bad ones for tests.
"""

import datetime
import ipaddress

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID


def new_key() -> ec.EllipticCurvePrivateKey:
    return ec.generate_private_key(ec.SECP256R1())


def key_pem(key) -> str:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    ).decode()


def cert_pem(certificate: x509.Certificate) -> str:
    return certificate.public_bytes(serialization.Encoding.PEM).decode()


def make(
    names: list[str],
    *,
    key=None,
    issuer: tuple | None = None,
    ca: bool = False,
    days: float = 30,
    start_days: float = -1
) -> tuple:
    """(certificate, key) for these host names and IP addresses; signed by issuer=(certificate,
    key), or by itself.
    """
    key = key or new_key()
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, names[0][:64])])
    now = datetime.datetime.now(datetime.timezone.utc).replace(tzinfo=None)
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer[0].subject if issuer else subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now + datetime.timedelta(days=start_days))
        .not_valid_after(now + datetime.timedelta(days=days))
        .add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
    )
    if ca:
        builder = builder.add_extension(_usage(key_cert_sign=True, crl_sign=True), critical=True)
    else:
        builder = builder.add_extension(
            x509.SubjectAlternativeName([_general_name(n) for n in names]), critical=False
        )
    if issuer:
        identifier = x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer[1].public_key())
        builder = builder.add_extension(identifier, critical=False)
    return builder.sign(issuer[1] if issuer else key, hashes.SHA256()), key


def combined_pem(names: list[str], **options) -> str:
    """Certificate and key in one text, as ejabberd reads it."""
    certificate, key = make(names, **options)
    return cert_pem(certificate) + key_pem(key)


def load(pem_or_der: str | bytes) -> x509.Certificate:
    if isinstance(pem_or_der, bytes) and not pem_or_der.lstrip().startswith(b"-"):
        return x509.load_der_x509_certificate(pem_or_der)
    return x509.load_pem_x509_certificate(
        pem_or_der.encode() if isinstance(pem_or_der, str) else pem_or_der
    )


def dns_names(certificate: x509.Certificate) -> list[str]:
    """The names in the certificate, sorted."""
    extension = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName)
    return sorted(extension.value.get_values_for_type(x509.DNSName))


def _usage(**allowed: bool) -> x509.KeyUsage:
    names = (
        "digital_signature",
        "content_commitment",
        "key_encipherment",
        "data_encipherment",
        "key_agreement",
        "key_cert_sign",
        "crl_sign",
        "encipher_only",
        "decipher_only",
    )
    return x509.KeyUsage(**({name: False for name in names} | allowed))


def _general_name(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)
