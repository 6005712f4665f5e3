"""Labels in the formats of other tools: DS9, CVAT, Croissant, Parquet, DeepDISC."""

from __future__ import annotations

from collections.abc import Mapping

FORMATS: Mapping[str, str] = {
    "ds9": "regions/*.reg: outlines on the sky, for DS9 and CARTA",
    "parquet": "NAME.parquet: one row per label, for more than JSON is good for",
    "cvat": "NAME-cvat.zip: for CVAT and Datumaro",
    "croissant": "croissant.json: what search engines and ML tools read of a dataset",
    "deepdisc": "NAME-deepdisc.json and deepdisc/*.npy: Detectron2 records and float arrays",
    "segmentation": "NAME-segmentation/COADD.fits: int32 map of ids with WCS, and an OVERLAP plane",
    "fits": "NAME-catalog.fits: source catalog with units",
    "ecsv": "NAME-catalog.ecsv: the same as text",
    "votable": "NAME-catalog.vot: the same for Virtual Observatory tools",
    "yolo": "NAME-yolo: pictures, polygons and data.yaml for YOLO's segmentation models",
    "geojson": "NAME-geojson/IMAGE.geojson: outlines in pixels, for QuPath and napari",
    "labelme": "NAME-labelme: pictures and a JSON of polygons each, for LabelMe",
    "moc": "NAME-moc.fits: the sky that the images cover, for Aladin and the Virtual Observatory",
    "hats": "NAME-hats: the catalog as HATS, for LSDB; needs the extra hats",
    "models": "NAME-models: models and float residuals of each image, and of each label",
    "coco": "NAME.json: back from Parquet; NAME-coco.json: from Detectron2 records",
}
"""What each format writes; `astrolabel.export.convert.export` writes it."""
