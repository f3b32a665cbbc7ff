//! Kinds of values that serde would write in another way than Mesos.

use super::EnumNames;
use base64::display::Base64Display;
use base64::engine::general_purpose::STANDARD;
use serde::{Serialize, Serializer};
use std::marker::PhantomData;

/// A double; JSON has no numbers for the infinities and for "not a number".
pub struct Double(pub f64);

impl Serialize for Double {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        match self.0 {
            finite if finite.is_finite() => to.serialize_f64(finite),
            f64::INFINITY => to.serialize_str("Infinity"),
            f64::NEG_INFINITY => to.serialize_str("-Infinity"),
            _ => to.serialize_str("NaN"),
        }
    }
}

/// Bytes, as base64.
pub struct Bytes<'a>(pub &'a [u8]);

impl Serialize for Bytes<'_> {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(&Base64Display::new(self.0, &STANDARD))
    }
}

/// An enum: its name, or the number if it has none.
pub enum Enumeration {
    /// A value that our description knows.
    Name(&'static str),
    /// A value of a newer peer.
    Number(i32),
}

/// Many values of enum `E`.
pub struct Enumerations<'a, E> {
    numbers: &'a [i32],
    names: PhantomData<E>,
}

impl<'a, E> Enumerations<'a, E> {
    /// The values of these numbers.
    #[must_use]
    pub fn new(numbers: &'a [i32]) -> Self {
        Self { numbers, names: PhantomData }
    }
}

impl<E: EnumNames> Serialize for Enumerations<'_, E> {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_seq(self.numbers.iter().map(|number| enumeration::<E>(*number)))
    }
}

/// The number `number` of enum `E`, ready to be written.
#[must_use]
pub fn enumeration<E: EnumNames>(number: i32) -> Enumeration {
    E::name(number).map_or(Enumeration::Number(number), Enumeration::Name)
}

impl Serialize for Enumeration {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Name(name) => to.serialize_str(name),
            Self::Number(number) => to.serialize_i32(*number),
        }
    }
}
