"""Renders kubeconfig files, with certificates inside so that each file is complete in itself."""

import base64
from pathlib import Path

import yaml


def render(server: str, authority: Path, certificate: Path, key: Path) -> str:
    """Return a kubeconfig for one client certificate."""
    cluster = {"server": server, "certificate-authority-data": encode(authority)}
    user = {"client-certificate-data": encode(certificate), "client-key-data": encode(key)}
    return yaml.safe_dump(
        {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": "oikyo", "cluster": cluster}],
            "users": [{"name": certificate.stem, "user": user}],
            "contexts": [
                {"name": "oikyo", "context": {"cluster": "oikyo", "user": certificate.stem}}
            ],
            "current-context": "oikyo",
        }
    )


def encode(path: Path) -> str:
    return base64.b64encode(path.read_bytes()).decode()


def write(path: Path, text: str) -> Path:
    """Write a file that holds a private key: readable by its owner from the first byte on."""
    path.unlink(missing_ok=True)
    path.touch(mode=0o600)
    path.write_text(text)
    return path
