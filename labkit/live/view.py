"""What a panel shows: settings in, results out, and a result as a picture and in words. Usable without a browser."""

from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

from labkit.live.picture import LiveFigure

Card = tuple[str, str, str]  # label, value, note


class Summary(NamedTuple):
    """A result in words. `title` is what was found; `progress` the share of a training that is done, None without."""

    cards: list[Card]
    alt: str
    status: str = ""
    title: str = ""
    progress: float | None = None


# a job gets the settings, a function that shows a result, and one that says whether it has been overtaken
Job = Callable[[dict[str, Any], Callable[[Any], None], Callable[[], bool]], None]


class View:
    """The base of the views.

    A view has `results(**settings)`, an iterator: a first, quick result within the time of a frame, then better ones;
    `draw(result)`, which moves the artists of its `live` figure; and `summarize(result)`, the result in words.
    """

    live: LiveFigure
    pure = False  # whether equal settings have equal results, so that they may be kept and measured ahead

    def results(self, *args: Any, **settings: Any) -> Iterator[Any]:
        """Measure one setting of the controls."""
        raise NotImplementedError

    def draw(self, result: Any) -> None:
        """Move the artists."""
        raise NotImplementedError

    def still_for(self, result: Any) -> Any:
        """What the still part of the picture depends on."""
        return None

    def summarize(self, result: Any) -> Summary:
        """The result in words."""
        raise NotImplementedError

    def idle(self, settings: Mapping[str, Any]) -> set[str]:
        """The names of the controls that change nothing at these settings."""
        return set()

    def compared(self, pinned: Any, now: Any) -> str:
        """How the present result differs from the pinned one, in words."""
        return ""

    file_note = ""  # what `file` gives, in words; "" where there is none

    def file(self, result: Any) -> tuple[str, bytes]:
        """The name and the bytes of a file that the result can be saved as."""
        raise NotImplementedError

    def code(self, settings: Mapping[str, Any]) -> str:
        """The lines of labkit that give this result; "" where there are none."""
        return ""
