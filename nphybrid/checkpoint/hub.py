"""Models by their name on the Hugging Face hub: `google/vit-hybrid-base-bit-384`.  Needs `nphybrid[hub]`.

The only file that reaches for a network, through huggingface_hub, which is imported when a name is met that is no path
here, not before. Its settings hold: HF_HOME and HF_HUB_CACHE (where what was fetched is kept), HF_HUB_OFFLINE,
HF_ENDPOINT, HF_TOKEN. What is fetched is what a model is read from, nothing else, and never a pickle:

    config.json                                           always
    preprocessor_config.json, or processor_config.json    where there is one
    model.safetensors, or its index and every shard       unless only the configuration is wanted
"""
import re
from pathlib import Path

from .. import __version__
from ..tensorfile import shard_names

# Of each the first that there is.
PROCESSOR = ("preprocessor_config.json", "processor_config.json")
WEIGHTS = ("model.safetensors", "model.safetensors.index.json")

# owner/name, as timm writes it too (hf-hub:owner/name), and a branch, tag or commit after an @.
NAME = re.compile(r"(?:hf[-_]hub:)?(?P<repository>\w[\w.-]*/\w[\w.-]*)(?:@(?P<revision>\w[\w./-]*))?", re.ASCII)
FILE = re.compile(r".*\.(h5|hdf5|json|safetensors|npz|npy|bin|pth?|ckpt|onnx)")


def is_name(path):
    """Whether this could be a model's name on the hub: a str owner/name that does not end like a file's.

    >>> [is_name(path) for path in ("timm/vit_small_r26_s32_224.augreg_in21k", "hf-hub:google/bit-50@main",
    ...                             "models/mine.h5", "./models/mine", "bit-50")]
    [True, True, False, False, False]
    """
    return isinstance(path, str) and bool(NAME.fullmatch(path)) and not FILE.fullmatch(path)


def resolve(path, revision=None, weights=True):
    """Where a model lies: the path itself; where nothing is there, the folder of the hub's model of this name.  -> Path

    revision: a branch, tag or commit of that model. weights: whether more than its configuration is wanted. Raises
    ValueError for the revision of a path, and what `fetched` raises.

    >>> located("examples/images").name
    'images'
    """
    if not Path(path).exists() and is_name(path):
        return fetched(path, revision, weights)
    if revision is not None:
        raise ValueError(f"revision is {revision!r}, but {path} is a path; only a model on the hub has one")
    return Path(path)


def fetched(name, revision=None, weights=True):
    """Fetch a model from the hub, as far as it is not in the cache.  -> Path of the folder, whose name is the commit

    name: owner/name or owner/name@revision, as `is_name` knows it. Raises FileNotFoundError if huggingface_hub is not
    installed, if there is no such model or revision, or if it has no safetensors; PermissionError for a gated model;
    OSError if the hub cannot be reached and the cache does not hold it all.
    """
    repository, within = NAME.fullmatch(name).group("repository", "revision")
    if None not in (within, revision) and within != revision:
        raise ValueError(f"{name} names one revision, and revision={revision!r} another")
    revision = revision or within or "main"
    config = _file(repository, "config.json", revision)
    if config is None:
        raise _missing(repository, revision, "config.json")
    # Everything else is of the commit that the configuration is of, whatever happens to a branch meanwhile.
    commit = config.parent.name
    _first(repository, PROCESSOR, commit)
    if weights:
        file = _first(repository, WEIGHTS, commit)
        if file is None:
            raise _missing(repository, commit, " and no ".join(WEIGHTS))
        for shard in shard_names(file) if file.suffix == ".json" else ():
            _file(repository, shard, commit)
    return config.parent


def _first(repository, files, commit):
    """The first of these files that there is.  -> Path or None

    What a commit lacks it lacks for ever: the cache remembers it, and it is not asked for again.
    """
    hub = _client(repository)
    for file in files:
        known = hub.try_to_load_from_cache(repository, file, revision=commit)
        path = None if known is hub._CACHED_NO_EXIST else _file(repository, file, commit)
        if path is not None:
            return path


def _file(repository, file, revision):
    """Fetch one file.  -> Path in the cache, or None if there is none; offline, if the cache holds none"""
    hub = _client(repository)
    try:
        return Path(hub.hf_hub_download(repository, file, revision=revision, library_name="nphybrid",
                                        library_version=__version__))
    except hub.errors.EntryNotFoundError as error:
        if isinstance(error, hub.errors.LocalEntryNotFoundError) and not hub.constants.HF_HUB_OFFLINE:
            raise OSError(f"{repository}: {file} is not in the cache, and {hub.constants.ENDPOINT} does not give it: "
                          f"{_brief(error.__cause__ or error)}") from None
        return None
    except Exception as error:
        # Under the client lie requests, httpx or hf_xet, by its version, each with errors of its own.
        raise _told(error, repository, revision) from None


def _client(repository):
    try:
        import huggingface_hub.constants
        import huggingface_hub.errors
    except ImportError:
        raise FileNotFoundError(
            f"{repository}: no such file or folder on this computer. As the name of a model of the Hugging Face hub it "
            f'takes the hub\'s client, pip install "nphybrid[hub]"; or have it fetched, hf download {repository} '
            "--local-dir FOLDER, and name the FOLDER") from None
    return huggingface_hub


def _missing(repository, revision, files):
    constants = _client(repository).constants
    where = f"in the cache {constants.HF_HUB_CACHE}, and HF_HUB_OFFLINE is set"
    if not constants.HF_HUB_OFFLINE:
        where = f"on {constants.ENDPOINT}; pickles (.bin) are never fetched"
    return FileNotFoundError(f"{repository} at {revision}: no {files} {where}")


def _told(error, repository, revision):
    """What the client raised, as one sentence about what was asked for.  -> OSError"""
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
    return OSError(f"{repository} on {endpoint}: {_brief(error)}")


def _brief(error):
    """The first line of an error, which may have many."""
    return next(iter(str(error).splitlines()), "") or type(error).__name__
