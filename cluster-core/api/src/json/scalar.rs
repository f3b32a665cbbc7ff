//! Readers of single values. Numbers and booleans may come as strings.

use super::read::Of;
use super::{Path, Read};
use base64::Engine;
use base64::alphabet::STANDARD;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use serde::Deserializer;
use serde::de::{Error, Unexpected, Visitor};
use std::fmt;

/// Some clients leave the padding out.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

macro_rules! integer {
    ($($type:ty),*) => {$(
        impl Read for $type {
            fn read<'de, D: Deserializer<'de>>(from: D, at: &Path<'_>) -> Result<Self, D::Error> {
                from.deserialize_any(Of::<Self>::new(at))
            }
        }

        impl Visitor<'_> for Of<'_, $type> {
            type Value = $type;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "a whole number from {} to {} for {}", <$type>::MIN, <$type>::MAX, self.at)
            }

            fn visit_i64<E: Error>(self, value: i64) -> Result<$type, E> {
                value.try_into().map_err(|_| E::invalid_value(Unexpected::Signed(value), &self))
            }

            fn visit_u64<E: Error>(self, value: u64) -> Result<$type, E> {
                value.try_into().map_err(|_| E::invalid_value(Unexpected::Unsigned(value), &self))
            }

            fn visit_f64<E: Error>(self, value: f64) -> Result<$type, E> {
                whole(value)
                    .and_then(|whole| whole.try_into().ok())
                    .ok_or_else(|| E::invalid_value(Unexpected::Float(value), &self))
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<$type, E> {
                text.parse().map_err(|_| E::invalid_value(Unexpected::Str(text), &self))
            }
        }
    )*};
}

integer!(i32, i64, u32, u64);

/// Some languages write `5.0` for 5.
#[allow(clippy::cast_possible_truncation, reason = "compared with what it was")]
fn whole(value: f64) -> Option<i128> {
    let whole = value as i128;
    #[allow(clippy::cast_precision_loss, reason = "a loss makes the two differ")]
    let same = (whole as f64).to_bits() == value.to_bits();
    same.then_some(whole)
}

impl Read for f64 {
    fn read<'de, D: Deserializer<'de>>(from: D, at: &Path<'_>) -> Result<Self, D::Error> {
        from.deserialize_any(Of::<Self>::new(at))
    }
}

#[allow(clippy::cast_precision_loss, reason = "a double holds what it can")]
impl Visitor<'_> for Of<'_, f64> {
    type Value = f64;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a number for {}", self.at)
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<f64, E> {
        Ok(value as f64)
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<f64, E> {
        Ok(value as f64)
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<f64, E> {
        Ok(value)
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<f64, E> {
        match text {
            "Infinity" => Ok(f64::INFINITY),
            "-Infinity" => Ok(f64::NEG_INFINITY),
            "NaN" => Ok(f64::NAN),
            _ => text
                .parse()
                .ok()
                .filter(|value: &f64| value.is_finite())
                .ok_or_else(|| E::invalid_value(Unexpected::Str(text), &self)),
        }
    }
}

impl Read for String {
    fn read<'de, D: Deserializer<'de>>(from: D, at: &Path<'_>) -> Result<Self, D::Error> {
        from.deserialize_string(Of::<Self>::new(at))
    }
}

impl Visitor<'_> for Of<'_, String> {
    type Value = String;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a string for {}", self.at)
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<String, E> {
        Ok(text.to_owned())
    }

    fn visit_string<E: Error>(self, text: String) -> Result<String, E> {
        Ok(text)
    }
}

impl Read for Vec<u8> {
    fn read<'de, D: Deserializer<'de>>(from: D, at: &Path<'_>) -> Result<Self, D::Error> {
        from.deserialize_str(Of::<Self>::new(at))
    }
}

impl Visitor<'_> for Of<'_, Vec<u8>> {
    type Value = Vec<u8>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "base64 for {}", self.at)
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Vec<u8>, E> {
        BASE64.decode(text).map_err(|reason| {
            E::custom(format_args!("cannot decode the base64 of {}: {reason}", self.at))
        })
    }
}

impl Read for bool {
    fn read<'de, D: Deserializer<'de>>(from: D, at: &Path<'_>) -> Result<Self, D::Error> {
        from.deserialize_any(Of::<Self>::new(at))
    }
}

impl Visitor<'_> for Of<'_, bool> {
    type Value = bool;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "true or false for {}", self.at)
    }

    fn visit_bool<E: Error>(self, value: bool) -> Result<bool, E> {
        Ok(value)
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<bool, E> {
        text.parse().map_err(|_| E::invalid_value(Unexpected::Str(text), &self))
    }
}
