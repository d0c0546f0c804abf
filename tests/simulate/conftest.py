import planck_files
import pytest


@pytest.fixture(scope="session")
def toy_sky(tmp_path_factory):
    """(folder of band powers, folder of an emulator) of spectra by a formula."""
    folder = tmp_path_factory.mktemp("planck")
    planck_files.emulator(folder)
    return planck_files.band_powers(folder / "data"), folder / "emulator"
