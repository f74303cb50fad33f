"""Certificates of a test's own authority, for Hubble's nodes, relay, clients and whatever else speaks TLS in a test."""

import collections.abc
import dataclasses
import datetime
import ipaddress
import pathlib

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

RELAY_SERVER_NAME = "relay.hubble-relay.cilium.io"


def server_name(node: str) -> str:
    """The TLS server name of the node `cluster/node`; dots within the two parts become hyphens."""
    cluster, name = node.replace(".", "-").split("/")
    return f"{name}.{cluster}.hubble-grpc.cilium.io"


@dataclasses.dataclass(frozen=True)
class Certificates:
    """A certificate authority of a test's own, and what it issued: PEM files in one folder.

    Files are `ca.pem`, and `NAME.pem` with `NAME.key` for each server name and for `client`.
    """

    folder: pathlib.Path
    authority: x509.Certificate
    authority_key: ec.EllipticCurvePrivateKey

    @property
    def ca(self) -> pathlib.Path:
        """The authority's certificate, which both sides trust."""
        return self.folder / "ca.pem"

    @property
    def client(self) -> tuple[pathlib.Path, pathlib.Path]:
        """Certificate and key of a client."""
        return self.files("client")

    def server(self, node: str) -> tuple[pathlib.Path, pathlib.Path]:
        """Certificate and key of the node `cluster/node`."""
        return self.files(server_name(node))

    def files(self, name: str) -> tuple[pathlib.Path, pathlib.Path]:
        """Certificate and key issued for a server name or `client`; KeyError if there are none."""
        certificate, key = self.folder / f"{name}.pem", self.folder / f"{name}.key"
        if not certificate.exists():
            raise KeyError(name)
        return certificate, key

    def issue(
        self,
        name: str,
        *,
        also: collections.abc.Sequence[str] = (),
        addresses: collections.abc.Sequence[str] = (),
        valid_for: datetime.timedelta = datetime.timedelta(days=1),
    ) -> tuple[pathlib.Path, pathlib.Path]:
        """Issue a certificate, over the one of that name if there is one, as a rotation does.

        Args:
            name: DNS name of a server, or `client`; also the files' name.
            also: further DNS names.
            addresses: IP addresses it is valid for, too.
            valid_for: from a minute ago; a negative span makes an expired certificate.
        """
        key = ec.generate_private_key(ec.SECP256R1())
        now = datetime.datetime.now(datetime.UTC)
        until = now + valid_for
        certificate = (
            x509.CertificateBuilder()
            .subject_name(common_name(name))
            .issuer_name(self.authority.subject)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(min(now, until) - datetime.timedelta(minutes=1))
            .not_valid_after(until)
            .add_extension(
                x509.SubjectAlternativeName(
                    [
                        *(x509.DNSName(each) for each in (name, *also)),
                        *(x509.IPAddress(ipaddress.ip_address(each)) for each in addresses),
                    ]
                ),
                critical=False,
            )
            .add_extension(
                x509.ExtendedKeyUsage(
                    [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]
                ),
                critical=False,
            )
            .add_extension(
                x509.AuthorityKeyIdentifier.from_issuer_public_key(self.authority_key.public_key()),
                critical=False,
            )
            .sign(self.authority_key, hashes.SHA256())
        )
        replace_file(self.folder / f"{name}.key", key_pem(key))
        replace_file(
            self.folder / f"{name}.pem", certificate.public_bytes(serialization.Encoding.PEM)
        )
        return self.files(name)


def authority(
    folder: pathlib.Path, *, nodes: collections.abc.Iterable[str] = ("test/node-1", "test/node-2")
) -> Certificates:
    """Make a certificate authority and issue certificates to nodes, a relay and a client.

    Args:
        folder: where the files go; it is made. Two authorities need two folders.
        nodes: names `cluster/node`. Each certificate also bears the name `hubble-peer` of its
            cluster, by which relay calls the node that serves the peers' list.
    """
    folder.mkdir(parents=True, exist_ok=True)
    key = ec.generate_private_key(ec.SECP256R1())
    now = datetime.datetime.now(datetime.UTC)
    authority = (
        x509.CertificateBuilder()
        .subject_name(common_name("Hindcast tests"))
        .issuer_name(common_name("Hindcast tests"))
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=7))
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(
            x509.KeyUsage(
                digital_signature=True,
                content_commitment=False,
                key_encipherment=False,
                data_encipherment=False,
                key_agreement=False,
                key_cert_sign=True,
                crl_sign=True,
                encipher_only=False,
                decipher_only=False,
            ),
            critical=True,
        )
        .sign(key, hashes.SHA256())
    )
    replace_file(folder / "ca.pem", authority.public_bytes(serialization.Encoding.PEM))
    made = Certificates(folder=folder, authority=authority, authority_key=key)
    for node in nodes:
        cluster = node.split("/")[0]
        made.issue(server_name(node), also=[server_name(f"{cluster}/hubble-peer")])
    made.issue(RELAY_SERVER_NAME)
    made.issue("client")
    return made


def common_name(name: str) -> x509.Name:
    """A distinguished name of only a common name, cut at the 64 characters X.509 allows."""
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name[:64])])


def key_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    """The private key, not encrypted."""
    return key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )


def replace_file(path: pathlib.Path, content: bytes) -> None:
    """Write a file so that a reader sees the old content or the new."""
    scratch = path.with_name(f".{path.name}.new")
    scratch.write_bytes(content)
    scratch.replace(path)
