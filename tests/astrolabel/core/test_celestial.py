import numpy as np
import pytest
from astropy.coordinates import SkyCoord
from astropy.io import fits
from astropy.wcs import WCS

from astrolabel.core.celestial import check_numbers, frame_of, to_icrs, to_pixels


def wcs_of(first="RA---TAN", second="DEC--TAN", values=(150.0, 2.0), **cards):
    header = fits.Header()
    header["CTYPE1"], header["CTYPE2"] = first, second
    header["CRVAL1"], header["CRVAL2"] = values
    header["CRPIX1"], header["CRPIX2"] = 50, 60
    header["CD1_1"], header["CD1_2"] = -5e-5, 1e-5
    header["CD2_1"], header["CD2_2"] = 1e-5, 5e-5
    header.update(cards)
    return WCS(header)


SYSTEMS = [
    (wcs_of(), "icrs"),
    (wcs_of(EQUINOX=2000.0, RADESYS="FK5"), "fk5"),
    (wcs_of(EQUINOX=1950.0, RADESYS="FK4"), "fk4"),
    (wcs_of("GLON-TAN", "GLAT-TAN", (120.0, 40.0)), "galactic"),
    (wcs_of("GLAT-TAN", "GLON-TAN", (40.0, 120.0)), "galactic"),
    (wcs_of("DEC--TAN", "RA---TAN", (2.0, 150.0)), "icrs"),
    (wcs_of("SLON-TAN", "SLAT-TAN", (120.0, 40.0)), "supergalactic"),
    (wcs_of("ELON-TAN", "ELAT-TAN", (120.0, 40.0)), "barycentricmeanecliptic"),
]


@pytest.mark.parametrize(("wcs", "frame"), SYSTEMS)
def test_positions_are_icrs_whatever_the_frame_and_the_order_of_the_axes(wcs, frame):
    middle = {"icrs": (150, 2), "fk5": (150, 2), "fk4": (150, 2)}.get(frame, (120, 40))
    expected = SkyCoord(*middle, unit="deg", frame=frame).icrs
    ra, dec = to_icrs(wcs, [49.0, 0.0], [59.0, 0.0])
    found = SkyCoord(ra, dec, unit="deg")
    assert found[0].separation(expected).arcsec < 1e-3
    assert 10 < found[1].separation(expected).arcsec < 20 + 300
    x, y = to_pixels(wcs, ra, dec)
    np.testing.assert_allclose([x, y], [[49, 0], [59, 0]], atol=1e-5)


@pytest.mark.parametrize("index", [0, 1, 2, 3, 5])
def test_positions_are_those_of_astropys_own_sky_coordinates(index):
    wcs = SYSTEMS[index][0]
    x, y = np.array([3.0, 90.0]), np.array([10.0, 70.0])
    theirs = wcs.pixel_to_world(x, y).icrs
    np.testing.assert_allclose(to_icrs(wcs, x, y), [theirs.ra.deg, theirs.dec.deg], atol=1e-9)


def test_coordinates_of_the_sun_are_refused():
    with pytest.raises(ValueError, match="HPLN"):
        frame_of(wcs_of("HPLN-TAN", "HPLT-TAN"))


@pytest.mark.parametrize("name", ["TPV", "TAN"])
@pytest.mark.parametrize(
    "given", [{}, {"PV1_1": 1.0}, {"PV2_1": 1.0}, {"PV1_1": 1.001, "PV2_4": 0.3}]
)
def test_linear_terms_that_a_polynomial_leaves_out_are_one(name, given):
    header = fits.Header()
    header["CTYPE1"], header["CTYPE2"] = f"RA---{name}", f"DEC--{name}"
    header["CRVAL1"], header["CRVAL2"], header["CRPIX1"], header["CRPIX2"] = 150.0, 2.0, 1.0, 1.0
    header["CDELT1"], header["CDELT2"] = -1e-4, 1e-4
    header.update(given)
    check_numbers(header)
    x, y = 2000.0, 1500.0
    ra, dec = to_icrs(WCS(header), x, y)
    xi, eta = (
        -1e-4 * x * given.get("PV1_1", 1.0),
        1e-4 * y + given.get("PV2_4", 0.0) * (1e-4 * y) ** 2,
    )
    plane = WCS(naxis=2)
    plane.wcs.ctype, plane.wcs.crval = ["RA---TAN", "DEC--TAN"], [150.0, 2.0]
    plane.wcs.crpix = [1.0, 1.0]
    expected = to_icrs(plane, xi, eta)  # a degree a pixel
    np.testing.assert_allclose((ra, dec), expected, atol=1e-7)


def test_angles_of_a_plain_projection_are_no_polynomial():
    header = fits.Header()
    header["CTYPE1"], header["CTYPE2"] = "RA---TAN", "DEC--TAN"
    header["CRVAL1"], header["CRVAL2"], header["CRPIX1"], header["CRPIX2"] = 150.0, 2.0, 1.0, 1.0
    header["CDELT1"], header["CDELT2"], header["PV1_1"], header["PV1_2"] = -1e-4, 1e-4, 0.0, 90.0
    check_numbers(header)
    assert header["CTYPE1"] == "RA---TAN"
    assert to_icrs(WCS(header), 0, 0) == pytest.approx((150.0, 2.0))
