"""The encoding of text files that are not UTF-8, guessed so that a person can convert them."""

from __future__ import annotations

import codecs
import itertools
import shlex
import unicodedata
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Encoding:
    """An encoding other than UTF-8.

    Attributes:
        name: As ``iconv`` calls it; None if it is not known.
        windows: As .NET calls it.
        where: Where it is usual; empty if that says nothing.
        certain: Whether the file says so itself, by its byte order mark.
    """

    name: str | None
    windows: str = ""
    where: str = ""
    certain: bool = False

    @property
    def described(self) -> str:
        """The encoding in words, to be read after "not UTF-8 but"."""
        if self.name is None:
            return "in an unknown encoding"
        return f"{'' if self.certain else 'probably '}{self.name}" + (f" ({self.where})" if self.where else "")

    def cure(self, path: Path) -> str:
        """How to convert a file, as a sentence.

        Args:
            path: The file.
        """
        if self.name is None:
            return "Save it again as UTF-8."
        new = path.with_name(f"{path.stem}_utf8{path.suffix}")
        linux = f"iconv -f {self.name} -t UTF-8 {shlex.quote(path.name)} > {shlex.quote(new.name)}"
        windows = f"Get-Content -Raw -Encoding Unicode {_quoted(path)}"
        if self.windows != "utf-16":
            encoding = f"[Text.Encoding]::GetEncoding('{self.windows}')"
            windows = f"[IO.File]::ReadAllText((Resolve-Path {_quoted(path)}), {encoding})"
        return (
            f"Convert it to UTF-8 and replace it with the result: {linux} (in PowerShell: "
            f"{windows} | Set-Content -Encoding UTF8 {_quoted(new)})."
        )


def _quoted(path: Path) -> str:
    """A file's name as a word of PowerShell."""
    return "'" + path.name.replace("'", "''") + "'"


_MARKS = (
    (codecs.BOM_UTF32_LE, Encoding("UTF-32", "utf-32", certain=True)),
    (codecs.BOM_UTF32_BE, Encoding("UTF-32", "utf-32BE", certain=True)),
    (codecs.BOM_UTF16_LE, Encoding("UTF-16", "utf-16", "as Windows calls Unicode", certain=True)),
    (codecs.BOM_UTF16_BE, Encoding("UTF-16", "utf-16BE", certain=True)),
)
"""Byte order marks; that of UTF-32 begins like that of UTF-16."""

_MULTIBYTE = (
    ("gb2312", Encoding("GB18030", "gb18030", "Chinese Windows")),
    ("cp932", Encoding("CP932", "shift_jis", "Japanese Windows")),
    ("cp949", Encoding("CP949", "ks_c_5601-1987", "Korean Windows")),
    ("big5", Encoding("BIG5", "big5", "Windows in Taiwan and Hong Kong")),
    ("gb18030", Encoding("GB18030", "gb18030", "Chinese Windows")),
)
"""Encodings of several bytes for a letter, by the names of Python's decoders. The first that fits best is taken."""

_WESTERN = Encoding("WINDOWS-1252", "windows-1252", "Western Windows, or another encoding of one byte for a letter")


def encoding_of(data: bytes) -> Encoding | None:
    """The encoding of a text.

    Args:
        data: The content of a file.

    Returns:
        None for UTF-8, with or without a byte order mark.
    """
    for mark, encoding in _MARKS:
        if data.startswith(mark):
            return encoding
    zeros = (data[0:400:2].count(0), data[1:400:2].count(0))
    if max(zeros) > 0.4 * len(data[:400]) / 2:  # every other byte of plain letters in UTF-16 is 0
        little = zeros[1] >= zeros[0]
        return Encoding("UTF-16LE" if little else "UTF-16BE", "utf-16" if little else "utf-16BE")
    try:
        data.decode("utf-8")
    except UnicodeDecodeError:
        return _of_letters(data)
    return None


def _of_letters(data: bytes) -> Encoding:
    """The encoding in which most letters beyond ASCII belong to words of one script."""
    best, most = None, 0.0
    for decoder, encoding in _MULTIBYTE:
        try:
            letters = [letter for letter in data.decode(decoder) if not letter.isascii()]
        except UnicodeDecodeError:
            continue
        share = sum(_usual(letter, decoder) for letter in letters) / max(len(letters), 1)
        if share > most:
            best, most = encoding, share
    # In a Western text each letter beyond ASCII stands alone among others; two in a row are rare.
    beyond = sum(byte >= 0x80 for byte in data)
    paired = sum(first >= 0x80 and second >= 0x80 for first, second in itertools.pairwise(data))
    if best is not None and paired >= 0.4 * beyond:
        return best
    try:
        data.decode("cp1252")
    except UnicodeDecodeError:
        return Encoding(None) if best is None else best
    return _WESTERN


def _usual(letter: str, decoder: str) -> bool:
    """Whether a decoded letter is one of everyday words, as far as the encoding's order tells."""
    if unicodedata.category(letter) not in ("Lo", "Lm"):
        return False
    # The first level of GB 2312 and of Big5 has the common ideographs, the first rows of KS X 1001 the syllables.
    last = {"gb2312": 0xD7, "big5": 0xC6, "cp949": 0xC8}.get(decoder)
    return last is None or letter.encode(decoder)[0] <= last
