"""Decodes pictures of strangers in a process of its own, by the rules of `open_picture`.

The decoders are libraries written in C. A file can make a decoder crash, or compute for hours: a JPEG of a few
megabytes can have thousands of scans. Such a picture ends the process of the decoder, and the server goes on with a new
process. The two processes exchange bytes and JSON, and never pickles.
"""
import contextlib
import io
import json
import multiprocessing
import signal
from multiprocessing.connection import Connection

from PIL import Image

from ..pictures import max_pixels, pixel_limit
from ..pictures.decode import DECODER_BYTES, PictureError, open_picture
from ..text import printable
from .forms import Upload

OTHER_BYTES = 2 << 30                     # the memory of the process for its code, its stacks and the file


class Decoder:
    """A process that decodes one picture at a time.  A decoder is used by one thread at a time."""

    def __init__(self, seconds: float) -> None:
        """Start the process, with the present limit of pixels.  `seconds` is the longest time for one picture."""
        self.seconds = seconds
        self.largest = max_pixels()
        self._start()

    def open(self, upload: Upload) -> Image.Image:
        """Decode an upload.  -> a Pillow picture of mode RGB

        Raises PictureError for a file that `open_picture` refuses, that ends the process, or that takes too long.
        Raises MemoryError if there is not enough memory.
        """
        name = printable(upload.name)
        if not self.process.is_alive():
            self._start()
        try:
            self.pipe.send_bytes(name.encode("utf-8", "replace"))
            self.pipe.send_bytes(upload.data)
            if not self.pipe.poll(self.seconds):
                raise TimeoutError
            answer = json.loads(self.pipe.recv_bytes(1 << 16))
            pixels = self.pipe.recv_bytes(3 * self.largest)
        except TimeoutError:
            self.stop()
            raise PictureError(f"{name}: was not decoded within {self.seconds:g} seconds") from None
        except (EOFError, OSError, ValueError) as error:
            self.stop()
            raise PictureError(f"{name}: ended the process that decodes pictures") from error
        if "error" in answer:
            raise (MemoryError if answer["memory"] else PictureError)(answer["error"])
        return Image.frombytes("RGB", (answer["width"], answer["height"]), pixels)

    def stop(self) -> None:
        """End the process, also in the middle of a picture."""
        self.process.kill()
        self.process.join()
        with contextlib.suppress(OSError):                   # another thread may close the pipe at the same time
            self.pipe.close()

    def _start(self):
        spawn = multiprocessing.get_context("spawn")
        self.pipe, end = spawn.Pipe()
        self.process = spawn.Process(target=_decode_pictures, args=(end, self.largest), name="nphybrid decoder",
                                     daemon=True)
        self.process.start()
        end.close()


def _decode_pictures(pipe: Connection, largest: int) -> None:
    """Decode the pictures that come through a pipe, until the other process has ended.  The decoder process runs this.

    `largest` is the largest number of pixels of a picture. Each picture is a name and the bytes of a file. The answer
    is a JSON object and the bytes of the pixels.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)             # Ctrl-C is for the server, which ends this process
    with contextlib.suppress(ImportError, ValueError, OSError):
        import resource
        memory = largest * DECODER_BYTES + OTHER_BYTES
        resource.setrlimit(resource.RLIMIT_AS, (memory, memory))
    with contextlib.suppress(EOFError, OSError), pixel_limit(largest):
        while True:
            name, data = pipe.recv_bytes().decode(), pipe.recv_bytes()
            answer, pixels = _decoded(name, data)
            del data
            pipe.send_bytes(json.dumps(answer).encode())
            pipe.send_bytes(pixels)
            del pixels


def _decoded(name, data):
    """The answer about one picture, and its pixels."""
    try:
        picture = open_picture(_file(name, data))
        return {"width": picture.width, "height": picture.height}, picture.tobytes()
    except MemoryError as error:
        return {"error": str(error) or f"{name}: not enough memory", "memory": True}, b""
    except (ValueError, OSError) as error:
        return {"error": str(error)[:10_000], "memory": False}, b""


def _file(name, data):
    """An open file with a name, which `open_picture` writes in messages."""
    file = io.BytesIO(data)
    file.name = name                                         # type: ignore[attr-defined]
    return file
