"""Downloads models from the Hugging Face hub by their names, such as `google/vit-hybrid-base-bit-384`.

This is the only file of the package that downloads anything.  The library huggingface_hub downloads the files, and is
imported only if a name is not a path on this computer.  The settings of huggingface_hub apply: HF_HOME and HF_HUB_CACHE
(the folder of the cache), HF_HUB_OFFLINE, HF_ENDPOINT and HF_TOKEN.  A pickle is never downloaded.  The following files
of a model are downloaded:

    The file config.json is always downloaded.
    The file preprocessor_config.json or processor_config.json is downloaded if the model has it.
    The file model.safetensors, or its index and every shard, is downloaded if the arrays are wanted.
"""

import re
from pathlib import Path
from typing import Any, NamedTuple

from .. import __version__
from ..tensorfile import FilePath, shard_names, way_out_of_pickles
from ..tensorfile.errors import refuse_empty
from ..text import is_url, url_refusal

# From each tuple, only the first file that the model has is downloaded.
PROCESSORS = ("preprocessor_config.json", "processor_config.json")
WEIGHTS = ("model.safetensors", "model.safetensors.index.json")
PICKLES = ("pytorch_model.bin", "pytorch_model.bin.index.json")

# The name of a model is owner/name; timm writes hf-hub:owner/name. A branch, tag or commit may follow after an @.
NAME = re.compile(r"(?:hf[-_]hub:)?(?P<repository>\w[\w.-]*/\w[\w.-]*)(?:@(?P<revision>\w[\w./-]*))?", re.ASCII)
COMMIT = re.compile(r"[0-9a-f]{40}")
FILE = re.compile(r".*\.(h5|hdf5|json|safetensors|npz|npy|bin|pth?|ckpt|onnx)")


class Access(NamedTuple):
    """The arguments of `hf_hub_download` that decide how a model is downloaded."""

    token: str | bool | None = None       # None: the token of `hf auth login` or HF_TOKEN
    cache_dir: FilePath | None = None     # None: the folder of HF_HUB_CACHE
    local_files_only: bool = False        # whether only the cache is used, as with HF_HUB_OFFLINE


DEFAULT = Access()


def is_name(path: Any) -> bool:
    """Whether `path` can be the name of a model on the hub.

    A name is a string owner/name that does not end like the name of a file.

    >>> [is_name(path) for path in ("timm/vit_small_r26_s32_224.augreg_in21k", "hf-hub:google/bit-50@main",
    ...                             "models/mine.h5", "./models/mine", "bit-50")]
    [True, True, False, False, False]
    """
    return isinstance(path, str) and bool(NAME.fullmatch(path)) and not FILE.fullmatch(path)


def resolve(path: FilePath, revision: str | None = None, weights: bool = True, access: Access = DEFAULT) -> Path:
    """Returns the path itself, or the folder of a model that was downloaded from the hub.

    A model is downloaded if `path` is the name of a model on the hub and no file or folder has this path. `revision` is
    a branch, tag or commit of the model. If `weights` is False, the arrays are not downloaded. Raises ValueError if
    `path` is empty or a URL, or if a revision is given for a path on this computer. The exceptions of `fetched` can
    also occur.

    >>> resolve("examples/images").name
    'images'
    """
    refuse_empty(path)
    if is_url(path):
        raise ValueError(url_refusal(str(path)))
    if isinstance(path, str) and is_name(path) and not Path(path).exists():
        return fetched(path, revision, weights, access)
    if revision is not None:
        raise ValueError(f"revision is {revision!r}, but {path} is a path; only a model on the hub has a revision")
    return Path(path)


def is_cached(name: str) -> bool:
    """Whether the weights of a model are in the cache of huggingface_hub.  Nothing is downloaded.

    `name` is a string for which `is_name` is true. If huggingface_hub is not installed, the result is False.
    """
    match = NAME.fullmatch(name)
    if match is None:
        raise ValueError(f"{name!r} is not the name of a model on the hub; expected owner/name")
    repository, revision = match.group("repository", "revision")
    try:
        hub = _client(repository)
    except FileNotFoundError:
        return False
    return any(isinstance(hub.try_to_load_from_cache(repository, file, revision=revision), str) for file in WEIGHTS)


def fetched(name: str, revision: str | None = None, weights: bool = True, access: Access = DEFAULT) -> Path:
    """Returns the folder of a model from the hub.  Files that are not in the cache are downloaded.

    The name of this folder is the hash of the model's commit. `name` is a string for which `is_name` is true, such as
    owner/name or owner/name@revision. Raises FileNotFoundError if huggingface_hub is not installed, if the model or the
    revision does not exist, or if the model has no config.json or no safetensors file. Raises ValueError for a `name`
    of another form, and if `name` and `revision` contain different revisions. Raises PermissionError for a gated model.
    Raises OSError if the hub cannot be reached and a file is not in the cache.
    """
    match = NAME.fullmatch(name)
    if match is None:
        raise ValueError(f"{name!r} is not the name of a model on the hub; expected owner/name")
    repository, within = match.group("repository", "revision")
    if within and revision and within != revision:
        raise ValueError(f"{name} names another revision than revision={revision!r}; expected one revision")
    wanted: str = revision or within or "main"
    unreachable = _connection_error(repository, wanted, access)
    if unreachable is None:
        return _files(repository, wanted, weights, access)
    try:
        return _files(repository, wanted, weights, access._replace(local_files_only=True))
    except FileNotFoundError:
        endpoint = _client(repository).constants.ENDPOINT
        raise OSError(f"{repository}: the revision {wanted} is not in the cache, and cannot be downloaded from "
                      f"{endpoint}: {_first_line(_origin(unreachable))}") from None


def _connection_error(repository: str, revision: str, access: Access) -> Exception | None:
    """Returns the error of a first request to the hub; None if the hub answers, or if no request is needed.

    huggingface_hub would try again for half a minute. The environment variable HF_HUB_ETAG_TIMEOUT is the number of
    seconds that the hub may take to answer.
    """
    hub = _client(repository)
    cached = hub.try_to_load_from_cache(repository, "config.json", cache_dir=access.cache_dir, revision=revision)
    if _offline(hub, access) or COMMIT.fullmatch(revision) and isinstance(cached, str):
        return None
    try:
        hub.utils.get_session().head(hub.constants.ENDPOINT, timeout=hub.constants.HF_HUB_ETAG_TIMEOUT)
    except Exception as error:
        return error
    return None


def _files(repository: str, wanted: str, weights: bool, access: Access) -> Path:
    """Downloads the files of a model that are not in the cache.  -> the folder with the files"""
    config = _download(repository, "config.json", wanted, access)
    if config is None:
        raise _missing(repository, wanted, "config.json", access)
    # All other files are downloaded from the commit of config.json, because the branch may change meanwhile.
    commit = config.parent.name
    _download_first(repository, PROCESSORS, commit, access)
    if weights:
        file = _download_first(repository, WEIGHTS, commit, access)
        if file is None:
            error = _missing(repository, commit, " and no ".join(WEIGHTS), access)
            for pickle in (config.parent / name for name in PICKLES if (config.parent / name).exists()):
                raise FileNotFoundError(f"{error}. The cache has {pickle}, {way_out_of_pickles(pickle)}"
                                        f"Then pass the path of the folder {config.parent}")
            raise error
        for shard in shard_names(file) if file.suffix == ".json" else ():
            _download(repository, shard, commit, access)
    return config.parent


def _download_first(repository: str, files: tuple[str, ...], commit: str, access: Access) -> Path | None:
    """Tries several file names, and downloads the first file that the model has.  -> Path; None if the model has none

    The cache also records which files a commit does not have. So a missing file is requested only one time.
    """
    hub = _client(repository)
    for file in files:
        known = hub.try_to_load_from_cache(repository, file, cache_dir=access.cache_dir, revision=commit)
        path = None if known is hub._CACHED_NO_EXIST else _download(repository, file, commit, access)
        if path is not None:
            return path
    return None


def _download(repository: str, file: str, revision: str, access: Access) -> Path | None:
    """Downloads one file, and returns its path in the cache.

    Returns None if the model does not have the file, or if nothing is downloaded and the cache does not have it.
    """
    hub = _client(repository)
    try:
        return Path(hub.hf_hub_download(repository, file, revision=revision, library_name="nphybrid",
                                        library_version=__version__, **access._asdict()))
    except hub.errors.EntryNotFoundError as error:
        if isinstance(error, hub.errors.LocalEntryNotFoundError) and not _offline(hub, access):
            raise OSError(f"{repository}: the file {file} is not in the cache, and cannot be downloaded from "
                          f"{hub.constants.ENDPOINT}: {_first_line(_origin(error))}") from None
        return None
    except Exception as error:
        # huggingface_hub uses requests, httpx or hf_xet, depending on its version. Each library has its own exceptions.
        raise _os_error(error, repository, revision) from None


def _client(repository: str) -> Any:
    """Imports and returns the module huggingface_hub."""
    try:
        import huggingface_hub.constants
        import huggingface_hub.errors
        import huggingface_hub.utils
    except ModuleNotFoundError:
        raise FileNotFoundError(
            f"{repository}: no such file or folder on this computer. To download the model of this name from the "
            "Hugging Face hub, run pip install huggingface_hub. If this computer is not on the internet, run hf "
            f"download {repository} --local-dir FOLDER on another computer, and pass the path of the FOLDER") from None
    return huggingface_hub


def _offline(hub: Any, access: Access) -> bool:
    return access.local_files_only or hub.constants.HF_HUB_OFFLINE


def _missing(repository: str, revision: str, files: str, access: Access) -> FileNotFoundError:
    """Returns the error for files that are not on the hub, or, if nothing is downloaded, not in the cache."""
    hub = _client(repository)
    constants = hub.constants
    reason = "local_files_only is True" if access.local_files_only else "HF_HUB_OFFLINE is set"
    where = f"in the cache {access.cache_dir or constants.HF_HUB_CACHE}, and {reason}"
    if not _offline(hub, access):
        where = f"on {constants.ENDPOINT}; pickles (.bin) are never downloaded"
    return FileNotFoundError(f"{repository} at {revision}: no {files} {where}")


def _os_error(error: Exception, repository: str, revision: str) -> OSError:
    """Converts an exception of huggingface_hub to an OSError with one sentence about the model."""
    hub = _client(repository)
    endpoint, errors = hub.constants.ENDPOINT, hub.errors
    if isinstance(error, errors.GatedRepoError):
        return PermissionError(f"{repository} is gated: accept its terms on {endpoint}/{repository}, then run "
                               "`hf auth login`, or set HF_TOKEN")
    if isinstance(error, errors.RepositoryNotFoundError):
        return FileNotFoundError(f"{repository}: no such file or folder on this computer, and no such model on "
                                 f"{endpoint}; for a private model, run `hf auth login`, or set HF_TOKEN")
    if isinstance(error, errors.RevisionNotFoundError):
        return FileNotFoundError(f"{repository} on {endpoint} has no revision {revision!r}")
    return OSError(f"{repository} on {endpoint}: {_first_line(error)}")


def _origin(error: BaseException) -> BaseException:
    """Returns the exception from which a chain of exceptions began: the error of the system, not those of libraries."""
    while cause := error.__cause__ or error.__context__:
        error = cause
    return error


def _first_line(error: BaseException) -> str:
    """Returns the first line of an exception's message."""
    return next(iter(str(error).splitlines()), "") or type(error).__name__
