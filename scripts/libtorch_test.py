"""Tests of scripts/libtorch without a network: python3 scripts/libtorch_test.py"""

import hashlib
import http.server
import importlib.machinery
import importlib.util
import os
import sys
import tempfile
import threading
import unittest
import zipfile
from pathlib import Path
from unittest import mock

sys.dont_write_bytecode = True
_loader = importlib.machinery.SourceFileLoader("libtorch", str(Path(__file__).with_name("libtorch")))
libtorch = importlib.util.module_from_spec(importlib.util.spec_from_loader("libtorch", _loader))
_loader.exec_module(libtorch)

CONTENT = bytes(range(256)) * 4000
WHEEL = libtorch.Wheel("a-wheel", "1.0", 1, 1, ["kept/*"])


class Server:
    """Serves CONTENT on the loopback; says which ranges were asked for."""

    def __init__(self, cut_after=None, ranges=True, status=None):
        asked = self.asked = []

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self):
                asked.append(self.headers.get("Range"))
                start = 0
                if status:
                    return self.send_error(status)
                if ranges and asked[-1]:
                    start = int(asked[-1][len("bytes="):-1])
                    if start >= len(CONTENT):
                        return self.send_error(416)
                self.send_response(206 if start else 200)
                self.send_header("Content-Length", str(len(CONTENT) - start))
                self.end_headers()
                self.wfile.write(CONTENT[start:start + cut_after] if cut_after else CONTENT[start:])

            def log_message(self, *_):
                pass

        self.http = http.server.HTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.http.serve_forever, args=(0.02,), daemon=True).start()

    def source(self, content=CONTENT):
        url = f"http://127.0.0.1:{self.http.server_port}/a.whl"
        return libtorch.Source(url, hashlib.sha256(content).hexdigest())

    def close(self):
        self.http.shutdown()
        self.http.server_close()


class InFolder(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = Path(folder.name)
        self.said = []
        for owner, name, replacement in [(libtorch, "say", self.said.append), (libtorch.time, "sleep", lambda _: None)]:
            patch = mock.patch.object(owner, name, replacement)
            patch.start()
            self.addCleanup(patch.stop)


class Download(InFolder):
    def serve(self, **options):
        server = Server(**options)
        self.addCleanup(server.close)
        return server

    def test_goes_on_where_a_broken_connection_stopped(self):
        server, file = self.serve(cut_after=300_000), self.folder / "a.whl"
        libtorch.download(WHEEL, server.source(), file)
        self.assertEqual(file.read_bytes(), CONTENT)
        self.assertEqual(server.asked, [None, "bytes=300000-", "bytes=600000-", "bytes=900000-"])

    def test_starts_again_when_the_server_knows_no_ranges(self):
        server, file = self.serve(ranges=False), self.folder / "a.whl"
        file.write_bytes(CONTENT[:1000])
        libtorch.download(WHEEL, server.source(), file)
        self.assertEqual(file.read_bytes(), CONTENT)

    def test_takes_a_whole_file_that_an_earlier_run_left(self):
        server, file = self.serve(), self.folder / "a.whl"
        file.write_bytes(CONTENT)
        libtorch.download(WHEEL, server.source(), file)
        self.assertEqual(file.read_bytes(), CONTENT)

    def test_deletes_a_damaged_file_and_says_so(self):
        file = self.folder / "a.whl"
        with self.assertRaisesRegex(libtorch.Trouble, "was damaged on the way"):
            libtorch.download(WHEEL, self.serve().source(b"other"), file)
        self.assertFalse(file.exists())

    def test_asks_once_for_what_is_not_there(self):
        server = self.serve(status=404)
        with self.assertRaisesRegex(libtorch.Trouble, "404"):
            libtorch.download(WHEEL, server.source(), self.folder / "a.whl")
        self.assertEqual(len(server.asked), 1)

    def test_gives_up_on_a_server_that_never_answers_well(self):
        server = self.serve(status=503)
        with self.assertRaisesRegex(libtorch.Trouble, "five tries"):
            libtorch.download(WHEEL, server.source(), self.folder / "a.whl")
        self.assertEqual(len(server.asked), 6)


class Cache(InFolder):
    def test_two_at_once_fill_it_once(self):
        filled, waiting, results = [], threading.Event(), []

        def fill(_cache, folder, _wheels):
            filled.append(folder)
            self.assertTrue(waiting.wait(30))  # until the other one has come to the lock
            folder.mkdir()
            (folder / ".complete").touch()

        def say(text):
            if "waiting" in text:
                waiting.set()

        def provide():
            results.append(libtorch.provide(self.folder, "thing", [WHEEL]))

        with mock.patch.object(libtorch, "fill", fill), mock.patch.object(libtorch, "say", say):
            threads = [threading.Thread(target=provide) for _ in range(2)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
        self.assertEqual(results, [self.folder / "thing"] * 2)
        self.assertEqual(len(filled), 1)

    def test_leaves_nothing_half_unpacked_when_the_disk_fills(self):
        def fill(_cache, folder, _wheels):
            folder.mkdir()
            raise OSError(28, "No space left on device")

        with mock.patch.object(libtorch, "fill", fill), self.assertRaisesRegex(libtorch.Trouble, "No space left"):
            libtorch.provide(self.folder, "thing", [WHEEL])
        self.assertEqual(sorted(os.listdir(self.folder)), ["downloads", "lock"])

    def test_unpacks_only_what_is_kept(self):
        with zipfile.ZipFile(self.folder / "a.whl", "w") as archive:
            archive.writestr("kept/deep/x.h", "x")
            archive.writestr("other/y.h", "y")
        libtorch.unpack(WHEEL, self.folder / "a.whl", self.folder / "out")
        self.assertEqual([p for p in (self.folder / "out").rglob("*.h")], [self.folder / "out/kept/deep/x.h"])
        lacking = WHEEL._replace(keep=["kept/*", "lib/z.so"])
        with self.assertRaisesRegex(libtorch.Trouble, "holds no lib/z.so"):
            libtorch.unpack(lacking, self.folder / "a.whl", self.folder / "out")

    def test_needs_room(self):
        libtorch.check_free_disk(self.folder, 1)
        with self.assertRaisesRegex(libtorch.Trouble, "are free"):
            libtorch.check_free_disk(self.folder, 10**12)


class LibtorchVariable(InFolder):
    def found(self, folder):
        with mock.patch.dict(os.environ, LIBTORCH=str(folder)):
            return libtorch.from_environment()

    def make(self, version_file, text):
        torch = self.folder / "torch"
        (torch / "lib").mkdir(parents=True, exist_ok=True)
        (torch / "include/ATen").mkdir(parents=True, exist_ok=True)
        (torch / "lib/libtorch_cpu.so").touch()
        (torch / version_file).write_text(text)
        return torch

    def test_takes_the_version_that_is_needed(self):
        for name, text in [("build-version", "2.11.0+cpu\n"), ("version.py", "__version__ = '2.11.0+cu130'\n")]:
            torch = self.make(name, text)
            self.assertEqual(self.found(torch), torch)

    def test_refuses_another_version(self):
        with self.assertRaisesRegex(libtorch.Trouble, "is version 2.1.0, but 2.11.0 is needed"):
            self.found(self.make("build-version", "2.1.0"))

    def test_refuses_an_unknown_version(self):
        with self.assertRaisesRegex(libtorch.Trouble, "version is unknown"):
            self.found(self.make("README", "libtorch"))

    def test_says_what_a_wrong_folder_lacks(self):
        with self.assertRaisesRegex(libtorch.Trouble, "has no lib/libtorch_cpu.so"):
            self.found(self.folder)
        self.make("build-version", "2.11.0")
        with self.assertRaisesRegex(libtorch.Trouble, "is the folder above libtorch"):
            self.found(self.folder)

    def test_empty_counts_as_unset(self):
        self.assertIsNone(self.found(""))


if __name__ == "__main__":
    unittest.main()
