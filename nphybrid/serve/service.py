"""The answers of the server, computed with one model.  Rows and pages are made by the code of the command line."""
from typing import Any

import numpy as np

from .. import __version__
from ..batch import rows
from ..batch.pipeline import pipeline
from ..batch.run import compute_rows, preparer
from ..explain.page import page
from ..pictures.decode import formats
from .decoder import Decoder
from .forms import Upload


class Service:
    """Classifies and explains uploads with a model.  A service is used by one thread at a time."""

    def __init__(self, model: Any, name: str, top_k: int = 5, decode_seconds: float = 5) -> None:
        """Compute a blank picture, so that every kernel is compiled before the first request.

        `name` is the name of the model on the page. `top_k` is the number of labels of a picture. `decode_seconds` is
        the longest time for decoding one picture. Raises ValueError for a model without a classifier or without an
        image processor.
        """
        self.pipe = pipeline("image-classification", model)
        self.name = name
        self.top_k = top_k
        self.prepare = preparer(self.pipe.image_processor)
        self._logits(self.prepare(np.zeros((64, 64, 3), np.uint8))[None])
        self.decoder = Decoder(decode_seconds)

    def row(self, upload: Upload, position: int) -> tuple[dict, Exception | None]:
        """The fields of the row of a picture, as `nphybrid classify --format json` writes it, and its error."""
        [row] = compute_rows([upload], lambda upload: self.prepare(self.decoder.open(upload)), self._logits, batch=1,
                             start=position, workers=0)
        return rows.labelled_fields(row._replace(source=upload.name), self.pipe.model.config, self.top_k), row.error

    def explain(self, upload: Upload) -> bytes:
        """The page of `nphybrid explain` about a picture.

        Raises PictureError for a file that is refused, and ValueError for a picture that cannot be resized.
        """
        return page(self.pipe.model, self.decoder.open(upload), upload.name).encode("utf-8", "replace")

    def health(self) -> dict:
        """What GET /health answers."""
        return {"status": "ok", "version": __version__, "model": self.name,
                "classes": self.pipe.model.network_config.classes, "formats": list(formats())}

    def _logits(self, pixel_values):
        return self.pipe.model(pixel_values).logits

    def stop(self) -> None:
        """End the process that decodes pictures."""
        self.decoder.stop()
