from dataclasses import replace
from html.parser import HTMLParser

import pytest

from deepalign_cli.plots.html import curves_html
from deepalign_cli.plots.html_landscape import landscape_html
from deepalign_cli.plots.series import panels_of
from deepalign_cli.plots.text import clean, ends_of
from tests.plots.builders import CURVES, LANDSCAPES, landscape

BAD = "<img src=x onerror=alert(1)>%{y}</script>"


def curves_page(name: str) -> str:
    curves, names, title = CURVES[name]
    return curves_html(panels_of(curves), ends_of(names), clean(title))


class Reader(HTMLParser):
    """Collects tags with their attributes, and text outside scripts."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data):
        if self.tags and self.tags[-1][0] not in ("script", "style"):
            self.text.append(data)


@pytest.mark.slow
@pytest.mark.parametrize(
    "name", ["five methods", "strange names", "three long sets", "never finite", "huge naive"]
)
def test_the_page_of_curves_is_whole_and_fetches_nothing(name: str):
    page = curves_page(name)
    reader = Reader(page)
    assert page.startswith("<!DOCTYPE html>")
    assert page.endswith("</html>\n")
    assert not any("src" in attrs or "href" in attrs for _, attrs in reader.tags)
    policy = next(a["content"] for t, a in reader.tags if t == "meta" and "http-equiv" in a)
    assert policy is not None
    assert policy.startswith("default-src 'none';")
    assert "http" not in policy


@pytest.mark.slow
@pytest.mark.parametrize("name", LANDSCAPES)
def test_the_page_of_a_landscape_is_whole(name: str):
    page = landscape_html(LANDSCAPES[name], "")
    assert page.endswith("</html>\n")
    assert page.count("Plotly.newPlot(") >= 2
    assert not any("src" in attrs for _, attrs in Reader(page).tags)


def test_the_bar_of_a_landscape_names_the_data_in_full():
    found = replace(landscape(), data="mnist.npz, test, 10,000 examples")
    assert "on mnist.npz, test, 10,000 examples" in landscape_html(found, "")


@pytest.mark.slow
def test_names_are_escaped_wherever_they_are():
    made = curves_html(panels_of(CURVES["one"][0]), ends_of((BAD, BAD)), BAD)
    places = {BAD: (0.0, 0.0), "b": (1.0, 0.0), "c": (0.0, 1.0)}
    for page in (made, landscape_html(landscape(places, ((BAD, "b"),)), BAD)):
        assert not any(tag == "img" for tag, _ in Reader(page).tags)
        assert BAD not in page
        assert "&lt;img" in page


@pytest.mark.slow
def test_the_table_says_the_barriers():
    text = Reader(curves_page("not finite")).text
    assert "deepalign" in text
    assert "0.2" in text
    assert any("loss not finite at 3 of 25" in t for t in text)


@pytest.mark.slow
@pytest.mark.parametrize(
    "page", [lambda: curves_page("pairs"), lambda: landscape_html(LANDSCAPES["plain"], "t")]
)
def test_the_same_picture_is_the_same_page(page):
    assert page() == page()
