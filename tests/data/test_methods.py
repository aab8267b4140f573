"""The methods: what the table says fits what there is."""

from whoknows.data.files import ROOT
from whoknows.data.methods import METHOD_TITLES, METHODS, TRAINED
from whoknows.report.pages import style


def test_a_family_is_a_method_of_its_own_colour_and_a_stage_is_what_a_grid_may_ask_for():
    assert all((ROOT / f"notebooks/{stage}.py").exists() for stage in TRAINED.values())
    assert {method.family for method in METHODS.values()} - {""} == style.HUES.keys()
    assert all(METHODS[name].family == name for name in style.HUES)


def test_no_two_methods_have_one_title():
    assert len({*METHOD_TITLES.values()}) == len(METHODS)
