"""Byte-level BPE by gigatoken, some fifty times quicker than `tokenizers`, for as long as both agree.

Used where many texts become tokens or are counted. gigatoken knows a part of what tokenizer.json can say,
and takes some of what it does not know for what it does; so the kinds that it gets right are named here,
its tokens are compared with those of `tokenizers` before it is used, and on rows of the data while it is.
The first difference ends its use.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from hashlib import sha256
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from ..evaluation.ragged import Ragged
from ..training.distributed import available_cpus
from .findings import excerpt
from .spool import Index, Mask
from .threads import MOST

log = logging.getLogger("oikyo.data")

FIRST, EVERY = 128 << 10, 1024
"""So many bytes of the first rows are compared, then one row of so many."""
LONGEST = 32 << 10
"""Bytes of the longest row that is compared: `tokenizers` takes a second for some megabytes."""
BETWEEN = b"\xff"
"""Stands between texts: no byte of UTF-8."""
PROBES = (
    "", " ", "  ", "\n", " \n\n  x", "\t\ta", "\r\n", "a  b   c    ", "I'm, you'LL, we've; it's'D",
    "don't DON'T d'etre", "1234567890 12.5e-3 0x1F", "snake_case camelCase kebab-case __init__()",
    "for (i = 0; i < n; ++i) { a[i] |= 1 << i; }\n\treturn -1;\n", "... !!! ??? ---- ==== ////",
    "https://example.org/a?b=c&d=%20#e <b>x</b> &amp;", "caf\u00e9 cafe\u0301 na\u00efve \u1e9b\u0323",
    "\u0412\u0435\u0441\u043d\u0430 \u0391\u03b8\u03ae\u03bd\u03b1 \u05e9\u05dc\u05d5\u05dd \u0645\u0631\u062d\u0628\u0627",
    "\u4e2d\u6587\u5b57\u7b26\uff0c\u3002 \u3053\u3093\u306b\u3061\u306f \uc548\ub155 \u0e2a\u0e27\u0e31\u0e2a\u0e14\u0e35 \u0928\u092e\u0938\u094d\u0924\u0947",
    "\U0001f600\U0001f468\u200d\U0001f469\u200d\U0001f467 \U0001f1e9\U0001f1ea \u2764\ufe0f", "a\u00a0b\u2009c\u3000d\u200be\ufefff\u0085g\u2028h",
    "\u00bd \u2155 \u2167 \u00b2 \u0663 \u09e9 \u17f3", "\ufb01ne \uff21\uff22 \u017fo \u212a \u1e9e \u0130",
)  # fmt: skip
"""Texts on which the ways of cutting words differ."""


class Differs(Exception):
    """gigatoken made other tokens than `tokenizers`; what it made before counts no more."""


class Quick:
    """gigatoken with one tokenizer; without special tokens around a text."""

    def __init__(
        self, backend: Any, engine: Any
    ) -> None:  # Any: neither ships types we can rely on
        self._backend = backend
        self._engine = engine
        self._seen, self._bytes = 0, 0
        self.differs = False
        """Whether it was found to make other tokens."""

    def encode(self, texts: Any) -> Ragged:
        """Tokens of a column of texts; raises Differs."""
        tokens = self._encode(texts)
        sizes = np.asarray(pc.binary_length(texts), dtype=np.int64)
        chosen = np.flatnonzero(self._sample(sizes) & (sizes <= LONGEST))
        if len(chosen):
            self.compare(texts.take(pa.array(chosen)).to_pylist(), tokens.take(chosen))
        self._seen += len(texts)
        self._bytes += int(sizes.sum())
        return tokens

    def _sample(self, sizes: Index) -> Mask:
        places = np.arange(self._seen, self._seen + len(sizes))
        return (self._bytes + np.cumsum(sizes) <= FIRST) | (places % EVERY == 0)

    def compare(self, texts: Sequence[str], tokens: Ragged | None = None) -> None:
        """Differs unless `tokenizers` makes the same tokens of these texts."""
        made = self._encode(pa.array(texts, pa.string())) if tokens is None else tokens
        wanted = self._backend.encode_batch_fast(list(texts), add_special_tokens=False)
        for text, want, got in zip(texts, wanted, made, strict=True):
            if want.ids != got.tolist():
                raise self._found(f"gigatoken and tokenizers make other tokens of {excerpt(text)}")

    def _found(self, difference: str) -> Differs:
        self.differs = True
        return Differs(difference)

    def _encode(self, texts: Any) -> Ragged:
        sizes = np.asarray(pc.binary_length(texts))
        order = np.argsort(sizes, kind="stable")
        sizes = sizes[order]
        begin = int(np.searchsorted(sizes, 1))
        lengths = np.zeros(len(order), dtype=np.int64)
        parts: list[tuple[Index, npt.NDArray[np.int32]]] = []
        # Rows of one call become a matrix: they are about as long as one another.
        while begin < len(sizes):
            end = int(np.searchsorted(sizes, 2 * sizes[begin] + 16))
            matrix, lengths[order[begin:end]] = self._matrix(texts.take(pa.array(order[begin:end])))
            parts.append((order[begin:end], matrix))
            begin = end
        ends = np.cumsum(lengths)
        flat = np.empty(int(lengths.sum()), dtype=np.int32)
        for rows, matrix in parts:
            places = zip((ends - lengths)[rows].tolist(), ends[rows].tolist(), matrix, strict=True)
            # Row by row is quicker than one index of all tokens, which is as large as they are.
            for start, stop, row in places:
                flat[start:stop] = row[: stop - start]
        return Ragged(flat, ends)

    def _matrix(self, texts: Any) -> tuple[npt.NDArray[np.int32], Index]:
        """Tokens of each text as a row, and how many of them there are.

        There are as many calls at once as threads: each stays on one CPU, unless there are more CPUs than calls.
        """
        from gigatoken import BytesSource

        every = pa.ListArray.from_arrays(
            pa.array([0, len(texts)], pa.int32()), texts.cast("binary")
        )
        data = pc.binary_join(every, pa.scalar(BETWEEN, pa.binary()))[0].as_py()
        try:
            matrix, counts = self._engine.encode_batch_padded(
                BytesSource(data, BETWEEN), 0, parallel=None if available_cpus() > MOST else False
            )
        except BaseException as error:
            if type(error).__name__ != "PanicException":  # Rust's, and no Exception
                raise
            raise self._found(f"gigatoken failed: {error}") from None
        if len(counts) != len(texts):
            raise self._found(f"gigatoken made {len(counts)} rows of {len(texts)}")
        return matrix.view(np.int32), counts  # no number is so high


def open_quick(backend: Any) -> Quick | None:
    """gigatoken for this tokenizer of `tokenizers`; None, and the reason in the log, where it will not do."""
    why = unknown(backend)
    if why is None:
        try:
            return _proven(backend)
        except ImportError as error:
            why = str(error)
        except Exception as error:  # it refuses what it does not know with bare errors, or differs
            why = str(error).strip().partition("\n")[0]
    log.info("tokens are made by tokenizers, which is slower: %s", why)
    return None


_kept: dict[str, Quick] = {}
"""Digest of a tokenizer -> gigatoken with it: the newest alone."""


def _proven(backend: Any) -> Quick:
    """gigatoken with this tokenizer, opened and compared once in a process; raises what either raises.

    What counts the tokens of the rows and what makes them later have one tokenizer, most often.
    """
    from gigatoken import Tokenizer

    told = backend.to_str()
    digest = sha256(told.encode()).hexdigest()
    quick = _kept.get(digest)
    if quick is None:
        quick = Quick(backend, Tokenizer.from_json(told))
        quick.compare(probes(backend))
        _kept.clear()
        _kept[digest] = quick
    elif quick.differs:
        raise Differs("gigatoken made other tokens before")
    return quick


def unknown(backend: Any) -> str | None:
    """What of the tokenizer is not known to be made right; None when all of it is."""
    model, kind = backend.model, type(backend.model).__name__
    if kind != "BPE" or model.byte_fallback:
        return f"the model is {kind}, not byte-level BPE"
    if model.dropout or model.continuing_subword_prefix or model.end_of_word_suffix:
        return "the BPE has a dropout, prefix or suffix"
    normal = _state(backend.normalizer).get("type")
    if normal not in (None, "NFC"):
        return f"the normalizer is {normal}"
    if not _splits(_state(backend.pre_tokenizer)):
        return "the pre-tokenizer is none of the known"
    if backend.encode_special_tokens:
        return "special tokens are text"
    added = backend.get_added_tokens_decoder().values()
    odd = [token.content for token in added if _odd(token, normal)]
    return f"the added token {odd[0]!r} takes what is beside it" if odd else None


def _state(part: Any) -> dict[str, Any]:
    """A part of a tokenizer as tokenizer.json writes it; the vocabulary is in none of those asked."""
    state: dict[str, Any] = {} if part is None else json.loads(part.__getstate__())
    return state


def _splits(pre: dict[str, Any]) -> bool:
    """Words by GPT-2's rule, or by one regular expression, and their bytes."""
    if pre.get("type") == "ByteLevel":
        return bool(pre.get("use_regex", True))
    parts = pre.get("pretokenizers") or []
    return (
        [part.get("type") for part in parts] == ["Split", "ByteLevel"]
        and parts[0].get("behavior") == "Isolated"
        and not parts[0].get("invert")
        and not parts[1].get("use_regex", True)
        and not parts[1].get("add_prefix_space")
    )


def _odd(token: Any, normal: str | None) -> bool:
    if normal is not None and token.normalized:
        return True
    return bool(token.lstrip or token.rstrip or token.single_word)


def probes(backend: Any) -> list[str]:
    """PROBES, and every added token between letters and blanks."""
    added = [token.content for token in backend.get_added_tokens_decoder().values()]
    return [*PROBES, *(f"a{token}b {token} \n{token}{token[:-1]}" for token in added[:512])]
