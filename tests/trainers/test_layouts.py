"""What the loaders take, what they refuse, and what their refusals say."""

import shutil
import subprocess
import sys
from dataclasses import asdict

import numpy as np
import pytest
from pydantic import TypeAdapter, ValidationError
from rasterio import Affine

from tests.realdata import real_data
from tests.trainers.images import decibels, folders, picture, reflectance, write
from trainers.domains import Scaling, detect_sar, has_data
from trainers.families import LAYOUTS, as_document, build, from_document
from trainers.layouts._common import DataError, Optical, Sar, Split
from trainers.layouts.csv import Options as Csv
from trainers.layouts.folders import Options as Folders
from trainers.layouts.synthetic import Options as Synthetic
from trainers.prepare import prepare
from trainers.raster import read
from trainers.tiles import Tiles

UTM = "EPSG:32632"
GRID = Affine(10, 0, 500_000, 0, -10, 5_500_000)


def refuses(data, tmp_path) -> str:
    """What `prepare` says about data that it must refuse."""
    with pytest.raises(DataError) as caught:
        prepare(data, tmp_path / "cache")
    assert not list((tmp_path / "cache").glob("[0-9a-f]*"))  # nothing is left, whole or half
    return str(caught.value)


def three(root, **kinds) -> Folders:
    return Folders(root=str(folders(root, **kinds)))


# Options


@pytest.mark.parametrize("name", LAYOUTS.names())
def test_options_survive_their_document(name):
    given = {"folders": {"root": "x"}, "csv": {"table": "x"}}.get(name, {})
    nested = {"split": Split(seed=3), "sar": Sar(low=(-20.0,), high=(0.0,), bands=(1,)), "optical": Optical(bands=(2,))}
    options = LAYOUTS.options(name)(**given, **nested)
    assert from_document(LAYOUTS, as_document(LAYOUTS, options)) == options


@pytest.mark.parametrize("name", LAYOUTS.names())
def test_options_are_validated_down_to_the_nested_ones(name):
    given = {"folders": {"root": "x"}, "csv": {"table": "x"}}.get(name, {})
    adapter = TypeAdapter(LAYOUTS.options(name))
    good = adapter.validate_python({**given, "sar": {"domain": "db"}, "split": {"seed": 1}, "tile": 96})
    assert (good.sar.domain, good.split.seed, good.split.validation, good.tile) == ("db", 1, 0.2, 96)
    for wrong, place in [
        ({"tile": 8}, ("tile",)),
        ({"sar": {"domain": "decibel"}}, ("sar", "domain")),
        ({"sar": {"domian": "db"}}, ("sar", "domian")),
        ({"optical": {"bands": [0]}}, ("optical", "bands", 0)),
        ({"split": {"validation": 0.6, "test": 0.5}}, ("split",)),
        ({"sar": {"low": [-20]}}, ("sar",)),
        ({"sar": {"low": [0], "high": [-20]}}, ("sar",)),
        ({"optical": {"range": [5, 5]}}, ("optical",)),
    ]:
        with pytest.raises(ValidationError) as caught:
            adapter.validate_python({**given, **wrong})
        assert caught.value.errors()[0]["loc"] == place


@pytest.mark.parametrize("name", LAYOUTS.names())
def test_the_head_of_a_layout_is_standard_library_only(name):
    heavy = "[name for name in ('numpy', 'torch', 'rasterio', 'scipy') if name in sys.modules]"
    code = f"import sys, trainers.layouts.{name} as part; part.Options; print({heavy})"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.strip() == "[]"


@pytest.mark.parametrize("pattern, says", [("(", "not a regular expression"), ("abc", "no group")])
def test_a_wrong_scene_pattern_is_refused(pattern, says):
    with pytest.raises(ValueError, match=says):
        Folders(root="x", scene_pattern=pattern)


def test_a_synthetic_scene_below_a_tile_is_refused():
    with pytest.raises(ValueError, match="48 px is below tile 64"):
        Synthetic(size=48)


# Pairing


def test_equal_names_pair_up_also_across_suffixes_and_subfolders(tmp_path):
    for name in ("a/one", "a/two", "b/one"):
        write(tmp_path / "sar" / f"{name}.tif", decibels())
        write(tmp_path / "optical" / f"{name}.png", picture())
    pairs = build(LAYOUTS, Folders(root=str(tmp_path), scene_pattern="^(.)/")).pairs
    assert [(pair.name, pair.scene) for pair in pairs] == [("a/one", "a"), ("a/two", "a"), ("b/one", "b")]
    assert all(pair.sar.endswith(pair.name + ".tif") and pair.optical.endswith(pair.name + ".png") for pair in pairs)


def test_images_without_a_partner_are_listed(tmp_path):
    data = three(tmp_path)
    (tmp_path / "optical" / "p1.tif").unlink()
    (tmp_path / "sar" / "p2.tif").unlink()
    assert "p1 (only in sar), p2 (only in optical)" in refuses(data, tmp_path)


def test_two_files_of_one_name_are_refused(tmp_path):
    data = three(tmp_path)
    write(tmp_path / "sar" / "p1.png", picture())
    assert "p1.png" in (said := refuses(data, tmp_path)) and "p1.tif" in said


def test_a_missing_and_an_empty_folder_are_refused(tmp_path):
    assert "sar: no such folder" in refuses(Folders(root=str(tmp_path)), tmp_path)
    (tmp_path / "sar").mkdir()
    assert "sar: holds no image; allowed are .tif" in refuses(Folders(root=str(tmp_path)), tmp_path)


def test_a_name_without_a_scene_is_refused(tmp_path):
    data = Folders(root=str(folders(tmp_path)), scene_pattern=r"^(s\d)")
    assert "'p0'" in refuses(data, tmp_path)


def table(tmp_path, text: str) -> Csv:
    path = tmp_path / "pairs.csv"
    path.write_text(text)
    return Csv(table=str(path))


ROWS = "".join(f"sar/p{i}.tif,optical/p{i}.tif,g{i}\n" for i in range(3))


def test_a_table_pairs_files_relative_to_itself_and_leaves_other_columns_aside(tmp_path, monkeypatch):
    folders(tmp_path)
    rows = "".join(f"train,sar/p{i}.tif,optical/p{i}.tif,g{i},9\n" for i in range(3))
    data = table(tmp_path, "\ufeffsplit,sar,optical,group,dy\n" + rows)
    monkeypatch.chdir("/")
    tiles = Tiles.open(prepare(data, tmp_path / "cache"))
    assert set(tiles.scenes) == {"g0", "g1", "g2"} and set(tiles.splits) == {"train", "validation", "test"}


@pytest.mark.parametrize(
    "text, says",
    [
        ("sar,optical\n", "no column group; it has sar, optical"),
        ("", "no column sar, optical, group; it has none"),
        ("sar,optical,group\n", "holds no pair"),
        ("sar,optical,group\nsar/p0.tif,,g\n", "pairs.csv:2: optical is empty"),
        ("sar,optical,group\nsar/p0.tif,optical/p0.tif\n", "pairs.csv:2: group is empty"),
        ("sar,optical,group\n" + ROWS + ROWS, "p0.tif stands in two rows"),
        ("sar,optical,group\nsar/none.tif,optical/p0.tif,g\n", "sar/none.tif"),
    ],
)
def test_a_wrong_table_is_refused(tmp_path, text, says):
    folders(tmp_path)
    assert says in refuses(table(tmp_path, text), tmp_path)


def test_a_table_that_is_not_text_is_refused(tmp_path):
    (tmp_path / "pairs.csv").write_bytes(b"sar,optical,group\n\xff\xfe,\x00,\n")
    assert "pairs.csv: not a UTF-8 CSV table" in refuses(Csv(table=str(tmp_path / "pairs.csv")), tmp_path)
    assert "nowhere.csv: No such file" in refuses(Csv(table="nowhere.csv"), tmp_path)


def test_one_scene_is_refused_with_the_ways_out(tmp_path):
    folders(tmp_path)
    said = refuses(table(tmp_path, "sar,optical,group\n" + ROWS.replace("g1", "g0").replace("g2", "g0")), tmp_path)
    assert "1 scene (g0)" in said and "column group" in said


# Files


def test_different_shapes_are_refused_with_both(tmp_path):
    data = three(tmp_path, optical=lambda seed: reflectance(seed, size=64 if seed else 80))
    said = refuses(data, tmp_path)
    assert "sar/p0.tif: 64 x 64 px" in said and "optical/p0.tif: 80 x 80 px" in said


def test_different_transforms_of_equal_shape_are_refused_with_both(tmp_path):
    """As in SSL4EO-S12: same shape, same CRS, pixels of 0.00010217 and of 0.00010141 degrees."""
    data = three(tmp_path)
    fine = Affine(0.00010141, 0, 73.2925, 0, -8.797e-05, 30.4755)
    coarse = Affine(0.00010217, 0, 73.2921, 0, -8.83e-05, 30.4758)
    write(tmp_path / "sar/p1.tif", decibels(), crs="EPSG:4326", transform=coarse)
    write(tmp_path / "optical/p1.tif", reflectance(), crs="EPSG:4326", transform=fine)
    said = refuses(data, tmp_path)
    assert "0.00010217" in said and "0.00010141" in said and "sar/p1.tif" in said and "optical/p1.tif" in said


def test_different_crs_are_refused_with_both(tmp_path):
    data = three(tmp_path)
    write(tmp_path / "sar/p1.tif", decibels(), crs=UTM, transform=GRID)
    write(tmp_path / "optical/p1.tif", reflectance(), crs="EPSG:32633", transform=GRID)
    said = refuses(data, tmp_path)
    assert "EPSG:32632" in said and "EPSG:32633" in said


def test_a_transform_off_by_rounding_is_the_same_grid(tmp_path):
    data = three(tmp_path)
    write(tmp_path / "sar/p1.tif", decibels(), crs=UTM, transform=GRID)
    write(tmp_path / "optical/p1.tif", reflectance(), crs=UTM, transform=Affine(10, 0, 500_000.001, 0, -10, 5_500_000))
    assert len(Tiles.open(prepare(data, tmp_path / "cache"))) == 3


@pytest.mark.parametrize("keep", [0, 3, 300, 0.9])
@pytest.mark.parametrize("suffix", [".tif", ".png", ".jpg"])
def test_a_truncated_file_is_refused_by_name(tmp_path, suffix, keep):
    data = three(tmp_path, sar=picture, optical=picture, suffix=suffix)
    path = tmp_path / f"sar/p2{suffix}"
    whole = path.read_bytes()
    path.write_bytes(whole[: int(keep * len(whole)) if keep < 1 else keep])
    assert str(path) in refuses(data, tmp_path)


def test_a_virtual_raster_that_calls_itself_tif_is_refused(tmp_path):
    data = three(tmp_path)
    source = tmp_path / "sar/p1.tif"
    source.write_text(
        f'<VRTDataset rasterXSize="64" rasterYSize="64"><VRTRasterBand dataType="Float32" band="1"><SimpleSource>'
        f"<SourceFilename>{tmp_path}/sar/p0.tif</SourceFilename><SourceBand>1</SourceBand></SimpleSource>"
        "</VRTRasterBand></VRTDataset>"
    )
    assert "sar/p1.tif: begins with b'<VRT'" in refuses(data, tmp_path)


@pytest.mark.parametrize("path", ["/vsizip/a.zip/b.tif", "http://host/a.tif", "s3://bucket/a.tif", "/vsicurl/x.tif"])
def test_remote_and_virtual_files_are_not_opened(path):
    with pytest.raises(DataError, match="remote and virtual"):
        read(path)


def test_a_file_that_declares_too_much_is_refused_before_it_is_read(tmp_path):
    import rasterio

    path = tmp_path / "bomb.tif"
    profile = {"driver": "GTiff", "count": 2, "dtype": "float32", "width": 60_000, "height": 60_000}
    with rasterio.open(path, "w", **profile, sparse_ok=True, tiled=True, crs=UTM, transform=GRID):
        pass
    assert path.stat().st_size < 2_000_000
    with pytest.raises(DataError, match="declares 60000 x 60000 x 2"):
        read(str(path))


def test_complex_values_are_refused(tmp_path):
    path = write(tmp_path / "slc.tif", np.ones((1, 8, 8), np.complex64), crs=UTM, transform=GRID)
    with pytest.raises(DataError, match="complex64"):
        read(str(path))


def test_a_file_of_nan_is_refused(tmp_path):
    data = three(tmp_path, sar=lambda seed: decibels(seed) * (np.nan if seed == 1 else 1))
    assert "sar/p1.tif: no valid pixel; all 4096 are NaN" in refuses(data, tmp_path)


def test_a_wrong_band_number_is_refused_with_those_there_are(tmp_path):
    root = str(folders(tmp_path))
    assert "sar/p0.tif: has no band 3; bands are 1 to 2" in refuses(Folders(root=root, sar=Sar(bands=(3,))), tmp_path)
    said = refuses(Folders(root=root, optical=Optical(bands=(4, 3, 2))), tmp_path)
    assert "optical/p0.tif: has no band 4; bands are 1 to 3" in said


def test_files_with_other_bands_or_types_than_the_rest_are_refused(tmp_path):
    one_band = three(tmp_path / "a", sar=lambda seed: decibels(seed, bands=1 if seed == 1 else 2))
    assert "sar/p1.tif: 1 bands are read" in refuses(one_band, tmp_path)
    mixed = three(tmp_path / "b", optical=lambda seed: picture(seed) if seed == 1 else reflectance(seed))
    assert "optical/p1.tif: 8-bit values (uint8)" in refuses(mixed, tmp_path)
    linear = three(tmp_path / "c", sar=lambda seed: 10 ** (decibels(seed) / 10) if seed == 1 else decibels(seed))
    assert "sar/p1.tif: values" in (said := refuses(linear, tmp_path)) and "not dB" in said


def test_a_16_bit_png_keeps_its_16_bits(tmp_path):
    values = np.random.default_rng(0).integers(0, 65536, (1, 32, 32)).astype(np.uint16)
    image = read(str(write(tmp_path / "deep.png", values)))
    assert image.values.dtype == np.uint16
    np.testing.assert_array_equal(image.values, values)


def test_alpha_is_no_band_but_hides_pixels(tmp_path):
    values = picture(bands=4)
    values[3] = 255
    values[3, :10] = 0
    image = read(str(write(tmp_path / "rgba.png", values)))
    assert image.bands == (1, 2, 3) and not image.valid[:10].any() and image.valid[10:].all()


def test_reading_writes_nothing_beside_the_data(tmp_path):
    data = three(tmp_path / "data", sar=picture, optical=picture, suffix=".png")
    before = sorted(tmp_path.joinpath("data").rglob("*"))
    prepare(data, tmp_path / "cache")
    assert sorted(tmp_path.joinpath("data").rglob("*")) == before


# Domains


def test_the_domain_is_recognised_or_asked_for():
    intensity = np.random.default_rng(0).gamma(4, 0.02, 5000)
    for values, dtype, expected in [
        (decibels().ravel(), np.float32, "db"),
        (decibels().ravel().astype(np.float16), np.float16, "db"),
        (picture().ravel(), np.uint8, "display"),
    ]:
        assert detect_sar(values, np.dtype(dtype), example="x") == expected
    for values, dtype, says in [
        (intensity, np.float32, "within +-5"),
        (np.tanh(decibels().ravel()), np.float32, "within +-5"),
        (1e4 * intensity, np.float32, "intensity or amplitude"),
        (np.rint(1e4 * intensity).astype(np.uint16), np.uint16, "intensity or amplitude"),
        (np.full(100, -12.0), np.float32, "neither dB"),
        (np.array([]), np.float32, "nothing but zeros"),
    ]:
        with pytest.raises(DataError) as caught:
            detect_sar(values, np.dtype(dtype), example="a.tif")
        assert "a.tif" in str(caught.value) and says in str(caught.value) and "data.sar.domain" in str(caught.value)


def test_linear_sar_gives_the_tiles_of_the_same_sar_in_db(tmp_path):
    db = Folders(root=str(folders(tmp_path / "db")))
    tiles = Tiles.open(prepare(db, tmp_path / "cache"))
    for domain, factor in (("linear", 10), ("amplitude", 20)):
        root = folders(tmp_path / domain, sar=lambda seed: 10 ** (decibels(seed).astype(np.float64) / factor))  # noqa: B023
        other = Tiles.open(prepare(Folders(root=str(root), sar=Sar(domain=domain)), tmp_path / "cache"))
        np.testing.assert_allclose(np.asarray(other.sar, float), np.asarray(tiles.sar, float), atol=2e-3)
        np.testing.assert_array_equal(other.mask, tiles.mask)


def test_zero_is_nodata_in_linear_sar_and_not_very_dark(tmp_path):
    def holed(seed):
        values = 10 ** (decibels(seed) / 10)
        values[:, 20:30, 20:30] = 0
        return values

    tiles = Tiles.open(prepare(three_linear(tmp_path, holed), tmp_path / "cache"))
    assert not tiles.mask[:, 0, 20:30, 20:30].any() and tiles.mask.sum() == len(tiles) * (64 * 64 - 100)


def three_linear(root, sar) -> Folders:
    return Folders(root=str(folders(root, sar=sar)), sar=Sar(domain="linear"))


@pytest.mark.parametrize("domain", ["db", "display"])
def test_zero_in_db_and_8_bit_is_nodata_only_at_the_border(domain):
    values = np.full((2, 20, 20), 7.0)
    values[:, 8:12, 8:12] = 0  # dark, but inside
    values[:, :, :3] = 0  # the end of the swath
    values[0, 15:, 10:] = 0  # one band only
    data = has_data(values, domain)
    assert not data[:, :3].any() and data[:, 3:].all()


def test_zero_is_nodata_anywhere_in_reflectance():
    values = np.full((3, 20, 20), 500)
    values[1, 8, 9] = 0
    assert (~has_data(values, "reflectance")).sum() == 1


def test_scaling_maps_the_range_to_minus_one_and_one_and_counts_what_it_clips():
    scaling = Scaling("db", "float", (-25.0, -32.5), (0.0, 0.0))
    values = np.array([[[-25.0, -12.5, 0.0, 25.7]], [[-32.5, -16.25, -40.0, np.nan]]])
    scaled, clipped = scaling.apply(values)
    np.testing.assert_allclose(scaled, [[[-1, 0, 1, 1]], [[-1, 0, -1, -1]]])
    assert clipped.tolist() == [[[False, False, False, True]], [[False, False, True, False]]]


@pytest.mark.parametrize(
    "sar, says",
    [
        (Sar(low=(-20.0,), high=(0.0,)), "2 SAR bands are read, but data.sar.low has 1"),
        (Sar(domain="display"), "display values of type float32 have no known range"),
    ],
)
def test_a_range_that_does_not_fit_is_refused(tmp_path, sar, says):
    assert says in refuses(Folders(root=str(folders(tmp_path)), sar=sar), tmp_path)


def test_three_bands_in_db_need_ranges_and_floats_in_optical_too(tmp_path):
    assert "3 SAR bands in dB" in refuses(three(tmp_path / "a", sar=lambda seed: decibels(seed, bands=3)), tmp_path)
    floats = three(tmp_path / "b", optical=lambda seed: reflectance(seed) / np.float32(1e4))
    assert "give data.optical.range" in refuses(floats, tmp_path)


# Real files


def expected(path, bands, low, high) -> np.ndarray:
    """The documented scaling, on rasterio's own reading."""
    import rasterio

    with rasterio.open(path) as file:
        values = file.read(bands).astype(np.float64)
    low, high = (np.broadcast_to(limit, len(bands))[:, None, None] for limit in (low, high))
    return np.clip(2 * (values - low) / (high - low) - 1, -1, 1)


def assert_reads_like(tiles, sources, size, **limits):
    """Every valid pixel of about 40 tiles equals the documented scaling of the file it is from."""
    for index in range(0, len(tiles), max(1, len(tiles) // 40)):
        name = tiles.names[index]
        pair, row, col = name.rsplit(":", 2)
        window = np.s_[:, int(row) : int(row) + size, int(col) : int(col) + size]
        mask = tiles.mask[index, 0] > 0
        for key, array in (("sar", tiles.sar), ("optical", tiles.optical)):
            truth = expected(sources[pair][key], *limits[key])[window]
            np.testing.assert_allclose(np.asarray(array[index], float)[:, mask], truth[:, mask], atol=5e-4)


@pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")
def test_ombria_is_read_through_its_table_with_groups_kept_whole(tmp_path):
    root = real_data("ombria")
    data = Csv(table=str(root / "pairs.csv"), tile=256)
    tiles = Tiles.open(prepare(data, tmp_path))
    pairs = {pair.name: asdict(pair) for pair in build(LAYOUTS, data).pairs}
    assert len(pairs) == 220 and 210 <= len(tiles) <= 220
    assert [pairs[name.rsplit(":", 2)[0]]["scene"] for name in tiles.names] == list(tiles.scenes)
    groups = [{tiles.scenes[i] for i in tiles.split(split)} for split in ("train", "validation", "test")]
    assert not (groups[0] & groups[1] or groups[0] & groups[2] or groups[1] & groups[2])
    assert len(tiles.split("train")) > 110
    limits = {"sar": ([1], 0, 255), "optical": ([1, 2, 3], 0, 255)}
    assert_reads_like(tiles, pairs, 256, **limits)


@pytest.mark.parametrize("optical, bands, high", [("S2RGB", [1, 2, 3], 255), ("S2L2A", [4, 3, 2], 10_000)])
def test_terramind_is_read_from_its_folders(tmp_path, optical, bands, high):
    root = real_data("terramind_terramesh")
    data = Folders(root=str(root), sar_folder="S1RTC", optical_folder=optical)
    tiles = Tiles.open(prepare(data, tmp_path))
    pairs = {pair.name: asdict(pair) for pair in build(LAYOUTS, data).pairs}
    assert (len(pairs), len(tiles)) == (5, 45) and np.asarray(tiles.mask).mean() > 0.99
    assert_reads_like(tiles, pairs, 64, sar=([1, 2], [-25, -32.5], [0, 0]), optical=(bands, 0, high))


def test_sen1floods11_with_its_outliers_is_in_db(tmp_path):
    root = real_data("sen1floods11") / "sample"
    for index in range(2):  # one chip stands for two scenes
        for side, folder in (("sar", "S1"), ("optical", "S2")):
            target = tmp_path / side / f"p{index}.tif"
            target.parent.mkdir(exist_ok=True)
            shutil.copy(next((root / folder).glob("*.tif")), target)
    folder = prepare(Folders(root=str(tmp_path), tile=256), tmp_path / "cache")
    tiles = Tiles.open(folder)
    assert len(tiles) == 8 and tiles.sar_bands == 2 and float(np.asarray(tiles.sar).max()) == 1


def test_ssl4eo_is_refused_with_both_transforms(tmp_path):
    root = real_data("ssl4eo_rico")
    for index in range(2):
        for side, pattern in (("sar", "s1/**/VV.tif"), ("optical", "s2a/**/B4.tif")):
            target = tmp_path / side / f"p{index}.tif"
            target.parent.mkdir(exist_ok=True)
            shutil.copy(sorted(root.glob(pattern))[0], target)
    said = refuses(Folders(root=str(tmp_path)), tmp_path)
    assert "0.0001021680851165116" in said and "0.0001014112844859978" in said
