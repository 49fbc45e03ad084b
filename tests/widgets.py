"""What the tests of widgets share: pictures as a browser would get them, an uploaded file, what a widget must leave."""

from __future__ import annotations

import base64
import io
import re

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from labkit.widgets.base import VIEW


def decoded(data: bytes) -> Tensor:
    """The values of a PNG or JPEG file, (H, W) or (H, W, C), in [0, 1]."""
    return torch.from_numpy(np.array(Image.open(io.BytesIO(data)))).float() / 255


def as_shown(image: Tensor) -> Tensor:
    """An image (C, H, W) as `decoded` gives it back: to 8 bits; a grey one is (H, W)."""
    return ((image.clamp(0, 1).permute(1, 2, 0) * 255).round() / 255).squeeze(-1)


def upload(widget, name: str, content: bytes) -> None:
    """Give a file to a widget's button for a picture of one's own, as a browser does."""
    file = {"name": name, "type": "image/png", "size": len(content), "content": memoryview(content), "last_modified": 0}
    widget._upload.set_state({"value": [file]})


def assert_leaves_a_picture(widget, *, alt: str, caption: str) -> None:
    """Beside its live view, the widget leaves pictures with words, and its caption both as HTML and as text."""
    data, _ = widget._repr_mimebundle_()
    assert set(data) == {VIEW, "text/html", "text/plain"}
    pictures = re.findall(r'<img src="data:image/(?:png|jpeg);base64,([^"]+)" alt="([^"]+)"', data["text/html"])
    assert pictures and all(decoded(base64.b64decode(picture)).numel() for picture, _ in pictures)
    assert all(alt in words for _, words in pictures)
    assert "<figcaption" in data["text/html"] and "VBox(" not in data["text/plain"]
    assert caption in data["text/html"] and caption in data["text/plain"]
