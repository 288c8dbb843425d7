"""The encoding of files that are not UTF-8 is named, and the commands that are given convert them."""

from __future__ import annotations

import codecs
import shutil
import subprocess
from pathlib import Path

import pytest

from kemr_lightning.core.errors import UserError
from kemr_lightning.data.encoding import encoding_of
from kemr_lightning.data.folder import read_json, read_text
from kemr_lightning.data.split import read_list

CHINESE = '{"label": "染色体", "imagePath": "中期细胞1.png"}'
WORDS = {
    "gb18030": (CHINESE, "probably GB18030 (Chinese Windows)"),
    "gbk": (CHINESE, "probably GB18030 (Chinese Windows)"),
    "big5": ('{"label": "染色體"}', "probably BIG5"),
    "cp932": ('{"label": "染色体クロモソーム"}', "probably CP932 (Japanese Windows)"),
    "cp1252": ('{"imagePath": "Zelle_größe_é.png"}', "probably WINDOWS-1252"),
    "utf-16": (CHINESE, "UTF-16 (as Windows calls Unicode)"),
    "utf-16-le": (CHINESE, "probably UTF-16LE"),
    "utf-16-be": (CHINESE, "probably UTF-16BE"),
    "utf-32": (CHINESE, "UTF-32"),
}


@pytest.mark.parametrize("encoding", WORDS)
def test_encodings_are_named_with_a_command_that_converts_them(encoding: str, tmp_path: Path) -> None:
    text, described = WORDS[encoding]
    path = tmp_path / "my cell.json"
    path.write_bytes(text.encode(encoding))
    with pytest.raises(UserError) as error:
        read_json(path, "")
    message = str(error.value)
    assert message.startswith(f"{path} is not UTF-8 but {described}")
    assert "\n" not in message
    assert "PowerShell" in message
    if shutil.which("iconv"):
        command = message[message.index("iconv") : message.index(" (in PowerShell")]
        subprocess.run(command, shell=True, check=True, cwd=tmp_path)
        assert read_text(tmp_path / "my cell_utf8.json") == text


@pytest.mark.parametrize("data", [b"", b"{}", CHINESE.encode(), codecs.BOM_UTF8 + CHINESE.encode()])
def test_utf8_is_read_with_and_without_its_mark(data: bytes, tmp_path: Path) -> None:
    assert encoding_of(data) is None
    (tmp_path / "a.txt").write_bytes(data)
    assert not read_text(tmp_path / "a.txt").startswith("\ufeff")


def test_what_is_no_text_gets_no_command() -> None:
    found = encoding_of(bytes([0x81, 0x8D, 0xFF, 0x20, 0x9D, 0x20, 0x81]))
    assert found is not None
    assert found.described == "in an unknown encoding"
    assert found.cure(Path("a.json")) == "Save it again as UTF-8."


def test_lists_of_names_too(tmp_path: Path) -> None:
    path = tmp_path / "train.txt"
    path.write_bytes("cell_1\r\ncell_2\r\n".encode("utf-16"))  # as `dir /b > train.txt` of PowerShell
    with pytest.raises(UserError, match=r"name list cannot be read: .*train\.txt is not UTF-8 but UTF-16 .*iconv"):
        read_list(path)
    path.write_bytes("cell_1\r\ncell_2\r\n".encode("utf-8-sig"))
    assert read_list(path) == ["cell_1", "cell_2"]
