import subprocess
import sys
from types import ModuleType

import pytest

from tunesmith.errors import RecipeError
from tunesmith.registry import METHODS, known, resolve


def test_a_known_name_is_returned_as_it_is() -> None:
    assert known("method", "lora", METHODS) == "lora"


def test_an_unknown_name_gets_the_nearest_one_and_all_others_in_order() -> None:
    with pytest.raises(RecipeError) as caught:
        known("animal", "hrose", {"horse": "", "cow": ""})
    assert str(caught.value) == 'animal "hrose" is not known. Did you mean "horse"? Known: cow, horse.'


def test_a_name_far_from_all_others_gets_no_proposal() -> None:
    with pytest.raises(RecipeError) as caught:
        known("animal", "zzz", {"horse": "", "cow": ""})
    assert str(caught.value) == 'animal "zzz" is not known. Known: cow, horse.'


def test_an_entry_without_a_colon_is_a_module() -> None:
    found = resolve("method", "lora", METHODS)
    assert isinstance(found, ModuleType)
    assert found.__name__ == "tunesmith.methods.lora"


def test_an_entry_with_a_colon_is_an_attribute() -> None:
    assert resolve("function", "dump", {"dump": "json:dumps"})([1]) == "[1]"


def test_the_tables_import_nothing_that_they_name() -> None:
    code = (
        "import sys, tunesmith.registry;"
        "print([m for m in sys.modules if m.startswith(('tunesmith.methods', 'tunesmith.metrics'))])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
