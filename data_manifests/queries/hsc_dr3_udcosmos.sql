-- The catalog of hsc_dr3_udcosmos_test: six patches of tract 9813 and a margin.
--
-- Run by `astrolabel manifest fetch` in the catalog database of the HSC public data release 3,
-- or by hand at https://hsc-release.mtk.nao.ac.jp/datasearch/ (result format FITS).
--
-- Forced photometry of the Deep/UltraDeep layer: position, i-band class (extendedness: 0 point
-- source, 1 extended) and the cmodel magnitudes that the match compares (paper, 3.2).
SELECT
    object_id
  , ra
  , dec
  , isprimary
  , g_cmodel_mag
  , r_cmodel_mag
  , i_cmodel_mag
  , z_cmodel_mag
  , y_cmodel_mag
  , g_extendedness_value
  , r_extendedness_value
  , i_extendedness_value
  , z_extendedness_value
  , y_extendedness_value
FROM
    pdr3_dud_rev.forced
WHERE
    -- Overlapping patches and tracts measure an object several times, and a parent beside its
    -- deblended children: one primary row each.
    isprimary
    -- right ascension from, to; declination from, to; degrees
    AND boxSearch(coord, 149.93, 150.57, 2.10, 2.55)
    -- Clean in all five bands, though the labels use three. What each flag drops:
    --   edge                the middle is off the usable image: the rim of the field.
    --   bad                 a known bad pixel in the footprint.
    --   crcenter            a cosmic ray in the middle 3x3 pixels.
    --   saturatedcenter     saturated in the middle 3x3 pixels: EVERY BRIGHT STAR.
    --   interpolatedcenter  interpolated in the middle 3x3 pixels: again bright stars, whose
    --                       saturated pixels are interpolated over, and what lies on defects.
    --   cmodel_flag         no cmodel fit: no magnitude to compare, mostly bright or at the rim.
    -- saturatedcenter and interpolatedcenter are why bright stars have no labels in the paper's
    -- set (its section 4.1 and Fig. 6): one band in five is enough to lose a star. To keep
    -- them, delete these two groups and the cmodel_flag one: their magnitudes are then poor,
    -- and the 1 mag rule of the match still drops some.
    AND NOT g_pixelflags_edge
    AND NOT r_pixelflags_edge
    AND NOT i_pixelflags_edge
    AND NOT z_pixelflags_edge
    AND NOT y_pixelflags_edge

    AND NOT g_pixelflags_bad
    AND NOT r_pixelflags_bad
    AND NOT i_pixelflags_bad
    AND NOT z_pixelflags_bad
    AND NOT y_pixelflags_bad

    AND NOT g_pixelflags_crcenter
    AND NOT r_pixelflags_crcenter
    AND NOT i_pixelflags_crcenter
    AND NOT z_pixelflags_crcenter
    AND NOT y_pixelflags_crcenter

    AND NOT g_pixelflags_saturatedcenter
    AND NOT r_pixelflags_saturatedcenter
    AND NOT i_pixelflags_saturatedcenter
    AND NOT z_pixelflags_saturatedcenter
    AND NOT y_pixelflags_saturatedcenter

    AND NOT g_pixelflags_interpolatedcenter
    AND NOT r_pixelflags_interpolatedcenter
    AND NOT i_pixelflags_interpolatedcenter
    AND NOT z_pixelflags_interpolatedcenter
    AND NOT y_pixelflags_interpolatedcenter

    AND NOT g_cmodel_flag
    AND NOT r_cmodel_flag
    AND NOT i_cmodel_flag
    AND NOT z_cmodel_flag
    AND NOT y_cmodel_flag
-- In a fixed order: the same rows are the same file.
ORDER BY
    object_id
