"""Makes the cluster's certificates with openssl: one CA, a front-proxy CA, and a pair per identity.

Elliptic keys, because they cost milliseconds where RSA keys cost most of a start of the API server.
"""

from pathlib import Path

from kit.commands import run

DAYS = "30"


class Authority:
    """A certificate authority kept as NAME.crt and NAME.key in a folder."""

    def __init__(self, folder: Path, name: str) -> None:
        self.folder = folder
        self.certificate = folder / f"{name}.crt"
        self.key = folder / f"{name}.key"
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        if not self.certificate.exists():
            make_key(self.key)
            run(
                *("openssl", "req", "-x509", "-new", "-key", self.key, "-out", self.certificate),
                *("-subj", f"/CN=oikyo-{name}", "-days", DAYS),
                # Python 3.13 takes no authority that does not say what its key is for (RFC 5280).
                *("-addext", "keyUsage=critical,keyCertSign,cRLSign,digitalSignature"),
            )

    def issue(self, name: str, subject: str, hosts: tuple[str, ...] = ()) -> tuple[Path, Path]:
        """Sign NAME.crt for an openssl subject and, for servers, the hosts it answers for."""
        certificate, key = self.folder / f"{name}.crt", self.folder / f"{name}.key"
        request, settings = self.folder / f"{name}.csr", self.folder / f"{name}.ext"
        make_key(key)
        run("openssl", "req", "-new", "-key", key, "-out", request, "-subj", subject)
        settings.write_text(extensions(hosts))
        run(
            *("openssl", "x509", "-req", "-in", request, "-out", certificate, "-days", DAYS),
            *("-CA", self.certificate, "-CAkey", self.key, "-CAcreateserial"),
            *("-extfile", settings),
        )
        request.unlink()
        settings.unlink()
        return certificate, key


def extensions(hosts: tuple[str, ...]) -> str:
    """Render the X.509 extensions: both usages, and every name and address to answer for."""
    lines = [
        "basicConstraints=critical,CA:FALSE",
        "keyUsage=critical,digitalSignature",
        "extendedKeyUsage=clientAuth,serverAuth",
        "subjectKeyIdentifier=hash",
        "authorityKeyIdentifier=keyid",
    ]
    if hosts:
        names = [f"{'IP' if host[0].isdigit() else 'DNS'}:{host}" for host in hosts]
        lines.append("subjectAltName=" + ",".join(names))
    return "\n".join(lines) + "\n"


def make_key(path: Path) -> None:
    """Write a new private key that only its owner may read."""
    path.touch(mode=0o600)
    run(
        *("openssl", "genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256"),
        *("-out", path),
    )


def public_key(private: Path, public: Path) -> None:
    """Write the public half of a key, with which service account tokens are checked."""
    run("openssl", "pkey", "-in", private, "-pubout", "-out", public)
