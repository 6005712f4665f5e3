import pickle

import pytest

from astrolabel.core.errors import InputError, OutputError


def test_the_message_names_file_problem_and_remedy():
    error = InputError("no image in this file", file="a.fits", remedy="give another")
    assert str(error) == "a.fits: no image in this file; give another"


@pytest.mark.parametrize("kind", [InputError, OutputError])
def test_an_error_survives_the_way_from_a_worker(kind):
    error = kind("broken", file="a.fits", remedy="mend it")
    back = pickle.loads(pickle.dumps(error))
    assert type(back) is kind
    assert (str(back), back.file, back.remedy) == (str(error), "a.fits", "mend it")
