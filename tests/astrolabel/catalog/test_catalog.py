import gzip

import numpy as np
import pytest
from astropy.io import fits
from astropy.table import MaskedColumn, Table

from astrolabel.catalog.catalog import Catalog, read_catalog
from astrolabel.core.errors import InputError

# Three ids that are one and the same number as float64.
IDS = [43158034708430721, 43158034708430722, 43158034708430723, 43158034708430999]
NAN = float("nan")


def hsc(**changes):
    """Galaxy, star, unknown class, and a row that is not primary."""
    columns = {
        "object_id": np.array(IDS, np.int64),
        "RA": np.array([150.1, 150.2, 150.3, 150.4]),
        "dec": np.array([2.1, 2.2, 2.3, 2.4]),
        "isprimary": np.array([True, True, True, False]),
        "g_cmodel_mag": np.array([21.0, 22.0, NAN, 24.0], np.float32),
        "i_cmodel_mag": np.array([20.5, 21.5, 22.5, 23.5], np.float32),
        "i_extendedness_value": np.array([1.0, 0.0, NAN, 1.0], np.float32),
        "i_pixelflags_edge": np.zeros(4, bool),
    }
    columns.update(changes)
    return Table({name: values for name, values in columns.items() if values is not None})


def hst(old=True):
    names = (
        ("number", "ra", "dec", "mag_auto", "mu_class")
        if old
        else ("ID", "ALPHA_J2000", "DELTA_J2000", "ACS_F814W_MAG", "ACS_MU_CLASS")
    )
    columns = ([7, 8, 9, 10], [150.1, 150.2, 150.3, 150.4], [2.1, 2.2, 2.3, 2.4])
    return Table([*columns, [20.0, 21.0, 22.0, 23.0], [1, 2, 3, 0]], names=names)


def save(table, path):
    """Write a table in the format of the path's suffix."""
    if path.name.endswith(".csv.gz"):
        plain = path.with_suffix("")
        table.write(plain, format="ascii.csv")
        path.write_bytes(gzip.compress(plain.read_bytes()))
    elif path.suffix == ".parquet":
        pytest.importorskip("pyarrow")
        import pyarrow
        import pyarrow.parquet

        arrays = {}
        for name in table.colnames:
            column = np.ma.array(table[name])
            arrays[name] = pyarrow.array(np.ma.getdata(column), mask=np.ma.getmaskarray(column))
        pyarrow.parquet.write_table(pyarrow.table(arrays), path)
    else:
        formats = {".fits": "fits", ".gz": "fits", ".csv": "ascii.csv", ".ecsv": "ascii.ecsv"}
        table.write(path, format=formats.get(path.suffix, "ascii.ipac"))
    return path


FORMATS = ["c.fits", "c.fits.gz", "c.csv", "c.csv.gz", "c.ecsv", "c.tbl", "c.parquet"]


def check_hsc(catalog: Catalog):
    assert [str(i) for i in catalog.object_id] == [str(i) for i in IDS[:3]]
    assert catalog.label.tolist() == [1, 2, 0]
    assert catalog.label.dtype == np.int8
    np.testing.assert_array_equal(catalog.ra, [150.1, 150.2, 150.3])
    np.testing.assert_array_equal(catalog.dec, [2.1, 2.2, 2.3])
    np.testing.assert_allclose(catalog.magnitudes["i"], [20.5, 21.5, 22.5])
    np.testing.assert_allclose(catalog.magnitudes["g"], [21.0, 22.0, NAN])
    for array in (catalog.ra, catalog.dec, *catalog.magnitudes.values()):
        assert array.dtype == np.float64
        assert array.dtype.isnative


@pytest.mark.parametrize("name", FORMATS)
def test_every_format_gives_the_same_hsc_catalog(tmp_path, name):
    table = hsc()
    if name.endswith("tbl"):  # IPAC tables have no truth values
        table["isprimary"] = table["isprimary"].astype(int)
        table.remove_column("i_pixelflags_edge")
    check_hsc(read_catalog(save(table, tmp_path / name), "hsc"))


@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize("old", [True, False])
def test_both_names_of_the_hst_columns_are_known(tmp_path, name, old):
    catalog = read_catalog(save(hst(old), tmp_path / name), "hst")
    assert list(map(str, catalog.object_id)) == ["7", "8", "9", "10"]
    assert catalog.label.tolist() == [1, 2, 3, 0]
    assert catalog.magnitudes["f814w"].tolist() == [20.0, 21.0, 22.0, 23.0]
    assert catalog.ra.tolist() == [150.1, 150.2, 150.3, 150.4]


@pytest.mark.parametrize("name", ["c.fits", "c.csv", "c.ecsv", "c.parquet"])
def test_masked_values_are_unknown_and_masked_positions_left_out(tmp_path, name):
    table = hsc(
        object_id=MaskedColumn(IDS, mask=[False, False, False, True], dtype=np.int64),
        RA=MaskedColumn([150.1, 150.2, 150.3, 150.4], mask=[False, True, False, False]),
        isprimary=None,
        i_extendedness_value=MaskedColumn([1.0, 0.0, 0.0, 0.0], mask=[True, True, False, False]),
    )
    catalog = read_catalog(save(table, tmp_path / name), "hsc")
    assert list(map(str, catalog.object_id)) == [str(IDS[0]), str(IDS[2]), ""]
    assert catalog.label.tolist() == [0, 2, 2]


def test_the_hsc_archives_own_ways_are_understood(tmp_path):
    # CSV: the names are a comment; nulls are words or empty; flags are t and f.
    path = tmp_path / "c.csv"
    path.write_text(
        "# object_id,ra,dec,isprimary,i_cmodel_mag,i_extendedness_value\n"
        f"{IDS[0]},150.1,2.1,t,null,1\n\n{IDS[1]},150.2,2.2,True,21.5,\n"
        f"{IDS[2]},150.3,2.3,f,21.5,1\n"
    )
    catalog = read_catalog(path, "hsc")
    assert list(map(str, catalog.object_id)) == [str(i) for i in IDS[:2]]
    assert catalog.label.tolist() == [1, 0]
    assert np.isnan(catalog.magnitudes["i"][0])
    # FITS: a null is written as zero, and said so in a column beside it.
    table = hsc(i_extendedness_value_isnull=np.array([False, True, True, False]))
    assert read_catalog(save(table, tmp_path / "c.fits"), "hsc").label.tolist() == [1, 0, 0]


def test_the_band_of_the_classes_can_be_chosen(tmp_path):
    table = hsc(g_extendedness_value=np.array([0.0, 1.0, 1.0, 1.0]))
    path = save(table, tmp_path / "c.fits")
    assert read_catalog(path, "hsc", magnitude_band="g").label.tolist() == [2, 1, 1]


def test_text_ids_stay_as_they_are(tmp_path):
    table = hsc(object_id=np.array(["A-1", "007", "x y", "z"]))
    for name in ("c.fits", "c.csv", "c.parquet"):
        catalog = read_catalog(save(table, tmp_path / name), "hsc")
        assert list(map(str, catalog.object_id)) == ["A-1", "007", "x y"]


@pytest.mark.parametrize("name", ["c.fits", "c.csv", "c.parquet"])
def test_ids_that_went_through_floats_are_refused(tmp_path, name):
    table = hsc(object_id=np.array(IDS, float))
    with pytest.raises(InputError, match=r"object_id holds floating-point") as caught:
        read_catalog(save(table, tmp_path / name), "hsc")
    assert "integers or text" in caught.value.remedy


def test_small_float_ids_are_exact_and_kept(tmp_path):
    table = hsc(object_id=np.array([1.0, 2.0, 3.0, 4.0]))
    catalog = read_catalog(save(table, tmp_path / "c.fits"), "hsc")
    assert list(map(str, catalog.object_id)) == ["1", "2", "3"]


@pytest.mark.parametrize("name", FORMATS[:-1])
@pytest.mark.parametrize("column", ["object_id", "RA", "i_cmodel_mag", "i_extendedness_value"])
def test_a_missing_column_is_named_with_the_columns_there_are(tmp_path, name, column):
    table = hsc(isprimary=None, i_pixelflags_edge=None)
    table.remove_column(column)
    path = save(table, tmp_path / name)
    with pytest.raises(InputError) as caught:
        read_catalog(path, "hsc")
    assert caught.value.file == str(path)
    assert f"no column {column.lower()} " in caught.value.problem
    assert "it has: " in caught.value.problem
    assert "g_cmodel_mag" in caught.value.problem


def test_an_hsc_catalog_is_no_hst_catalog(tmp_path):
    with pytest.raises(InputError, match="no column number or id"):
        read_catalog(save(hsc(), tmp_path / "c.fits"), "hst")


@pytest.mark.parametrize("name", FORMATS)
def test_a_catalog_cut_off_anywhere_is_one_clear_error(tmp_path, name):
    rows = 400
    table = hst()
    table = Table({n: np.resize(np.asarray(table[n], float), rows) for n in table.colnames})
    table["ra"] = 150 + np.random.default_rng(1).random(rows)  # so that gzip has no runs
    path = save(table, tmp_path / name)
    whole = path.read_bytes()
    for part in (0.0, 0.02, 0.3, 0.7):
        path.write_bytes(whole[: int(part * len(whole))])
        with pytest.raises(InputError) as caught:
            read_catalog(path, "hst")
        assert caught.value.file == str(path)
        assert caught.value.remedy


@pytest.mark.parametrize("name", FORMATS)
def test_what_is_no_table_is_one_clear_error(tmp_path, name):
    path = tmp_path / name
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(range(256)) * 20)
    with pytest.raises(InputError, match=r"cannot be read|not a readable FITS file") as caught:
        read_catalog(path, "hsc")
    assert caught.value.remedy


def test_a_fits_image_is_no_catalog(tmp_path):
    fits.PrimaryHDU(np.zeros((4, 4), np.float32)).writeto(tmp_path / "c.fits")
    with pytest.raises(InputError, match="holds no table"):
        read_catalog(tmp_path / "c.fits", "hsc")


@pytest.mark.parametrize("name", ["c.fits", "c.csv", "c.ecsv", "c.parquet"])
def test_a_table_without_rows_is_named(tmp_path, name):
    with pytest.raises(InputError, match="no rows"):
        read_catalog(save(hsc()[:0], tmp_path / name), "hsc")


def test_a_catalog_without_a_primary_row_is_named(tmp_path):
    table = hsc(isprimary=np.zeros(4, bool))
    with pytest.raises(InputError, match="no usable row"):
        read_catalog(save(table, tmp_path / "c.fits"), "hsc")


def test_words_for_numbers_are_named_with_their_row(tmp_path):
    table = hsc(i_cmodel_mag=np.array(["20", "nan", "bright", "9"]))
    with pytest.raises(InputError, match="column i_cmodel_mag, row 3: 'bright'"):
        read_catalog(save(table, tmp_path / "c.csv"), "hsc")


def test_positions_must_be_degrees(tmp_path):
    table = hsc(dec=np.array([2.1, 200.0, 1.0, 1.0]))
    with pytest.raises(InputError, match="beyond 90"):
        read_catalog(save(table, tmp_path / "c.fits"), "hsc")


def test_a_missing_file_an_odd_suffix_and_an_odd_scheme_are_named(tmp_path):
    with pytest.raises(InputError, match="no such file"):
        read_catalog(tmp_path / "none.fits", "hsc")
    with pytest.raises(InputError, match="suffix"):
        read_catalog(tmp_path / "c.xlsx", "hsc")
    with pytest.raises(InputError, match="unknown catalog scheme 'sdss'"):
        read_catalog(tmp_path / "c.fits", "sdss")


def test_without_pyarrow_the_remedy_is_to_install_it(tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "pyarrow", None)
    monkeypatch.setitem(__import__("sys").modules, "pyarrow.compute", None)
    (tmp_path / "c.parquet").write_bytes(b"")
    with pytest.raises(InputError, match="pyarrow") as caught:
        read_catalog(tmp_path / "c.parquet", "hsc")
    assert caught.value.remedy == 'pip install "astrolabel[parquet]"'


def lsst(unit=None, scale=1.0, **changes):
    """A galaxy, a star without an r flux, an object of unknown class, one that is not primary."""
    columns = {
        "objectId": np.array(IDS, np.int64),
        "coord_ra": np.array([150.1, 150.2, 150.3, 150.4]) * scale,
        "coord_dec": np.array([2.1, 2.2, 2.3, 2.4]) * scale,
        "detect_isPrimary": np.array([True, True, True, False]),
        "i_cModelFlux": np.array([3631.0, 363.1, 36.31, 1.0]),
        "r_cModelFlux": np.array([3631.0, -5.0, NAN, 1.0]),
        "refExtendedness": np.array([1.0, 0.0, NAN, 1.0]),
    }
    columns.update(changes)
    table = Table(columns)
    if unit:
        table["coord_ra"].unit = table["coord_dec"].unit = unit
    return table


@pytest.mark.parametrize("name", ["c.fits", "c.ecsv", "c.parquet"])
def test_an_lsst_object_table_gives_classes_and_magnitudes_of_its_fluxes(tmp_path, name):
    catalog = read_catalog(save(lsst(), tmp_path / name), "lsst")
    assert list(map(str, catalog.object_id)) == [str(i) for i in IDS[:3]]
    assert catalog.label.tolist() == [1, 2, 0]
    assert catalog.match == "magnitude"
    np.testing.assert_allclose(catalog.magnitudes["i"], [22.5, 25.0, 27.5], atol=1e-3)
    np.testing.assert_allclose(catalog.magnitudes["r"], [22.5, NAN, NAN], atol=1e-3)


@pytest.mark.parametrize("name", ["c.fits", "c.ecsv"])
def test_coordinates_in_radians_are_known_by_their_unit(tmp_path, name):
    table = lsst(unit="rad", scale=np.pi / 180)
    catalog = read_catalog(save(table, tmp_path / name), "lsst")
    np.testing.assert_allclose(catalog.ra, [150.1, 150.2, 150.3])
    np.testing.assert_allclose(catalog.dec, [2.1, 2.2, 2.3])


def test_a_bands_own_extendedness_comes_before_the_reference_bands(tmp_path):
    table = lsst(i_extendedness=np.array([0.0, 1.0, 1.0, 1.0]))
    catalog = read_catalog(save(table, tmp_path / "c.fits"), "lsst")
    assert catalog.label.tolist() == [2, 1, 1]


def test_the_class_can_come_from_several_bands(tmp_path):
    table = hsc(
        g_extendedness_value=np.array([1.0, 1.0, NAN, 1.0]),
        r_extendedness_value=np.array([0.0, 1.0, 0.0, 1.0]),
    )
    path = save(table, tmp_path / "c.fits")
    bands = read_catalog(path, "hsc", class_bands=("g", "r", "i"))
    assert bands.label.tolist() == [1, 1, 2]
    assert read_catalog(path, "hsc").label.tolist() == [1, 2, 0]
    with pytest.raises(InputError, match="no column z_extendedness_value"):
        read_catalog(path, "hsc", class_bands=("g", "z"))


WORDS = {"id": "Name", "ra": "alpha", "dec": "delta", "class": "type", "galaxy": "G,3",
         "star": "S", "fake": "X"}  # fmt: skip


def other():
    columns = [["a", "b", "c", "d", "e"], np.radians([10.0, 20, 30, 40, 50]), [0.1] * 5]
    names = ("name", "alpha", "delta", "type")
    table = Table([*columns, ["G", "S", "3", "X", "?"]], names=names)
    table["year"] = [2016.0, 2016.0, 2015.5, 2016.0, NAN]
    table["mag"] = [20.0, 21, 22, 23, 24]
    return table


@pytest.mark.parametrize("name", ["c.fits", "c.csv", "c.parquet"])
def test_any_catalog_is_read_by_its_columns(tmp_path, name):
    words = {**WORDS, "unit": "rad", "epoch": "YEAR", "mag_i": "MAG", "match": "magnitude"}
    catalog = read_catalog(save(other(), tmp_path / name), "columns", columns=words)
    assert catalog.object_id.tolist() == list("abcde")
    assert catalog.label.tolist() == [1, 2, 1, 3, 0]
    np.testing.assert_allclose(catalog.ra, [10, 20, 30, 40, 50])
    np.testing.assert_allclose(catalog.dec, np.degrees(0.1))
    np.testing.assert_allclose(catalog.magnitudes["i"], [20, 21, 22, 23, 24])
    assert (catalog.match, catalog.epoch) == ("magnitude", 2016.0)


def test_columns_of_numbers_are_classes_too(tmp_path):
    table = other()
    table["type"] = [1.0, 2.0, 1.0, 0.0, 2.0]
    words = {**WORDS, "galaxy": "1", "star": "2", "epoch": "2000.0"}
    del words["fake"]
    catalog = read_catalog(save(table, tmp_path / "c.fits"), "columns", columns=words)
    assert catalog.label.tolist() == [1, 2, 1, 0, 2]
    assert (catalog.match, catalog.epoch) == ("nearest", 2000.0)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"id": None}, "id is missing among the columns"),
        ({"class": None}, "class or extendedness"),
        ({"extendedness": "e"}, "class or extendedness"),
        ({"galaxy": None, "star": None}, "the values of galaxy and star"),
        ({"colour": "g"}, "unknown column word 'colour'"),
        ({"unit": "hours"}, "unit=hours; choose deg or rad"),
        ({"match": "best"}, "match=best"),
        ({"ra": ""}, "ra= is empty"),
        ({"mag_i": "nope"}, "no column"),
        ({"match": "magnitude"}, "no column mag_i"),
    ],
)
def test_columns_that_do_not_make_sense_are_named(tmp_path, change, message):
    words = {k: v for k, v in {**WORDS, **change}.items() if v is not None}
    with pytest.raises(InputError, match=message):
        read_catalog(save(other(), tmp_path / "c.fits"), "columns", columns=words)


def test_only_the_scheme_columns_takes_columns(tmp_path):
    path = save(hsc(), tmp_path / "c.fits")
    with pytest.raises(InputError, match="the columns of scheme hsc are known"):
        read_catalog(path, "hsc", columns=WORDS)
    with pytest.raises(InputError, match="needs the catalog's columns"):
        read_catalog(path, "columns")


def test_a_search_in_an_unordered_catalog_finds_the_same_rows():
    rng = np.random.default_rng(0)
    n = 2000
    one = Catalog(
        name="t", scheme="hst", object_id=np.arange(n), ra=rng.uniform(0, 360, n),
        dec=np.degrees(np.arcsin(rng.uniform(-1, 1, n))), magnitudes={},
        label=np.ones(n, np.int8),
    )  # fmt: skip
    ordered = one.take(np.argsort(one.dec))
    for ra, dec in ((10.0, 0.0), (0.0, 89.0), (359.9, -89.9), (200.0, -45.0)):
        around = np.array([ra, ra + 0.1]), np.array([dec, dec + 0.1])
        found = {int(i) for i in ordered.object_id[ordered.rows_around(*around, 4 * 3600)]}
        assert found == {int(i) for i in one.object_id[one.rows_around(*around, 4 * 3600)]}
        assert found
