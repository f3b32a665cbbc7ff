//! Readers of the kinds of fields, called by the generated code.

use super::{EnumNames, Message, Path, Read};
use serde::Deserializer;
use serde::de::{DeserializeSeed, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};
use std::collections::BTreeMap;
use std::fmt;
use std::marker::PhantomData;

/// Reads a message that stands `at` a path.
///
/// # Errors
///
/// The deserializer's, or one that names the field.
pub fn message<'de, M: Message, D: Deserializer<'de>>(
    from: D,
    at: &Path<'_>,
) -> Result<M, D::Error> {
    from.deserialize_map(MessageVisitor { at, message: PhantomData })
}

/// Fills a required field; returns whether it was there.
///
/// # Errors
///
/// As [`message`], like all functions here.
pub fn required<'de, T: Read, A: MapAccess<'de>>(
    slot: &mut T,
    map: &mut A,
    at: &Path<'_>,
) -> Result<bool, A::Error> {
    let value: Option<T> = next(map, at)?;
    let there = value.is_some();
    if let Some(value) = value {
        *slot = value;
    }
    Ok(there)
}

/// Fills an optional field.
///
/// # Errors
///
/// As [`message`].
pub fn optional<'de, T: Read, A: MapAccess<'de>>(
    slot: &mut Option<T>,
    map: &mut A,
    at: &Path<'_>,
) -> Result<bool, A::Error> {
    *slot = next(map, at)?;
    Ok(slot.is_some())
}

/// Fills a repeated field.
///
/// # Errors
///
/// As [`message`].
pub fn list<'de, T: Read, A: MapAccess<'de>>(
    slot: &mut Vec<T>,
    map: &mut A,
    at: &Path<'_>,
) -> Result<bool, A::Error> {
    let list: Option<List<T>> = next(map, at)?;
    *slot = list.map(|list| list.0).unwrap_or_default();
    Ok(true)
}

/// Fills a map.
///
/// # Errors
///
/// As [`message`].
pub fn map<'de, T: Read, A: MapAccess<'de>>(
    slot: &mut BTreeMap<String, T>,
    map: &mut A,
    at: &Path<'_>,
) -> Result<bool, A::Error> {
    let entries: Option<BTreeMap<String, T>> = next(map, at)?;
    *slot = entries.unwrap_or_default();
    Ok(true)
}

/// Fills a required enum; a name without a number is an error.
///
/// # Errors
///
/// As [`message`].
pub fn required_enum<'de, E: EnumNames, A: MapAccess<'de>>(
    slot: &mut i32,
    map: &mut A,
    at: &Path<'_>,
) -> Result<bool, A::Error> {
    match next::<Option<Name<E>>, A>(map, at)? {
        None => Ok(false),
        Some(Name::Known(number, _)) => {
            *slot = number;
            Ok(true)
        }
        Some(Name::Unknown(name)) => {
            Err(A::Error::custom(format_args!("unknown value {name:?} for {at}")))
        }
    }
}

/// Fills an optional enum; a name without a number leaves it unset.
///
/// # Errors
///
/// As [`message`].
pub fn optional_enum<'de, E: EnumNames, A: MapAccess<'de>>(
    slot: &mut Option<i32>,
    map: &mut A,
    at: &Path<'_>,
) -> Result<bool, A::Error> {
    *slot = match next::<Option<Name<E>>, A>(map, at)? {
        Some(Name::Known(number, _)) => Some(number),
        None | Some(Name::Unknown(_)) => None,
    };
    Ok(slot.is_some())
}

/// Fills a list of enums; names without a number are left out.
///
/// # Errors
///
/// As [`message`].
pub fn list_enum<'de, E: EnumNames, A: MapAccess<'de>>(
    slot: &mut Vec<i32>,
    map: &mut A,
    at: &Path<'_>,
) -> Result<bool, A::Error> {
    let names: Option<List<Name<E>>> = next(map, at)?;
    let numbers = names.into_iter().flat_map(|list| list.0).filter_map(|name| match name {
        Name::Known(number, _) => Some(number),
        Name::Unknown(_) => None,
    });
    *slot = numbers.collect();
    Ok(true)
}

/// Passes over the value of a field that nobody knows.
///
/// # Errors
///
/// The deserializer's.
pub fn ignored<'de, A: MapAccess<'de>>(map: &mut A) -> Result<bool, A::Error> {
    map.next_value::<IgnoredAny>().map(|_| false)
}

fn next<'de, T: Read, A: MapAccess<'de>>(map: &mut A, at: &Path<'_>) -> Result<T, A::Error> {
    map.next_value_seed(Seed { at, value: PhantomData })
}

struct Seed<'a, T> {
    at: &'a Path<'a>,
    value: PhantomData<T>,
}

impl<'de, T: Read> DeserializeSeed<'de> for Seed<'_, T> {
    type Value = T;

    fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<T, D::Error> {
        T::read(from, self.at)
    }
}

struct MessageVisitor<'a, M> {
    at: &'a Path<'a>,
    message: PhantomData<M>,
}

impl<'de, M: Message> Visitor<'de> for MessageVisitor<'_, M> {
    type Value = M;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "an object for {}", self.at)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<M, A::Error> {
        let mut message = M::default();
        let mut seen = 0_u64;
        while let Some(index) = map.next_key_seed(FieldIndex::<M>(PhantomData))? {
            let Some((index, name)) = index.and_then(|i| Some((i, *M::FIELDS.get(i)?))) else {
                ignored(&mut map)?;
                continue;
            };
            if message.read_field(index, &mut map, &self.at.field(name))? {
                seen |= 1 << index;
            }
        }
        let missing = M::REQUIRED & !seen;
        if missing != 0 {
            let name = M::FIELDS.get(missing.trailing_zeros() as usize).copied().unwrap_or("?");
            let path = self.at.field(name);
            return Err(A::Error::custom(format_args!("missing required field {path}")));
        }
        Ok(message)
    }
}

/// Turns a key into the position of its field, without keeping the text.
struct FieldIndex<M>(PhantomData<M>);

impl<'de, M: Message> DeserializeSeed<'de> for FieldIndex<M> {
    type Value = Option<usize>;

    fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<Self::Value, D::Error> {
        from.deserialize_identifier(self)
    }
}

impl<M: Message> Visitor<'_> for FieldIndex<M> {
    type Value = Option<usize>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the name of a field")
    }

    fn visit_str<E: Error>(self, name: &str) -> Result<Self::Value, E> {
        Ok(M::index(name))
    }
}

/// `null` is absent.
impl<T: Read> Read for Option<T> {
    fn read<'de, D: Deserializer<'de>>(from: D, at: &Path<'_>) -> Result<Self, D::Error> {
        from.deserialize_option(Nullable { at, value: PhantomData })
    }
}

struct Nullable<'a, T> {
    at: &'a Path<'a>,
    value: PhantomData<T>,
}

impl<'de, T: Read> Visitor<'de> for Nullable<'_, T> {
    type Value = Option<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a value or null for {}", self.at)
    }

    fn visit_none<E: Error>(self) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_unit<E: Error>(self) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_some<D: Deserializer<'de>>(self, from: D) -> Result<Self::Value, D::Error> {
        T::read(from, self.at).map(Some)
    }
}

impl<T: Read> Read for Box<T> {
    fn read<'de, D: Deserializer<'de>>(from: D, at: &Path<'_>) -> Result<Self, D::Error> {
        T::read(from, at).map(Self::new)
    }
}

/// A repeated field. No impl for `Vec<T>`, because `Vec<u8>` means bytes.
struct List<T>(Vec<T>);

impl<T: Read> Read for List<T> {
    fn read<'de, D: Deserializer<'de>>(from: D, at: &Path<'_>) -> Result<Self, D::Error> {
        from.deserialize_seq(Of::<Self>::new(at))
    }
}

/// A visitor that yields a `T` and knows where it stands.
pub(super) struct Of<'a, T> {
    pub(super) at: &'a Path<'a>,
    value: PhantomData<T>,
}

impl<'a, T> Of<'a, T> {
    pub(super) fn new(at: &'a Path<'a>) -> Self {
        Self { at, value: PhantomData }
    }
}

impl<'de, T: Read> Visitor<'de> for Of<'_, List<T>> {
    type Value = List<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a list for {}", self.at)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Self::Value, A::Error> {
        let mut values = Vec::new();
        let mut index = 0;
        loop {
            let at = self.at.index(index);
            let seed = Seed::<Option<T>> { at: &at, value: PhantomData };
            match list.next_element_seed(seed)? {
                None => return Ok(List(values)),
                Some(value) => values.extend(value),
            }
            index += 1;
        }
    }
}

impl<T: Read> Read for BTreeMap<String, T> {
    fn read<'de, D: Deserializer<'de>>(from: D, at: &Path<'_>) -> Result<Self, D::Error> {
        from.deserialize_map(Of::<Self>::new(at))
    }
}

impl<'de, T: Read> Visitor<'de> for Of<'_, BTreeMap<String, T>> {
    type Value = BTreeMap<String, T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "an object for {}", self.at)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut values = BTreeMap::new();
        while let Some(key) = map.next_key::<String>()? {
            if let Some(value) = next::<Option<T>, A>(&mut map, &self.at.key(&key))? {
                values.insert(key, value);
            }
        }
        Ok(values)
    }
}

/// The name of an enum's value; the text is kept only if nobody knows it.
enum Name<E> {
    Known(i32, PhantomData<E>),
    Unknown(String),
}

impl<E: EnumNames> Read for Name<E> {
    fn read<'de, D: Deserializer<'de>>(from: D, at: &Path<'_>) -> Result<Self, D::Error> {
        from.deserialize_str(Of::<Self>::new(at))
    }
}

impl<N: EnumNames> Visitor<'_> for Of<'_, Name<N>> {
    type Value = Name<N>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the name of a value for {}", self.at)
    }

    fn visit_str<E: Error>(self, name: &str) -> Result<Self::Value, E> {
        Ok(match N::number(name) {
            Some(number) => Name::Known(number, PhantomData),
            None => Name::Unknown(name.to_owned()),
        })
    }
}
