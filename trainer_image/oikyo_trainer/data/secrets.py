"""Keys, tokens and private keys, told by the beginnings that their makers gave them."""

from __future__ import annotations

import re
from collections.abc import Iterator

_KINDS = (
    (("PRIVATE KEY",), r"-----BEGIN (?:[A-Z0-9]+ ){0,3}PRIVATE KEY(?: BLOCK)?-----"
     r"(?:(?!-----BEGIN )[\s\S]){0,20000}?(?:-----END [A-Z0-9 ]{0,40}PRIVATE KEY(?: BLOCK)?-----|\Z)"),
    (("AKIA", "ASIA"), r"(?<![A-Za-z0-9])(?:AKIA|ASIA)[A-Z0-9]{16}(?![A-Za-z0-9])"),
    (("secret", "SECRET", "Secret"), r"(?i)aws.{0,20}secret.{0,20}?[\"':= ]{1,4}(?-i:[A-Za-z0-9/+]{40})(?![A-Za-z0-9/+=])"),
    (("ghp_", "gho_", "ghu_", "ghs_", "ghr_", "github_pat_"),
     r"(?<![A-Za-z0-9])(?:gh[opsur]_[A-Za-z0-9]{12,255}|github_pat_[A-Za-z0-9_]{20,255})"),
    (("glpat-",), r"(?<![A-Za-z0-9])glpat-[A-Za-z0-9_-]{20,64}"),
    (("xox", "xapp-"), r"(?<![A-Za-z0-9])(?:xox[abeoprs]|xapp)-[A-Za-z0-9-]{10,255}"),
    (("hooks.slack.com",), r"hooks\.slack\.com/services/[A-Za-z0-9/_-]{20,128}"),
    (("eyJ",), r"(?<![A-Za-z0-9_-])eyJ[A-Za-z0-9_-]{8,4096}\.[A-Za-z0-9_-]{8,8192}(?:\.[A-Za-z0-9_-]{0,2048})?"),
    (("earer", "EARER"), r"(?i:\bbearer)[ :]{1,2}(?=[A-Za-z0-9._~+/-]{0,200}[0-9])[A-Za-z0-9._~+/-]{20,4096}=*"),
    (("sk-", "sk_", "rk_", "pk_live"), r"(?<![A-Za-z0-9-])(?:sk-|[rs]k_(?:live|test)_|pk_live_)"
     r"(?=[A-Za-z0-9_-]*(?:[0-9]|[A-Za-z0-9]{16}))[A-Za-z0-9_-]{16,255}"),
    (("hf_",), r"(?<![A-Za-z0-9])hf_[A-Za-z0-9]{16,64}(?![A-Za-z0-9_])"),
    (("AIza",), r"(?<![A-Za-z0-9])AIza[A-Za-z0-9_-]{35}"),
    (("npm_",), r"(?<![A-Za-z0-9])npm_[A-Za-z0-9]{36}(?![A-Za-z0-9])"),
    (("pypi-",), r"(?<![A-Za-z0-9])pypi-[A-Za-z0-9_-]{50,255}"),
    (("SG.",), r"(?<![A-Za-z0-9])SG\.[A-Za-z0-9_-]{22}\.[A-Za-z0-9_-]{43}"),
)  # fmt: skip
BEGINNINGS = "|".join(re.escape(word) for words, _ in _KINDS for word in words)
"""A pattern without which there is no secret."""
_BEGINNINGS = re.compile(BEGINNINGS)
_PATTERNS = tuple((words, re.compile(pattern)) for words, pattern in _KINDS)


def spans(text: str) -> Iterator[tuple[int, int]]:
    """Where secrets stand in `text`; the patterns are tried only where a beginning stands."""
    begun = {match[0] for match in _BEGINNINGS.finditer(text)}
    if begun:
        for words, pattern in _PATTERNS:
            if begun.intersection(words):
                yield from (match.span() for match in pattern.finditer(text))
