"""Pictures that the examples of a page draw, when the site is built.

The directive ``{picture}`` runs the doctests of its page down to itself and shows what they have
drawn: the current figure of matplotlib. So readers see the result of the very code above it, which
pytest runs as well. What is given to the directive is the text for those who do not see it::

    ```{picture} Two components of the irises, as ellipses
    ```

Lines within it are run as well, and not shown.

Pictures are drawn as SVG within the page. Their lines and letters have the page's colour, so that
they fit light and dark pages.
"""

from __future__ import annotations

import doctest
import io
import re
from contextlib import redirect_stdout
from html import escape
from typing import ClassVar

from docutils import nodes
from docutils.parsers.rst import directives
from sphinx.errors import ExtensionError
from sphinx.util.docutils import SphinxDirective

INK = "#010203"  # stands for the page's colour until the figure is written
STYLE = {
    "axes.edgecolor": INK,
    "axes.facecolor": "none",
    "axes.labelcolor": INK,
    "figure.dpi": 100,
    "figure.facecolor": "none",
    "font.size": 10,
    "grid.color": INK,
    "legend.edgecolor": INK,
    "legend.facecolor": "none",
    "savefig.facecolor": "none",
    "svg.hashsalt": "skbae",
    "text.color": INK,
    "xtick.color": INK,
    "ytick.color": INK,
}


class Course:
    """The examples of one page, run as far as was asked for."""

    def __init__(self, path: str) -> None:
        with open(path, encoding="utf-8") as file:
            text = file.read()
        self.path = path
        self.examples = doctest.DocTestParser().get_examples(text, path)
        self.names: dict = {"__name__": "__main__"}
        self.done = 0

    def run_to(self, line: int) -> None:
        """Run the examples above a line that have not been run."""
        while self.done < len(self.examples) and self.examples[self.done].lineno < line:
            example = self.examples[self.done]
            self.done += 1
            if not example.options.get(doctest.SKIP):
                code = compile(example.source, f"{self.path}:{example.lineno + 1}", "single")
                exec(code, self.names)


class Picture(SphinxDirective):
    """Show what the examples above have drawn."""

    required_arguments = 1
    final_argument_whitespace = True
    has_content = True
    option_spec: ClassVar = {"width": directives.unchanged}

    def run(self) -> list[nodes.Node]:
        """Run the examples and take the picture."""
        path = self.env.doc2path(self.env.docname)
        courses = self.env.temp_data.setdefault("live_pictures", {})
        import matplotlib.pyplot as plt

        quiet = io.StringIO()
        with plt.rc_context(STYLE):
            try:
                with redirect_stdout(quiet):
                    course = courses.get(path) or courses.setdefault(path, Course(path))
                    course.run_to(self.lineno)
                    exec(compile("\n".join(self.content), path, "exec"), course.names)
            except Exception as error:
                where = f"{path}:{self.lineno}"
                raise ExtensionError(f"{where}: what is to be drawn fails: {error!r}") from error
            if not plt.get_fignums():
                raise ExtensionError(f"{path}:{self.lineno}: nothing was drawn above this picture")
            text = io.StringIO()
            plt.gcf().savefig(text, format="svg", bbox_inches="tight", metadata={"Date": None})
            plt.close("all")
        described = escape(self.arguments[0], quote=True)
        picture = text.getvalue()[text.getvalue().index("<svg") :]
        picture = re.sub(r"<metadata>.*?</metadata>", "", picture, flags=re.DOTALL)
        picture = picture.replace(INK, "currentColor").replace("#000000", "currentColor")
        picture = picture.replace("<svg ", f'<svg role="img" aria-label="{described}" ', 1)
        width = self.options.get("width")
        style = f' style="max-width: {escape(width)}"' if width else ""
        return [nodes.raw("", f'<div class="picture"{style}>{picture}</div>', format="html")]


def setup(app) -> dict:
    """Add the directive."""
    app.add_directive("picture", Picture)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
