//! Reads a message from the body of a request, in either encoding.
//!
//! JSON checks required fields while it reads. prost does not: it fills what is
//! missing with defaults. So the protobuf side looks at the tags once more,
//! guided by tables that the generator wrote.

use prost::encoding::{DecodeContext, WireType, decode_key, decode_varint, skip_field};
use serde::de::DeserializeOwned;

/// Why a body is no message. The texts name the field.
#[derive(Debug, thiserror::Error)]
pub enum DecodeError {
    /// Not JSON at all.
    #[error("cannot parse the JSON: {0}")]
    Syntax(serde_json::Error),
    /// JSON, but not of this message.
    #[error("cannot convert the JSON: {0}")]
    Convert(serde_json::Error),
    /// Not protobuf of this message.
    #[error("cannot parse the protobuf: {0}")]
    Protobuf(prost::DecodeError),
    /// Protobuf without a required field.
    #[error("missing required field {path}")]
    Missing {
        /// The field, from the outermost message: `subscribe.framework_info.user`.
        path: String,
    },
}

/// Reads a message from JSON.
///
/// # Errors
///
/// [`DecodeError::Syntax`] or [`DecodeError::Convert`].
pub fn from_json<M: DeserializeOwned>(body: &[u8]) -> Result<M, DecodeError> {
    use serde_json::error::Category;
    serde_json::from_slice(body).map_err(|error| match error.classify() {
        Category::Data => DecodeError::Convert(error),
        Category::Io | Category::Syntax | Category::Eof => DecodeError::Syntax(error),
    })
}

/// Reads a message from protobuf.
///
/// # Errors
///
/// [`DecodeError::Protobuf`] or [`DecodeError::Missing`].
pub fn from_protobuf<M: prost::Message + Default + Shaped>(body: &[u8]) -> Result<M, DecodeError> {
    let message = M::decode(body).map_err(DecodeError::Protobuf)?;
    match missing(body, M::shape()).map_err(DecodeError::Protobuf)? {
        None => Ok(message),
        Some(path) => Err(DecodeError::Missing { path }),
    }
}

/// What must be in the encoding of a message.
#[derive(Debug)]
pub struct Shape {
    /// Tags and names of the required fields.
    pub required: &'static [(u32, &'static str)],
    /// Fields that hold messages.
    pub nested: &'static [Nested],
}

/// A field that holds messages.
#[derive(Debug)]
pub struct Nested {
    /// Its number.
    pub tag: u32,
    /// Its name.
    pub name: &'static str,
    /// Messages, or a map's entries with messages in them.
    pub holds: Holds,
    /// Their shape.
    pub shape: fn() -> &'static Shape,
}

/// What lies between a field's tag and the message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Holds {
    /// Nothing.
    Messages,
    /// The entry of a map, with the message as its value.
    Entries,
}

/// A message whose shape is known.
pub trait Shaped {
    /// The shape.
    fn shape() -> &'static Shape;
}

/// Tag of the value in the entry of a map.
const ENTRY_VALUE: u32 = 2;

/// The path of the first required field that `body` lacks. `body` was decoded
/// before, so its nesting is within prost's limit.
fn missing(mut body: &[u8], shape: &Shape) -> Result<Option<String>, prost::DecodeError> {
    let mut seen = 0_u64;
    while !body.is_empty() {
        let (tag, wire_type) = decode_key(&mut body)?;
        if let Some(index) = shape.required.iter().position(|(required, _)| *required == tag) {
            seen |= 1 << index;
        }
        let nested = shape.nested.iter().find(|nested| nested.tag == tag);
        let (Some(nested), WireType::LengthDelimited) = (nested, wire_type) else {
            skip_field(wire_type, tag, &mut body, DecodeContext::default())?;
            continue;
        };
        let inner = take_delimited(&mut body)?;
        let found = match nested.holds {
            Holds::Messages => missing(inner, (nested.shape)())?,
            Holds::Entries => missing_in_entry(inner, (nested.shape)())?,
        };
        if let Some(path) = found {
            return Ok(Some(format!("{}.{path}", nested.name)));
        }
    }
    let absent = shape.required.iter().enumerate().find(|(index, _)| seen & (1 << index) == 0);
    Ok(absent.map(|(_, (_, name))| (*name).to_owned()))
}

fn missing_in_entry(mut entry: &[u8], shape: &Shape) -> Result<Option<String>, prost::DecodeError> {
    let mut value: &[u8] = &[];
    while !entry.is_empty() {
        let (tag, wire_type) = decode_key(&mut entry)?;
        if tag == ENTRY_VALUE && wire_type == WireType::LengthDelimited {
            value = take_delimited(&mut entry)?;
        } else {
            skip_field(wire_type, tag, &mut entry, DecodeContext::default())?;
        }
    }
    missing(value, shape)
}

fn take_delimited<'a>(body: &mut &'a [u8]) -> Result<&'a [u8], prost::DecodeError> {
    let length = decode_varint(body)?;
    let length = usize::try_from(length).unwrap_or(usize::MAX);
    // prost has read this body before, so the length is within it; if it is
    // not, nothing is left and the loops above end.
    let (inner, rest) = body.split_at_checked(length).unwrap_or((*body, &[]));
    *body = rest;
    Ok(inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::v1::scheduler::{Call, call};
    use crate::v1::{FrameworkId, FrameworkInfo, OfferFilters, TaskId};
    use prost::Message;

    /// A call to subscribe, as bytes that prost would not have written.
    fn subscribe(framework_info: &[u8]) -> Vec<u8> {
        let field = |tag: u8, inner: &[u8]| {
            [&[tag << 3 | 2, u8::try_from(inner.len()).unwrap()], inner].concat()
        };
        field(3, &field(1, framework_info))
    }

    #[test]
    fn protobuf_without_a_required_field_is_refused() {
        let user = b"\x0a\x01u";
        let name = b"\x12\x01n";
        let filters_without_value = b"\x6a\x09\x0a\x01r\x12\x04\x0a\x02\x0a\x00";
        let quantity_without_value =
            b"\x6a\x10\x0a\x01r\x12\x0b\x0a\x09\x0a\x07\x0a\x05\x0a\x01q\x12\x00";
        #[rustfmt::skip]
        let table: &[(&str, Vec<u8>, Option<&str>)] = &[
            ("complete", [&user[..], name].concat(), None),
            ("any order", [&name[..], user].concat(), None),
            ("no user", name.to_vec(), Some("subscribe.framework_info.user")),
            ("nothing", Vec::new(), Some("subscribe.framework_info.user")),
            ("no name", user.to_vec(), Some("subscribe.framework_info.name")),
            ("unknown fields", [&user[..], name, b"\xfa\x7f\x01x\xf0\x7f\x05"].concat(), None),
            ("a map's value, complete", [&user[..], name, filters_without_value].concat(), None),
            ("a map's value, nested", [&user[..], name, quantity_without_value].concat(),
                Some("subscribe.framework_info.offer_filters.min_allocatable_resources.quantities.quantities.value")),
        ];
        for (label, info, want) in table {
            let got = match from_protobuf::<Call>(&subscribe(info)) {
                Ok(call) => {
                    assert_eq!(call.subscribe.unwrap().framework_info.user, "u", "{label}");
                    None
                }
                Err(DecodeError::Missing { path }) => Some(path),
                Err(other) => panic!("{label}: {other}"),
            };
            assert_eq!(got.as_deref(), *want, "{label}");
        }
    }

    #[test]
    fn what_prost_writes_is_complete() {
        let call = Call {
            framework_id: Some(FrameworkId { value: "f".into() }),
            r#type: Some(call::Type::Kill as i32),
            kill: Some(call::Kill { task_id: TaskId { value: "t".into() }, ..Default::default() }),
            subscribe: Some(call::Subscribe {
                framework_info: FrameworkInfo {
                    offer_filters: [("*".into(), OfferFilters::default())].into(),
                    ..Default::default()
                },
                ..Default::default()
            }),
            ..Default::default()
        };
        assert_eq!(from_protobuf::<Call>(&call.encode_to_vec()).unwrap(), call);
    }

    #[test]
    fn garbage_is_an_error() {
        for body in
            [&b"\xff"[..], b"\x0a\xff", b"\x0a\xff\xff\xff\xff\x0f", b"{\"type\":1}", b"\x07"]
        {
            let error = from_protobuf::<Call>(body).expect_err("garbage").to_string();
            assert!(error.starts_with("cannot parse the protobuf: "), "{error}");
        }
        let parents = (0..500).fold(b"\x0a\x01x".to_vec(), |inner, _| {
            let mut outer = b"\x0a\x01x\x12".to_vec();
            prost::encoding::encode_varint(inner.len() as u64, &mut outer);
            [outer, inner].concat()
        });
        assert!(from_protobuf::<crate::v1::ContainerId>(&parents).is_err());
    }
}
