"""Models by their name on the Hugging Face hub: `google/vit-hybrid-base-bit-384`.  Needs huggingface_hub.

This is the only file that uses a network: through huggingface_hub, which is imported only if a name is not a path on
this computer. Its settings apply: HF_HOME and HF_HUB_CACHE (the folder of the cache), HF_HUB_OFFLINE, HF_ENDPOINT,
HF_TOKEN. Only the files that a model is read from are fetched, and never a pickle:

    config.json                                           always
    preprocessor_config.json, or processor_config.json    where there is one
    model.safetensors, or its index and every shard       unless only the configuration is wanted
"""

import re
from pathlib import Path
from typing import Any

from .. import __version__
from ..tensorfile import FilePath, shard_names

# Of each tuple, the first file that exists is fetched.
PROCESSORS = ("preprocessor_config.json", "processor_config.json")
WEIGHTS = ("model.safetensors", "model.safetensors.index.json")

# owner/name, or hf-hub:owner/name as timm writes it, and perhaps a branch, tag or commit after an @.
NAME = re.compile(r"(?:hf[-_]hub:)?(?P<repository>\w[\w.-]*/\w[\w.-]*)(?:@(?P<revision>\w[\w./-]*))?", re.ASCII)
FILE = re.compile(r".*\.(h5|hdf5|json|safetensors|npz|npy|bin|pth?|ckpt|onnx)")


def is_name(path: Any) -> bool:
    """Whether this could be the name of a model on the hub: a str owner/name without the ending of a file.

    >>> [is_name(path) for path in ("timm/vit_small_r26_s32_224.augreg_in21k", "hf-hub:google/bit-50@main",
    ...                             "models/mine.h5", "./models/mine", "bit-50")]
    [True, True, False, False, False]
    """
    return isinstance(path, str) and bool(NAME.fullmatch(path)) and not FILE.fullmatch(path)


def resolve(path: FilePath, revision: str | None = None, weights: bool = True) -> Path:
    """The path itself, or the folder of a model that is fetched from the hub.

    A model is fetched if `path` is the name of a model on the hub and no file or folder has this path.

    revision: a branch, tag or commit of that model. weights: whether to fetch more than its configuration. Raises
    ValueError for the revision of a path, and what `fetched` raises.

    >>> resolve("examples/images").name
    'images'
    """
    if isinstance(path, str) and is_name(path) and not Path(path).exists():
        return fetched(path, revision, weights)
    if revision is not None:
        raise ValueError(f"revision is {revision!r}, but {path} is a path; only a model on the hub has a revision")
    return Path(path)


def fetched(name: str, revision: str | None = None, weights: bool = True) -> Path:
    """The folder of a model from the hub, named after the commit.  Files that are not in the cache are fetched.

    name: owner/name or owner/name@revision, for which `is_name` is true. Raises FileNotFoundError if huggingface_hub is
    not installed, if there is no such model or revision, or if it has no safetensors; PermissionError for a gated
    model; OSError if the hub cannot be reached and the cache does not hold all of the files.
    """
    match = NAME.fullmatch(name)
    if match is None:
        raise ValueError(f"{name!r} is not the name of a model on the hub; expected owner/name")
    repository, within = match.group("repository", "revision")
    if within and revision and within != revision:
        raise ValueError(f"{name} names one revision, and revision={revision!r} another")
    wanted: str = revision or within or "main"
    config = _download(repository, "config.json", wanted)
    if config is None:
        raise _missing(repository, wanted, "config.json")
    # All other files are fetched from the commit of the configuration, even if the branch moves meanwhile.
    commit = config.parent.name
    _download_first(repository, PROCESSORS, commit)
    if weights:
        file = _download_first(repository, WEIGHTS, commit)
        if file is None:
            raise _missing(repository, commit, " and no ".join(WEIGHTS))
        for shard in shard_names(file) if file.suffix == ".json" else ():
            _download(repository, shard, commit)
    return config.parent


def _download_first(repository: str, files: tuple[str, ...], commit: str) -> Path | None:
    """Fetches the first of these files that exists.  -> Path or None

    The cache also records which files a commit does not have; they are not asked for again.
    """
    hub = _client(repository)
    for file in files:
        known = hub.try_to_load_from_cache(repository, file, revision=commit)
        path = None if known is hub._CACHED_NO_EXIST else _download(repository, file, commit)
        if path is not None:
            return path
    return None


def _download(repository: str, file: str, revision: str) -> Path | None:
    """Fetches one file.  -> Path in the cache; None if the model does not have it, or, offline, the cache does not"""
    hub = _client(repository)
    try:
        return Path(hub.hf_hub_download(repository, file, revision=revision, library_name="nphybrid",
                                        library_version=__version__))
    except hub.errors.EntryNotFoundError as error:
        if isinstance(error, hub.errors.LocalEntryNotFoundError) and not hub.constants.HF_HUB_OFFLINE:
            raise OSError(f"{repository}: {file} is not in the cache, and {hub.constants.ENDPOINT} does not give it: "
                          f"{_first_line(error.__cause__ or error)}") from None
        return None
    except Exception as error:
        # The client uses requests, httpx or hf_xet, depending on its version; each has its own exceptions.
        raise _os_error(error, repository, revision) from None


def _client(repository: str) -> Any:
    """The module huggingface_hub."""
    try:
        import huggingface_hub.constants
        import huggingface_hub.errors
    except ImportError:
        raise FileNotFoundError(
            f"{repository}: no such file or folder on this computer. To fetch the model of this name from the Hugging "
            f"Face hub, run pip install huggingface_hub; or run hf download {repository} --local-dir FOLDER elsewhere, "
            "and give the FOLDER") from None
    return huggingface_hub


def _missing(repository: str, revision: str, files: str) -> FileNotFoundError:
    """The error about files that a model, or offline the cache, does not have."""
    constants = _client(repository).constants
    where = f"in the cache {constants.HF_HUB_CACHE}, and HF_HUB_OFFLINE is set"
    if not constants.HF_HUB_OFFLINE:
        where = f"on {constants.ENDPOINT}; pickles (.bin) are never fetched"
    return FileNotFoundError(f"{repository} at {revision}: no {files} {where}")


def _os_error(error: Exception, repository: str, revision: str) -> OSError:
    """An exception of the client as an OSError with one sentence about the model."""
    hub = _client(repository)
    endpoint, errors = hub.constants.ENDPOINT, hub.errors
    if isinstance(error, errors.GatedRepoError):
        return PermissionError(f"{repository} is gated: accept its terms on {endpoint}/{repository}, then run "
                               "`hf auth login`, or set HF_TOKEN")
    if isinstance(error, errors.RepositoryNotFoundError):
        return FileNotFoundError(f"{repository}: no such file or folder on this computer, and no such model on "
                                 f"{endpoint}; a private one takes `hf auth login`, or HF_TOKEN")
    if isinstance(error, errors.RevisionNotFoundError):
        return FileNotFoundError(f"{repository} on {endpoint} has no revision {revision!r}")
    return OSError(f"{repository} on {endpoint}: {_first_line(error)}")


def _first_line(error: BaseException) -> str:
    """The first line of the message of an exception."""
    return next(iter(str(error).splitlines()), "") or type(error).__name__
