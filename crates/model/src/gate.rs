//! Whether a model should be asked about an image at all.

use std::fmt;

use picture::{Dicom, Grey, Radiograph};
use serde::{Deserialize, Serialize};

/// What the gate lets through.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Gate {
    /// The shorter side that an image has at least, px.
    pub min_side_px: u32,
    /// The most colour: mean of max(R, G, B) - min(R, G, B), grey levels.
    pub max_colour: f32,
    /// The least standard deviation of the prepared image, grey levels.
    pub min_deviation: f32,
    /// The fewest grey levels that occur, of 256.
    pub min_levels: u32,
    /// The highest novelty, percentile of the validation images.
    pub max_novelty: f32,
}

/// Why a model is not asked about an image, or should not be.
#[derive(Debug, Clone, PartialEq, strum::IntoStaticStr)]
#[strum(serialize_all = "snake_case")]
pub enum Refusal {
    /// Too small.
    TooSmall {
        /// Width and height, px.
        size_px: [u32; 2],
        /// The shorter side wanted, px.
        least_px: u32,
    },
    /// A colour photograph.
    Colour {
        /// Mean of max(R, G, B) - min(R, G, B), grey levels.
        colour: f32,
    },
    /// All of one grey, or nearly.
    Blank {
        /// Standard deviation, grey levels.
        deviation: f32,
    },
    /// Hardly any grey levels.
    FewLevels {
        /// How many occur.
        levels: u32,
    },
    /// Not by X-rays, or not in projection.
    Modality {
        /// DICOM's Modality.
        got: String,
    },
    /// Of another part of the body.
    BodyPart {
        /// DICOM's Body Part Examined.
        got: String,
    },
    /// From the side.
    Lateral {
        /// DICOM's View Position, or Series Description.
        got: String,
    },
    /// Several frames.
    Frames {
        /// How many.
        got: u32,
    },
    /// A detector's raw values.
    Unprocessed,
    /// Black where it should be white.
    Inverted {
        /// Its novelty as it is, and after inversion, percentiles.
        novelty: [f32; 2],
    },
    /// Nothing like the training images.
    Novel {
        /// Its novelty, percentile.
        novelty: f32,
    },
}

impl Refusal {
    /// A word for programs: `too_small`, `inverted`.
    pub fn code(&self) -> &'static str {
        self.into()
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Refusal::TooSmall { size_px: [width, height], least_px } => {
                write!(f, "too small: {width} x {height} px, expected at least {least_px} px a side")
            }
            Refusal::Colour { colour } => {
                write!(f, "not grey: the colours of a pixel differ by {colour:.0} grey levels on average")
            }
            Refusal::Blank { deviation } => {
                write!(f, "blank: the grey values' standard deviation is {deviation:.1}")
            }
            Refusal::FewLevels { levels } => {
                write!(f, "only {levels} grey levels: 16-bit values of which a few bits are used?")
            }
            Refusal::Modality { got } => write!(f, "no radiograph: the modality is {got:?}"),
            Refusal::BodyPart { got } => write!(f, "not a chest: the body part is {got:?}"),
            Refusal::Lateral { got } => write!(f, "a lateral view ({got:?}); the model was trained on frontal ones"),
            Refusal::Frames { got } => write!(f, "{got} frames, expected one"),
            Refusal::Unprocessed => {
                f.write_str("a detector's raw values (FOR PROCESSING), not an image for presentation")
            }
            Refusal::Inverted { novelty: [_, after] } => write!(
                f,
                "inverted: looks like a MONOCHROME1 image saved as it is; after inversion its novelty is {after:.1}"
            ),
            Refusal::Novel { novelty } => {
                write!(f, "unlike the training images: farther from them than {novelty:.1} % of the validation images")
            }
        }
    }
}

/// Modalities of projection radiography, and those that say nothing (DICOM PS3.3, C.7.3.1.1.1).
const MODALITIES: [&str; 6] = ["CR", "DX", "DR", "RG", "RF", "OT"];
/// Words of Body Part Examined that a chest radiograph may have (DICOM PS3.16, annex L).
const BODY_PARTS: [&str; 6] = ["CHEST", "THORAX", "LUNG", "RIB", "HEART", "PORT"];
/// View positions from the side (DICOM PS3.3, C.8.1.2), and what descriptions abbreviate them to.
const LATERAL: [&str; 5] = ["LL", "RL", "LLD", "RLD", "LAT"];

impl Gate {
    /// What the file and its grey values say against an image, before any network sees it; `prepared` is the image as the
    /// global branch would be shown it.
    pub fn refuses(&self, radiograph: &Radiograph, prepared: &Grey) -> Option<Refusal> {
        let Radiograph { image, about } = radiograph;
        if let Some(refusal) = about.dicom.as_ref().and_then(header) {
            return Some(refusal);
        }
        let deviation = deviation(prepared);
        if image.width.min(image.height) < self.min_side_px {
            return Some(Refusal::TooSmall { size_px: [image.width, image.height], least_px: self.min_side_px });
        }
        if about.colour > self.max_colour {
            return Some(Refusal::Colour { colour: about.colour });
        }
        if deviation < self.min_deviation {
            return Some(Refusal::Blank { deviation });
        }
        let levels = image.levels();
        (levels < self.min_levels).then_some(Refusal::FewLevels { levels })
    }

    /// What its novelty says against an image; `inverted` gives the novelty after inversion, and is asked only where the
    /// image is refused. Both are percentiles.
    pub fn refuses_novel<E>(
        &self,
        novelty: f32,
        inverted: impl FnOnce() -> Result<f32, E>,
    ) -> Result<Option<Refusal>, E> {
        if novelty <= self.max_novelty {
            return Ok(None);
        }
        let after = inverted()?;
        Ok(Some(match after <= self.max_novelty {
            true => Refusal::Inverted { novelty: [novelty, after] },
            false => Refusal::Novel { novelty },
        }))
    }
}

fn header(dicom: &Dicom) -> Option<Refusal> {
    let upper = |text: &Option<String>| text.as_ref().map(|text| text.trim().to_uppercase()).filter(|t| !t.is_empty());
    if let Some(got) = upper(&dicom.modality).filter(|got| !MODALITIES.contains(&got.as_str())) {
        return Some(Refusal::Modality { got });
    }
    if let Some(got) = upper(&dicom.body_part).filter(|got| !BODY_PARTS.iter().any(|part| got.contains(part))) {
        return Some(Refusal::BodyPart { got });
    }
    if dicom.presentation_intent.as_deref() == Some("FOR PROCESSING") {
        return Some(Refusal::Unprocessed);
    }
    let from_the_side = |text: &String| {
        let mut words = text.split(|c: char| !c.is_alphanumeric());
        words.any(|word| LATERAL.contains(&word) || word.starts_with("LATERA"))
    };
    let view = upper(&dicom.view_position).or_else(|| upper(&dicom.series_description));
    if let Some(got) = view.filter(from_the_side) {
        return Some(Refusal::Lateral { got });
    }
    (dicom.frames > 1).then_some(Refusal::Frames { got: dicom.frames })
}

/// The standard deviation of the grey values.
fn deviation(image: &Grey) -> f32 {
    let count = image.pixels.len() as f64;
    let mean = image.pixels.iter().map(|&value| f64::from(value)).sum::<f64>() / count;
    let squares = image.pixels.iter().map(|&value| (f64::from(value) - mean).powi(2)).sum::<f64>();
    (squares / count).sqrt() as f32
}

#[cfg(test)]
mod tests {
    use picture::{About, Format};

    use super::*;

    fn gate() -> Gate {
        Gate { min_side_px: 32, max_colour: 8.0, min_deviation: 4.0, min_levels: 16, max_novelty: 99.5 }
    }

    /// A ramp, which nothing but the header can be said against.
    fn radiograph(dicom: Option<Dicom>) -> Radiograph {
        let pixels = (0..64 * 64).map(|i| (i % 64 * 4) as u8).collect();
        let format = if dicom.is_some() { Format::Dicom } else { Format::Png };
        Radiograph {
            image: Grey { width: 64, height: 64, pixels },
            about: About { format, colour: 0.0, bits: None, dicom },
        }
    }

    fn said(radiograph: &Radiograph) -> String {
        let refusal = gate().refuses(radiograph, &radiograph.image.square(32));
        refusal.map_or(String::new(), |refusal| format!("{}: {refusal}", refusal.code()))
    }

    #[test]
    fn headers_are_read() {
        let header = |change: fn(&mut Dicom)| {
            let mut dicom = Dicom { frames: 1, modality: Some("DX".to_owned()), ..Dicom::default() };
            change(&mut dicom);
            said(&radiograph(Some(dicom)))
        };
        assert_eq!(header(|_| ()), "");
        assert_eq!(header(|dicom| dicom.body_part = Some("Chest PA".to_owned())), "");
        assert_eq!(header(|dicom| dicom.view_position = Some("AP".to_owned())), "");
        assert_eq!(header(|dicom| dicom.series_description = Some("Latvian, 2 h later".to_owned())), "");
        assert_eq!(
            header(|dicom| dicom.modality = Some("CT".to_owned())),
            "modality: no radiograph: the modality is \"CT\""
        );
        assert_eq!(
            header(|dicom| dicom.body_part = Some("abdomen".to_owned())),
            "body_part: not a chest: the body part is \"ABDOMEN\""
        );
        assert!(header(|dicom| dicom.view_position = Some("LL".to_owned())).starts_with("lateral: a lateral view"));
        assert!(header(|dicom| dicom.series_description = Some("Chest lat.".to_owned())).starts_with("lateral"));
        assert!(header(|dicom| dicom.series_description = Some("Torace_laterale".to_owned())).starts_with("lateral"));
        assert_eq!(header(|dicom| dicom.frames = 12), "frames: 12 frames, expected one");
        assert!(header(|dicom| dicom.presentation_intent = Some("FOR PROCESSING".to_owned())).starts_with("unproc"));
    }

    #[test]
    fn grey_values_are_looked_at() {
        let with = |change: fn(&mut Radiograph)| {
            let mut radiograph = radiograph(None);
            change(&mut radiograph);
            said(&radiograph)
        };
        assert_eq!(with(|_| ()), "");
        assert_eq!(
            with(|r| r.image = r.image.square(20)),
            "too_small: too small: 20 x 20 px, expected at least 32 px a side"
        );
        assert!(with(|r| r.about.colour = 30.0).starts_with("colour: not grey"));
        assert!(with(|r| r.image.pixels.fill(7)).starts_with("blank: blank"));
        assert!(
            with(|r| r.image.pixels.iter_mut().for_each(|value| *value = *value / 40 * 40))
                .starts_with("few_levels: only 7 grey levels")
        );
    }

    #[test]
    fn what_inversion_mends_is_inverted() {
        let asked = |novelty: f32, after: f32| gate().refuses_novel(novelty, || Ok::<_, ()>(after)).unwrap();
        assert_eq!(gate().refuses_novel(99.0, || Err(())), Ok(None));
        assert_eq!(asked(100.0, 50.0), Some(Refusal::Inverted { novelty: [100.0, 50.0] }));
        assert_eq!(asked(100.0, 100.0), Some(Refusal::Novel { novelty: 100.0 }));
    }
}
