"""Each mutant is whole and still fits the code: a patch that no longer applies would plant nothing."""

import subprocess

import pytest

from tests.mutants.__main__ import ROOT, Mutant, mutants

INVARIANTS = {f"I{number}" for number in range(1, 10)}


@pytest.mark.parametrize("mutant", mutants(), ids=lambda mutant: mutant.name)
def test_a_mutant_fits_the_code_and_names_what_must_catch_it(mutant: Mutant) -> None:
    fits = subprocess.run(
        ["git", "apply", "--check", str(mutant.patch)], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert fits.returncode == 0, fits.stderr
    assert mutant.title
    assert mutant.fault
    assert mutant.invariant in INVARIANTS


def test_there_are_nine() -> None:
    assert len(mutants()) == 9
