//! Our JSON against a library that works by reflection: random messages of every
//! type must be written alike and read back unchanged.

use crate::codec::{Shaped, from_protobuf};
use crate::v1::{self, scheduler};
use proptest::prelude::{ProptestConfig, TestCaseError, any, prop_assert_eq, proptest};
use prost_reflect::{
    Cardinality, DescriptorPool, DynamicMessage, FieldDescriptor, Kind, MapKey, MessageDescriptor,
    ReflectMessage, SerializeOptions, Value,
};
use serde_json::Value as Json;
use std::collections::HashMap;
use std::sync::OnceLock;

static DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptors.bin"));

fn pool() -> &'static DescriptorPool {
    static POOL: OnceLock<DescriptorPool> = OnceLock::new();
    POOL.get_or_init(|| DescriptorPool::decode(DESCRIPTORS).unwrap())
}

macro_rules! every_message {
    ($($test:ident: $type:ty = $name:literal),* $(,)?) => {
        proptest! {
            #![proptest_config(ProptestConfig::with_cases(200))]
            $(#[test]
            fn $test(seed in any::<u64>()) {
                same_as_oracle::<$type>($name, seed)?;
            })*
        }
    };
}

every_message! {
    call: scheduler::Call = "mesos.v1.scheduler.Call",
    event: scheduler::Event = "mesos.v1.scheduler.Event",
    task: v1::Task = "mesos.v1.Task",
    operation: v1::Operation = "mesos.v1.Operation",
    agent: v1::AgentInfo = "mesos.v1.AgentInfo",
    framework: v1::FrameworkInfo = "mesos.v1.FrameworkInfo",
    container: v1::ContainerInfo = "mesos.v1.ContainerInfo",
    container_id: v1::ContainerId = "mesos.v1.ContainerID",
    machine: v1::MachineInfo = "mesos.v1.MachineInfo",
    drain: v1::DrainInfo = "mesos.v1.DrainInfo",
    device: v1::DeviceAccess = "mesos.v1.DeviceAccess",
    role: v1::Role = "mesos.v1.Role",
    file: v1::FileInfo = "mesos.v1.FileInfo",
}

fn same_as_oracle<M>(name: &str, seed: u64) -> Result<(), TestCaseError>
where
    M: prost::Message
        + Default
        + std::fmt::Debug
        + Shaped
        + serde::Serialize
        + serde::de::DeserializeOwned,
{
    let descriptor = pool().get_message_by_name(name).unwrap();
    let random = Random(seed).message(&descriptor, 0);
    let bytes = prost::Message::encode_to_vec(&random);
    let ours: M = from_protobuf(&bytes).unwrap();

    let text = serde_json::to_string(&ours).unwrap();
    prop_assert_eq!(text.parse::<Json>().unwrap(), oracle_json(&random));

    let read: M = crate::codec::from_json(text.as_bytes()).unwrap();
    let again = serde_json::to_string(&read).unwrap();
    prop_assert_eq!(again, text, "reading fills in declared defaults and changes nothing else");

    // Without a default in sight, what was read is what was there.
    let options = options();
    let mut plain = Vec::new();
    random.serialize_with_options(&mut serde_json::Serializer::new(&mut plain), &options).unwrap();
    let read: M = crate::codec::from_json(&plain).unwrap();
    // NaN is not equal to itself, its text is.
    prop_assert_eq!(format!("{read:?}"), format!("{ours:?}"));
    Ok(())
}

fn options() -> SerializeOptions {
    SerializeOptions::new().use_proto_field_name(true).stringify_64_bit_integers(false)
}

/// The oracle's JSON, with our rule about declared defaults on top.
fn oracle_json(message: &DynamicMessage) -> Json {
    let mut json =
        message.serialize_with_options(serde_json::value::Serializer, &options()).unwrap();
    add_defaults(&mut json, &message.descriptor());
    json
}

fn add_defaults(json: &mut Json, descriptor: &MessageDescriptor) {
    let Json::Object(object) = json else { return };
    for field in descriptor.fields() {
        if field.field_descriptor_proto().default_value.is_some()
            && !object.contains_key(field.name())
        {
            object.insert(field.name().into(), default_json(&field));
        }
        let Some(value) = object.get_mut(field.name()) else { continue };
        let Kind::Message(message) = field.kind() else { continue };
        match value {
            Json::Array(list) => list.iter_mut().for_each(|item| add_defaults(item, &message)),
            Json::Object(map) if field.is_map() => {
                if let Kind::Message(message) = message.map_entry_value_field().kind() {
                    map.values_mut().for_each(|item| add_defaults(item, &message));
                }
            }
            item => add_defaults(item, &message),
        }
    }
}

fn default_json(field: &FieldDescriptor) -> Json {
    match field.default_value() {
        Value::Bool(value) => value.into(),
        Value::I32(value) => value.into(),
        Value::U32(value) => value.into(),
        Value::F64(value) => value.into(),
        Value::String(value) => value.into(),
        Value::EnumNumber(number) => {
            let Kind::Enum(of) = field.kind() else { unreachable!() };
            of.get_value(number).unwrap().name().into()
        }
        other => unreachable!("{other:?}"),
    }
}

/// A small generator of random messages (xorshift, from proptest's seed).
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        let mut x = self.0 | 1;
        x ^= x << 13;
        x ^= x >> 7;
        x ^= x << 17;
        self.0 = x;
        x.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 16
    }

    fn message(&mut self, descriptor: &MessageDescriptor, depth: u32) -> DynamicMessage {
        let mut message = DynamicMessage::new(descriptor.clone());
        for field in descriptor.fields() {
            let wanted = depth < 8 && self.next().is_multiple_of(u64::from(depth + 2));
            if field.cardinality() == Cardinality::Required || wanted {
                let value = self.field(&field, depth);
                message.set_field(&field, value);
            }
        }
        message
    }

    fn field(&mut self, field: &FieldDescriptor, depth: u32) -> Value {
        let count = self.next() % 3;
        if field.is_map() {
            let Kind::Message(entry) = field.kind() else { unreachable!() };
            let value = entry.map_entry_value_field();
            let mut map = HashMap::new();
            for _ in 0..count {
                map.insert(MapKey::String(self.text()), self.value(&value.kind(), depth));
            }
            Value::Map(map)
        } else if field.is_list() {
            Value::List((0..count).map(|_| self.value(&field.kind(), depth)).collect())
        } else {
            self.value(&field.kind(), depth)
        }
    }

    #[allow(clippy::cast_possible_truncation, clippy::cast_possible_wrap, reason = "random bits")]
    fn value(&mut self, kind: &Kind, depth: u32) -> Value {
        let bits = self.next() ^ self.next() << 32;
        match kind {
            Kind::Bool => Value::Bool(bits & 1 == 1),
            Kind::Int32 => Value::I32(bits as i32),
            Kind::Int64 => Value::I64(bits as i64),
            Kind::Uint32 => Value::U32(bits as u32),
            Kind::Uint64 => Value::U64(bits),
            Kind::Double => Value::F64(match bits % 8 {
                0 => f64::INFINITY,
                1 => f64::NEG_INFINITY,
                2 => f64::NAN,
                _ => (bits as i32) as f64 / 1024.0,
            }),
            Kind::String => Value::String(self.text()),
            Kind::Bytes => Value::Bytes(bits.to_le_bytes()[..bits as usize % 9].to_vec().into()),
            Kind::Enum(of) => {
                let values: Vec<_> = of.values().collect();
                Value::EnumNumber(values[bits as usize % values.len()].number())
            }
            Kind::Message(message) => Value::Message(self.message(message, depth + 1)),
            other => unreachable!("{other:?}"),
        }
    }

    fn text(&mut self) -> String {
        const TEXTS: &[&str] = &["", "a", "web.1", "*", "ü\"\\\n\u{1}", "\u{1f980}", "null", "7"];
        TEXTS[self.next() as usize % TEXTS.len()].to_owned()
    }
}
