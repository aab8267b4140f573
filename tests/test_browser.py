"""The browser that the tests look through: what it waits for may come on another page."""

import pytest

from browser import Left, open_book

pytestmark = pytest.mark.slow

LEAVES = "(location.href = 'second.html', new Promise(() => {}))"  # no result: the page navigates first


@pytest.fixture
def opened(tmp_path):
    for name in ("first", "second"):
        (tmp_path / f"{name}.html").write_text(f"<!doctype html><title>{name}</title>")
    with open_book(tmp_path / "first.html") as browser:
        browser.visit()
        yield browser


def test_a_page_that_navigates_while_it_is_read_is_read_again_once_it_stands(opened):
    opened.wait(f"document.title === 'second' || {LEAVES}")
    assert opened.read("document.title") == "second"


def test_a_reading_that_a_navigation_cuts_short_is_an_error(opened):
    with pytest.raises(Left):
        opened.read(LEAVES)
