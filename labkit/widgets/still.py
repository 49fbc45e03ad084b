"""What remains of a widget when no kernel runs: a picture, its caption, and words for it."""

from __future__ import annotations

from html import escape

from labkit.figures import Figure

VIEW = "application/vnd.jupyter.widget-view+json"


class Still:
    """Mixin, before the widget's class: beside the live view, the output holds `still()` as HTML and as text.

    A notebook prefers the live view. Where there is none (a repository page, a book, a notebook whose widget entries
    were removed), it shows the still picture instead of the name of a Python class.
    """

    def still(self) -> Figure:
        """The widget as it stands now, as a figure."""
        raise NotImplementedError(f"{type(self).__name__} does not say what its still picture is")

    def _repr_mimebundle_(self, **kwargs):
        bundle = super()._repr_mimebundle_(**kwargs)
        data, metadata = bundle if isinstance(bundle, tuple) else (bundle, {})
        figure = self.still()
        return {VIEW: data[VIEW], "text/html": figure.html, "text/plain": figure.text}, metadata


def note(text: str) -> str:
    """A remark beside a picture, as HTML for an `ipywidgets.HTML`."""
    return f'<span class="labkit-note">{escape(text)}</span>' if text else ""


def words(caption: str) -> str:
    """A caption, as HTML for an `ipywidgets.HTML`."""
    return f'<span class="labkit-caption">{escape(caption)}</span>' if caption else ""


def complaint(error: Exception) -> str:
    """What went wrong, as HTML: the message, and the kind of error unless it is the usual `ValueError`."""
    kind = "" if type(error) is ValueError else f"{type(error).__name__}: "
    return f'<span class="labkit-error" role="alert">{escape(kind + (str(error) or "no message"))}</span>'
