"""The cache of compiled kernels: which folder is taken, folders that cannot be written, and damaged files."""
import os
import sys
import tempfile
import zipfile
from pathlib import Path

import pytest

from nphybrid.ops import cache, jit

from tools.process import python_environment, run_python

no_jit = pytest.mark.skipif(bool(jit.config.DISABLE_JIT), reason="nothing is compiled, so nothing is kept")
posix = pytest.mark.skipif(os.name != "posix", reason="permissions and limits of POSIX")

# A kernel that compiles in less than half a second. The process prints what it loaded or compiled.
TINY = """
import numpy as np
from nphybrid.ops import cache, elementwise, jit
assert elementwise.relu(np.float32(-1)) == 0
print(len(jit.USED), len(jit.COMPILED))
"""
LOADED, COMPILED = "1 0\n", "1 1\n"


def python(code, **variables):
    """What code prints on stdout and on stderr, in a process that may use kernels and shows every warning."""
    done = run_python("-W", "always", "-c", code, env=python_environment(**variables))
    assert done.returncode == 0, done.stderr
    return done.stdout, done.stderr


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """The folder of the kernels of this process: a folder that does not exist yet."""
    monkeypatch.setattr(cache, "CHOSEN", tmp_path / "chosen")
    monkeypatch.setattr(cache, "_warned", False)
    monkeypatch.setattr(cache.tempfile, "tempdir", str(tmp_path))
    return tmp_path / "chosen" / "nphybrid" / cache.NAME


@pytest.fixture
def blocked(folder):
    """The same folder. A file is where its parent should be, so that not even root can create it."""
    folder.parents[1].write_text("")
    return folder


# ---------------------------------------------------------------- files

def test_what_is_stored_is_loaded(folder):
    assert cache.load("a") is None and not folder.exists()
    cache.store("a", b"machine code")
    cache.store("b", b"")
    assert cache.load("a") == b"machine code" and cache.load("b") == b"" and cache.load("c") is None
    assert [path.name for path in cache.files()] == ["a.kernel", "b.kernel"] == sorted(os.listdir(folder))
    assert cache.damaged_files() == []


@pytest.mark.parametrize("damage", [lambda content: b"", lambda content: content[:31], lambda content: content[:-1],
                                    lambda content: content + b"\0", lambda content: bytes(len(content)),
                                    lambda content: content[:40] + b"\0" + content[41:]])
def test_damaged_files_are_never_loaded(folder, damage):
    cache.store("a", b"machine code")
    path = folder / "a.kernel"
    path.write_bytes(damage(path.read_bytes()))
    assert cache.damaged_files() == [path] and cache.good_names() == set()
    with pytest.warns(RuntimeWarning, match=f"^the compiled kernel {path} is damaged and is compiled again$"):
        assert cache.load("a") is None
    cache.store("a", b"machine code")
    assert cache.load("a") == b"machine code" and cache.damaged_files() == []


def test_a_folder_where_a_file_should_be(folder):
    (folder / "a.kernel").mkdir(parents=True)
    assert cache.load("a") is None
    with pytest.warns(RuntimeWarning, match="^compiled kernels are kept in .*nphybrid-"):
        cache.store("a", b"machine code")                 # into the private temporary folder
    assert cache.load("a") == b"machine code"


def test_an_interrupted_write_leaves_no_file(folder, monkeypatch):
    def interrupt(*_):
        raise KeyboardInterrupt
    monkeypatch.setattr(Path, "write_bytes", interrupt)
    with pytest.raises(KeyboardInterrupt):
        cache.store("a", b"machine code")
    assert os.listdir(folder) == []


# ---------------------------------------------------------------- folders

def test_the_chosen_folder_comes_first(folder):
    cache.store("a", b"1")
    chosen, private = cache.folders()
    assert chosen == folder and not private.exists()
    private.mkdir(mode=0o700, parents=True)
    private.parent.chmod(0o700)
    (private / "a.kernel").write_bytes((folder / "a.kernel").read_bytes())
    (folder / "a.kernel").unlink()
    assert cache.load("a") == b"1"


def test_a_good_file_in_the_second_folder_replaces_a_damaged_one(folder, recwarn):
    cache.store("a", b"1")
    private = list(cache.folders(create=True))[1]
    private.mkdir()
    (folder / "a.kernel").rename(private / "a.kernel")
    (folder / "a.kernel").write_bytes(b"")
    assert cache.load("a") == b"1" and not recwarn.list and cache.damaged_files() == []


def test_a_chosen_folder_that_cannot_be_written(blocked, tmp_path):
    with pytest.warns(RuntimeWarning) as warned:
        cache.store("a", b"1")
        cache.store("a", b"1")
    (path,) = cache.files()
    assert tmp_path in path.parents and cache.load("a") == b"1"
    (warning,) = warned.list
    assert str(warning.message).startswith(
        f"compiled kernels are kept in {path.parent}, because the chosen folder cannot be used (")
    assert str(blocked.parents[1]) in str(warning.message)


@posix
def test_a_temporary_folder_that_others_can_open(blocked, tmp_path, monkeypatch):
    """Another user could have put code there."""
    with pytest.warns(RuntimeWarning, match="^compiled kernels are kept in "):
        cache.store("a", b"1")
    monkeypatch.setattr(cache, "_warned", False)
    (private,) = (path for path in tmp_path.iterdir() if path.is_dir())
    assert private.stat().st_mode & 0o077 == 0
    private.chmod(0o777)
    assert cache.load("a") is None and cache.files() == []
    with pytest.warns(RuntimeWarning, match=r"^compiled kernels cannot be kept \(.*chosen.*\): every process compiles"):
        cache.store("b", b"2")
    assert "b.kernel" not in [path.name for path in private.rglob("*")]
    assert cache.obstacles() == [
        f"{blocked.parents[1]} is not a folder that can be written",
        f"{private}: expected a folder that only the user {os.getuid()} can open, found the owner {os.getuid()} and "
        "the mode drwxrwxrwx"]


@posix
@pytest.mark.parametrize("umask, folders, file", [(0, 0o755, 0o644), (0o077, 0o700, 0o600)])
def test_nobody_else_can_write_a_new_kernel(umask, folders, file, folder):
    previous = os.umask(umask)
    try:
        cache.store("a", b"1")
    finally:
        os.umask(previous)
    modes = [path.stat().st_mode & 0o777 for path in (folder.parent.parent, folder.parent, folder, folder / "a.kernel")]
    assert modes == [folders] * 3 + [file] and cache.open_to_others() == []
    for path in folder.parent, folder / "a.kernel":
        path.chmod(0o777)
    assert cache.open_to_others() == [folder.parent, folder / "a.kernel"]


def test_kernels_that_cannot_be_kept_are_no_error(folder, monkeypatch, recwarn):
    """The disk fills up while kernels are compiled: one warning, and no exception inside an operation."""
    def full(*_):
        raise OSError(28, "No space left on device")
    monkeypatch.setattr(cache, "write_atomically", full)
    for name in "abc":
        cache.store(name, b"machine code")
    (warning,) = recwarn.list
    assert str(warning.message) == (
        "compiled kernels cannot be kept ([Errno 28] No space left on device): every process compiles the kernels "
        "again. NUMBA_CACHE_DIR can be set to a folder that can be written.")


def test_obstacles(folder, blocked, monkeypatch):
    assert cache.obstacle(folder) == f"{folder.parents[1]} is not a folder that can be written"
    folder.parents[1].unlink()
    assert cache.obstacle(folder) is None and not folder.exists()
    usage = cache.shutil.disk_usage("/")._replace(free=3_000_000)
    monkeypatch.setattr(cache.shutil, "disk_usage", lambda path: usage)
    assert cache.obstacle(folder) == f"{folder.parents[2]} has 3.0 MB of free space; expected 16.8 MB"


@pytest.mark.skipif(sys.platform in ("win32", "darwin"), reason="the XDG Base Directory Specification")
@pytest.mark.parametrize("chosen, xdg, expected", [
    ("/a", "/b", "/a"), ("", "/b", "/b"), ("", "", "/home/x/.cache"), ("", "relative", "/home/x/.cache"),
    ("relative", "/b", os.path.abspath("relative"))])
def test_the_chosen_folder(chosen, xdg, expected, monkeypatch):
    monkeypatch.setattr(cache.config, "CACHE_DIR", chosen)
    monkeypatch.setenv("XDG_CACHE_HOME", xdg)
    monkeypatch.setenv("HOME", "/home/x")
    assert cache._chosen_folder() == Path(expected)


def test_no_home(monkeypatch):
    def no_home():
        raise RuntimeError("Could not determine home directory.")
    monkeypatch.setattr(cache.config, "CACHE_DIR", "")
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.delenv("LOCALAPPDATA", raising=False)
    monkeypatch.setattr(Path, "home", no_home)
    assert cache._chosen_folder() is None


@no_jit
def test_the_name_of_the_folder_depends_on_what_changes_the_machine_code(monkeypatch):
    name = cache._name("avx2", ("x", "y", "z"))
    assert name == cache._name("avx2", ("x", "y", "z")) != cache._name("plain", ("x", "y", "z"))
    names = {name, cache._name("avx2", ("x", "y", "+more"))}
    for setting, value in (("OPT", 1), ("BOUNDSCHECK", 1), ("LOOP_VECTORIZE", 0), ("SLP_VECTORIZE", 1)):
        with monkeypatch.context() as patch:
            patch.setattr(jit.config, setting, value)
            names.add(cache._name("avx2", ("x", "y", "z")))
    monkeypatch.setattr(sys.modules["llvmlite"], "__version__", "0.0")
    names.add(cache._name("avx2", ("x", "y", "z")))
    assert len(names) == 7


# ---------------------------------------------------------------- processes

@no_jit
@pytest.mark.slow
def test_a_kernel_is_compiled_once(tmp_path):
    for expected in COMPILED, LOADED:
        assert python(TINY, NUMBA_CACHE_DIR=tmp_path) == (expected, "")
    names = sorted(path.name for path in tmp_path.rglob("*.kernel"))
    for path, expected in zip(sorted(tmp_path.rglob("*.kernel")), (COMPILED, LOADED), strict=True):
        before = path.read_bytes()
        path.write_bytes(bytes(len(before)))              # LLVM would abort the process
        printed, warned = python(TINY, NUMBA_CACHE_DIR=tmp_path)
        assert printed == expected and warned.count("RuntimeWarning") == 1 and f"{path} is damaged" in warned
        assert python(TINY, NUMBA_CACHE_DIR=tmp_path) == (LOADED, "")
        assert len(path.read_bytes()) == len(before)
    assert sorted(path.name for path in tmp_path.rglob("*.kernel")) == names
    assert names[0].startswith("elementwise.relu-") and names[1:] == ["memory_manager.kernel"]


@no_jit
@pytest.mark.slow
def test_the_memory_manager_is_compiled_once(tmp_path):
    """It is the memory manager of Numba: a later process does not compile it, and every kernel can use it."""
    refuse = "from numba.core.runtime import nrtdynmod\nnrtdynmod.create_nrt_module = None\n"
    fresh = "from nphybrid.ops.memory import aligned\nprint(aligned(5).size, end=' ')\n"
    own = "import numba, numpy\nprint(numba.njit(lambda n: numpy.ones(n).sum())(3), end=' ')\n"
    after = "from numba.core.runtime import nrtdynmod\nprint(nrtdynmod.compile_nrt_functions.__module__)\n"
    for before in "", refuse:
        expected = "5 3.0 numba.core.runtime.nrtdynmod\n"        # Numba's own function is back
        assert python(before + fresh + own + after, NUMBA_CACHE_DIR=tmp_path) == (expected, "")


@no_jit
@pytest.mark.slow
def test_a_kernel_from_the_cache_raises_the_same_errors(tmp_path):
    """Also errors of Numba's functions, whose module is not imported. A result becomes an array with its constants."""
    (tmp_path / "ours.py").write_text("""
from nphybrid.ops.jit import jit_allocating
@jit_allocating
def positive(n):
    if n < 0:
        raise ValueError("expected a positive number, found", n)
""")
    code = f"""
import sys; sys.path.insert(0, {str(tmp_path)!r})
from nphybrid.ops import jit, memory
import ours
for function, n in ((ours.positive, -3), (memory.aligned, -100), (memory.aligned, 1 << 58)):
    try:
        function(n)
    except Exception as error:
        print(repr(error))
print(memory.aligned(3).dtype, len(jit.COMPILED), "numba.np.arrayobj" in sys.modules)
import numba, numpy
print(numba.njit(lambda n: numpy.empty(n).size)(3))
"""
    errors = ("ValueError('expected a positive number, found', -3)\nValueError('negative dimensions not allowed')\n"
              "MemoryError('Allocation failed (probably too large).')\n")
    for end in "float32 2 True\n3\n", "float32 0 False\n3\n":
        assert python(code, NUMBA_CACHE_DIR=tmp_path / "cache") == (errors + end, "")


@no_jit
@pytest.mark.slow
def test_the_source_of_the_module_belongs_to_the_name(tmp_path):
    """Another version of a module outside of nphybrid.ops does not load the kernels of the first version."""
    source = "from nphybrid.ops.jit import jit\n@jit\ndef answer():\n    return {}\n"
    code = f"import sys; sys.path.insert(0, {str(tmp_path)!r}); import ours; from nphybrid.ops import jit\n" \
           "print(ours.answer(), len(jit.COMPILED))"
    for number, compiled in ((1, 1), (1, 0), (2, 1), (1, 0)):
        (tmp_path / "ours.py").write_text(source.format(number))
        assert python(code, NUMBA_CACHE_DIR=tmp_path, PYTHONDONTWRITEBYTECODE=1) == (f"{number} {compiled}\n", "")


@no_jit
@pytest.mark.slow
def test_a_new_kernel_calls_a_kernel_from_the_cache(tmp_path):
    """The LLVM code of the called kernel is in the cache too. The new kernel can be loaded alone."""
    (tmp_path / "ours.py").write_text("from nphybrid.ops.elementwise import relu\nfrom nphybrid.ops.jit import jit\n"
                                      "@jit\ndef twice(x):\n    return relu(x) + relu(x)\n")
    start = f"import sys; sys.path.insert(0, {str(tmp_path)!r}); import numpy as np, ours\nx = np.float32(3)\n"
    end = "from nphybrid.ops import jit; print(len(jit.USED), len(jit.COMPILED))"
    for code, expected in (("print(ours.relu(x))\n", "3.0\n1 1\n"),
                           ("print(ours.relu(x), ours.twice(x))\n", "3.0 6.0\n2 1\n"),
                           ("print(ours.twice(x))\n", "6.0\n1 0\n")):
        assert python(start + code + end, NUMBA_CACHE_DIR=tmp_path / "cache") == (expected, "")


@no_jit
@pytest.mark.slow
def test_machine_code_with_addresses_is_not_kept(tmp_path):
    """A later process would call the address of this process."""
    (tmp_path / "ours.py").write_text("""
import ctypes
from nphybrid.ops.jit import jit
cosine = ctypes.CDLL(None).cos
cosine.restype, cosine.argtypes = ctypes.c_double, [ctypes.c_double]

@jit
def one():
    return cosine(0.0)
""")
    code = f"import sys; sys.path.insert(0, {str(tmp_path)!r}); import ours; print(ours.one())"
    for _ in range(2):
        assert python(code, NUMBA_CACHE_DIR=tmp_path / "cache")[0] == "1.0\n"
    assert [path.name for path in tmp_path.rglob("*.kernel")] == ["memory_manager.kernel"]


def test_a_kernel_is_no_closure():
    def outer(value):
        return jit.jit(lambda: value)
    with pytest.raises(TypeError, match="uses variables of an enclosing function; expected a function of a module"):
        outer(2)


@no_jit
@posix
@pytest.mark.slow
def test_a_full_disk(tmp_path):
    """An empty file can be created, but a kernel cannot be stored."""
    limit = "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (2_000, 2_000))\n"
    printed, warned = python(limit + TINY, NUMBA_CACHE_DIR=tmp_path, TMPDIR=tmp_path)
    assert printed == COMPILED and warned.count("cannot be kept") == 1
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


@no_jit
@posix
@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "getuid") or os.getuid() != 0, reason="only root can become another user")
def test_a_warm_folder_of_another_user_is_read():
    """As in a container: root compiled the kernels, and another user, who can write nowhere, loads them."""
    with tempfile.TemporaryDirectory() as open_folder:    # pytest's own folders are closed to other users
        os.chmod(open_folder, 0o755)
        _check_another_user(Path(open_folder))


def _check_another_user(folder):
    cached, empty = folder / "cache", folder / "empty"
    empty.mkdir()
    first = "import numpy as np; from nphybrid.ops import cache, elementwise; elementwise.silu(np.float32(1)); "
    assert python(first + TINY, NUMBA_CACHE_DIR=cached)[0] == "6 6\n"
    before = {path: path.stat().st_mtime_ns for path in cached.rglob("*")}
    # The first kernel is called by root, because the other user may not be able to read the packages.
    nobody = "import os; os.setgroups([]); os.setgid(65534); os.setuid(65534)\n" \
             "assert not os.access(cache.CHOSEN, os.W_OK)"
    variables = dict(NUMBA_CACHE_DIR=cached, TMPDIR=empty, HOME="/nonexistent")
    assert python(first + nobody + TINY, **variables) == ("2 0\n", "")
    assert {path: path.stat().st_mtime_ns for path in cached.rglob("*")} == before and os.listdir(empty) == []


@no_jit
@pytest.mark.slow
def test_a_package_inside_a_zip_file(tmp_path, root):
    """Numba's own cache refuses such a package."""
    with zipfile.ZipFile(tmp_path / "package.zip", "w") as archive:
        for path in (root / "nphybrid").rglob("*.py"):
            archive.write(path, path.relative_to(root))
    code = f"import sys; sys.path.insert(0, {str(tmp_path / 'package.zip')!r})\n{TINY}print(cache.__file__)"
    for expected in COMPILED, LOADED:
        printed, warned = python(code, NUMBA_CACHE_DIR=tmp_path / "cache")
        assert printed.startswith(expected) and "package.zip" in printed and warned == ""
