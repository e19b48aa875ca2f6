"""Signed bundles: keys as OpenSSL writes them, and every way in which a bundle is not what was signed."""

from __future__ import annotations

import base64
import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import write_toy_bundle

from edgemtl_runtime.atomic import AtomicFolder
from edgemtl_runtime.bundle import BUNDLE, MODEL, Bundle, write_bundle
from edgemtl_runtime.cli import main
from edgemtl_runtime.errors import EdgemtlError
from edgemtl_runtime.path_kinds import MANIFEST
from edgemtl_runtime.signature import CONTEXT, SIGNATURE, sign

pytest.importorskip("cryptography", reason="needs the extra sign")
OPENSSL = shutil.which("openssl")


def pair(folder: Path, name: str, algorithm: str = "ed25519") -> tuple[Path, Path]:
    """Write a pair of keys with OpenSSL's own program."""
    if OPENSSL is None:
        pytest.skip("needs the program openssl")
    private, public = folder / f"{name}.key", folder / f"{name}.pub"
    subprocess.run([OPENSSL, "genpkey", "-algorithm", algorithm, "-out", private], check=True, capture_output=True)
    subprocess.run([OPENSSL, "pkey", "-in", private, "-pubout", "-out", public], check=True)
    return private, public


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    return pair(tmp_path_factory.mktemp("keys"), "fleet")


@pytest.fixture
def signed(tmp_path: Path, keys: tuple[Path, Path]) -> Path:
    bundle = write_toy_bundle(tmp_path / "street")
    assert main(["sign", str(bundle), "--key", str(keys[0])]) == 0
    return bundle


def test_what_was_signed_is_verified(
    signed: Path, keys: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = pair(tmp_path, "other")
    capsys.readouterr()
    words = ["verify", str(signed), "--key", str(other[1]), "--key", str(keys[1])]
    assert main([*words, "--json"]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert answer["signed_by"] == str(keys[1]) and answer["files"] == len(Bundle.open(signed).manifest.files)
    assert Bundle.open(signed, [keys[1]]).signed_by == keys[1] and Bundle.open(signed).signed_by is None


def test_openssl_verifies_the_same_signature(signed: Path, keys: tuple[Path, Path], tmp_path: Path) -> None:
    """By the standard, not by ourselves."""
    (tmp_path / "content").write_bytes(CONTEXT + (signed / MANIFEST).read_bytes())
    (tmp_path / "signature").write_bytes(base64.b64decode((signed / SIGNATURE).read_bytes()))
    words = ["-verify", "-pubin", "-inkey", keys[1], "-rawin", "-in", tmp_path / "content"]
    assert OPENSSL is not None
    done = subprocess.run(
        [OPENSSL, "pkeyutl", *words, "-sigfile", tmp_path / "signature"], capture_output=True, text=True
    )
    assert "Verified Successfully" in done.stdout + done.stderr


def edit_manifest(bundle: Path) -> None:
    text = (bundle / MANIFEST).read_text()
    (bundle / MANIFEST).write_text(text.replace('"threshold"', ' "threshold"', 1))


def edit_network(bundle: Path) -> None:
    data = bytearray((bundle / MODEL).read_bytes())
    data[-1] ^= 1
    (bundle / MODEL).write_bytes(data)


FORGED: dict[str, tuple[Callable[[Path], object], str]] = {
    "no signature": (lambda b: (b / SIGNATURE).unlink(), "is not signed (manifest.sig is missing)"),
    "another manifest": (edit_manifest, "its signature is not of"),
    "another network": (edit_network, "damaged (its SHA-256 is not the manifest's)"),
    "garbage": (lambda b: (b / SIGNATURE).write_text("a"), "is no signature"),
    "an empty one": (lambda b: (b / SIGNATURE).write_text(""), "its signature is not of"),
    "a large one": (lambda b: (b / SIGNATURE).write_bytes(b"A" * 10_000), "larger than"),
}


@pytest.mark.parametrize("case", FORGED)
def test_a_forged_bundle_is_rejected_in_one_line(
    case: str, signed: Path, keys: tuple[Path, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    damage, line = FORGED[case]
    damage(signed)
    for words in (["verify", str(signed), "--key"], ["run", str(signed), "--rgb", "pattern:", "--signed-by"]):
        capsys.readouterr()
        assert main([*words, str(keys[1])]) == 2
        line_written = capsys.readouterr().err
        assert line in line_written and line_written.count("\n") == 1


def test_the_signature_of_another_key_is_none(signed: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    other = pair(tmp_path, "other")[1]
    assert main(["verify", str(signed), "--key", str(other)]) == 2
    assert f"its signature is not of {other}; do not use this bundle" in capsys.readouterr().err


def test_a_signed_bundle_runs_and_is_replaced(signed: Path, keys: tuple[Path, Path]) -> None:
    words = ["run", str(signed), "--rgb", "pattern:?frames=2", "--ir", "pattern:?frames=2"]
    assert main([*words, "--signed-by", str(keys[1])]) == 0
    assert main(["sign", str(signed), "--key", str(keys[0])]) == 0  # once more
    (signed / "mine.txt").write_text("a user's own")
    with pytest.raises(EdgemtlError, match=r"holds mine\.txt"), AtomicFolder(signed, BUNDLE, True):
        pass
    (signed / "mine.txt").unlink()
    manifest = Bundle.open(signed).manifest
    with AtomicFolder(signed, BUNDLE, True) as output:
        shutil.copy(signed / MODEL, output.folder / MODEL)
        write_bundle(output, manifest)
    assert not (signed / SIGNATURE).exists() and Bundle.open(signed).manifest.heads


WRONG_KEYS: dict[str, tuple[Callable[[Path], Path], str]] = {
    "none": (lambda f: f / "nothing.key", "cannot be read"),
    "no key": (lambda f: f / "text.key", "is no private key"),
    "of RSA": (lambda f: pair(f, "rsa", "rsa")[0], "is a key, but not of Ed25519"),
    "the public one": (lambda f: pair(f, "p")[1], "is no private key"),
}


@pytest.mark.parametrize("case", WRONG_KEYS)
def test_a_wrong_key_is_one_line_and_nothing_is_written(
    case: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bundle = write_toy_bundle(tmp_path / "street")
    (tmp_path / "text.key").write_text("no key")
    make, line = WRONG_KEYS[case]
    assert main(["sign", str(bundle), "--key", str(make(tmp_path))]) == 2
    line_written = capsys.readouterr().err
    assert line in line_written and line_written.count("\n") == 1 and not (bundle / SIGNATURE).exists()


def test_an_encrypted_key_is_told(tmp_path: Path, keys: tuple[Path, Path]) -> None:
    bundle, locked = write_toy_bundle(tmp_path / "street"), tmp_path / "locked.key"
    assert OPENSSL is not None
    words = [OPENSSL, "pkey", "-in", keys[0], "-aes256", "-passout", "pass:x", "-out", locked]
    subprocess.run(words, check=True, capture_output=True)
    with pytest.raises(EdgemtlError, match="it is encrypted"):
        sign(bundle / MANIFEST, locked)


def test_without_cryptography_the_line_names_the_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bundle = write_toy_bundle(tmp_path / "street")
    monkeypatch.setitem(sys.modules, "cryptography.hazmat.primitives.asymmetric.ed25519", None)
    with pytest.raises(EdgemtlError, match=r"pip install 'edgemtl-runtime\[sign\]'"):
        sign(bundle / MANIFEST, tmp_path / "any.key")
