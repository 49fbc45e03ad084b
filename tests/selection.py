"""Which tests belong to one chapter: `CHAPTER=04 make test` runs those, and `LABKIT_CHAPTER=04 pytest tests`."""

from __future__ import annotations

import re
from collections.abc import Iterable

from labkit.chapters import Chapter

__all__ = ["belongs"]


def belongs(module: str, parameters: Iterable[object], chapter: Chapter) -> bool:
    """Whether a test is about that chapter.

    Parameters
    ----------
    module : the name of the test's file, such as `"test_widgets_filtering"`; it may name the chapter's topic.
    parameters : what the test is called with; one may be the chapter's topic, number or name, or have that name.
    """
    if re.search(rf"(?:^|_){chapter.topic}(?:_|$)", module):
        return True
    named = (one if isinstance(one, str) else getattr(one, "name", None) for one in parameters)
    return any(name in (chapter.number, chapter.topic, chapter.name) for name in named if isinstance(name, str))
