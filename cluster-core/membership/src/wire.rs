//! Keys and facts as they are signed and travel.
//!
//! A fact is written with the names of its fields, so that a reader skips what it does
//! not know and fills in what is not there, as with JSON; but names that every fact has
//! are numbers from a list ([`words::WORDS`]), UUIDs are sixteen bytes and addresses
//! four. A task with one port takes a third of its JSON. The first byte of a value says
//! what it is (upper three bits) and how long or large (lower five; 31: a number
//! follows).
//!
//! Whoever relays an entry keeps its bytes, so a node of an older version carries facts
//! on that it cannot read itself.

mod words;

use crate::coding::{Garbage, Reader, Writer};
use crate::identity::{packed_uuid, unpacked_uuid};
use mizzen_types::fact::{Fact, Key};
use serde_json::{Map, Number, Value};
use std::net::Ipv4Addr;

const SIMPLE: u8 = 0;
const NUMBER: u8 = 1;
const TEXT: u8 = 2;
const LIST: u8 = 3;
const MAP: u8 = 4;
const WORD: u8 = 5;
/// A text that begins with a UUID: sixteen bytes, and the rest of it.
const AFTER_UUID: u8 = 6;

const NULL: u8 = 0;
const FALSE: u8 = 1;
const TRUE: u8 = 2;
const FLOAT: u8 = 3;
const NEGATIVE: u8 = 4;
const IPV4: u8 = 5;

const FOLLOWS: u8 = 31;
/// No fact nests deeper.
const MAX_DEPTH: u8 = 16;

/// Writes what an entry says. No fact is known that cannot be written.
pub(crate) fn write_entry(key: &Key, fact: &Fact) -> Result<Vec<u8>, serde_json::Error> {
    let mut said = Writer::default();
    write_value(&serde_json::to_value(key)?, &mut said);
    write_value(&serde_json::to_value(fact)?, &mut said);
    Ok(said.finish())
}

/// Reads what an entry says.
pub(crate) fn read_entry(bytes: &[u8]) -> Result<(Key, Fact), Garbage> {
    let mut reader = Reader::new(bytes);
    let key = read_value(&mut reader, 0)?;
    let fact = read_value(&mut reader, 0)?;
    reader.end()?;
    let key = serde_json::from_value(key).map_err(|_| Garbage::Unknown("key"))?;
    let fact = serde_json::from_value(fact).map_err(|_| Garbage::Unknown("fact"))?;
    Ok((key, fact))
}

/// Reads what an entry is about.
pub(crate) fn read_key(bytes: &[u8]) -> Result<Key, Garbage> {
    let key = read_value(&mut Reader::new(bytes), 0)?;
    serde_json::from_value(key).map_err(|_| Garbage::Unknown("key"))
}

fn write_value(value: &Value, writer: &mut Writer) {
    match value {
        Value::Null => simple(NULL, writer),
        Value::Bool(false) => simple(FALSE, writer),
        Value::Bool(true) => simple(TRUE, writer),
        Value::Number(number) => write_number(number, writer),
        Value::String(text) => write_text(text, writer),
        Value::Array(items) => {
            start(LIST, items.len() as u64, writer);
            items.iter().for_each(|item| write_value(item, writer));
        }
        Value::Object(fields) => {
            start(MAP, fields.len() as u64, writer);
            for (name, value) in fields {
                write_text(name, writer);
                write_value(value, writer);
            }
        }
    }
}

fn write_number(number: &Number, writer: &mut Writer) {
    if let Some(number) = number.as_u64() {
        start(NUMBER, number, writer);
    } else if let Some(number) = number.as_i64() {
        simple(NEGATIVE, writer);
        writer.number(!(number as u64));
    } else {
        simple(FLOAT, writer);
        writer.raw(&number.as_f64().unwrap_or_default().to_le_bytes());
    }
}

fn write_text(text: &str, writer: &mut Writer) {
    if let Some(word) = words::number_of(text) {
        return start(WORD, u64::from(word), writer);
    }
    if let Some(uuid) = text.get(..36).and_then(packed_uuid) {
        let rest = &text[36..];
        start(AFTER_UUID, rest.len() as u64, writer);
        writer.raw(&uuid).raw(rest.as_bytes());
        return;
    }
    if let Ok(address) = text.parse::<Ipv4Addr>() {
        simple(IPV4, writer);
        writer.raw(&address.octets());
        return;
    }
    start(TEXT, text.len() as u64, writer);
    writer.raw(text.as_bytes());
}

fn simple(which: u8, writer: &mut Writer) {
    start(SIMPLE, u64::from(which), writer);
}

fn start(kind: u8, size: u64, writer: &mut Writer) {
    match u8::try_from(size) {
        Ok(size) if size < FOLLOWS => writer.byte((kind << 5) | size),
        _ => writer.byte((kind << 5) | FOLLOWS).number(size),
    };
}

fn read_value(reader: &mut Reader<'_>, depth: u8) -> Result<Value, Garbage> {
    if depth > MAX_DEPTH {
        return Err(Garbage::Malformed("fact"));
    }
    let (kind, size) = read_start(reader)?;
    Ok(match kind {
        SIMPLE => return read_simple(size, reader),
        NUMBER => size.into(),
        LIST => {
            let count = fitting(size, reader)?;
            let items: Result<Vec<_>, _> =
                (0..count).map(|_| read_value(reader, depth + 1)).collect();
            Value::Array(items?)
        }
        MAP => {
            let mut fields = Map::new();
            for _ in 0..fitting(size, reader)? {
                let name = match read_value(reader, depth + 1)? {
                    Value::String(name) => name,
                    _ => return Err(Garbage::Malformed("fact")),
                };
                fields.insert(name, read_value(reader, depth + 1)?);
            }
            Value::Object(fields)
        }
        _ => Value::String(read_text(kind, size, reader)?),
    })
}

fn read_simple(which: u64, reader: &mut Reader<'_>) -> Result<Value, Garbage> {
    Ok(match u8::try_from(which) {
        Ok(NULL) => Value::Null,
        Ok(FALSE) => false.into(),
        Ok(TRUE) => true.into(),
        Ok(FLOAT) => f64::from_le_bytes(reader.array()?).into(),
        Ok(NEGATIVE) => (!reader.number()? as i64).into(),
        Ok(IPV4) => Ipv4Addr::from(reader.array::<4>()?).to_string().into(),
        _ => return Err(Garbage::Unknown("kind of value")),
    })
}

fn read_text(kind: u8, size: u64, reader: &mut Reader<'_>) -> Result<String, Garbage> {
    match kind {
        WORD => words::word(size).map(str::to_owned).ok_or(Garbage::Unknown("word")),
        TEXT => Ok(utf8(fitting(size, reader)?, reader)?.to_owned()),
        AFTER_UUID => {
            let uuid = unpacked_uuid(&reader.array()?);
            Ok(uuid + utf8(fitting(size, reader)?, reader)?)
        }
        _ => Err(Garbage::Unknown("kind of value")),
    }
}

fn utf8<'a>(length: usize, reader: &mut Reader<'a>) -> Result<&'a str, Garbage> {
    std::str::from_utf8(reader.raw(length)?).map_err(|_| Garbage::Malformed("text"))
}

fn read_start(reader: &mut Reader<'_>) -> Result<(u8, u64), Garbage> {
    let first = reader.byte()?;
    let size = match first & FOLLOWS {
        FOLLOWS => reader.number()?,
        size => u64::from(size),
    };
    Ok((first >> 5, size))
}

/// A count of things, each of which takes a byte at least.
fn fitting(size: u64, reader: &Reader<'_>) -> Result<usize, Garbage> {
    usize::try_from(size).ok().filter(|size| *size <= reader.rest().len()).ok_or(Garbage::Short)
}

#[cfg(test)]
mod tests {
    use super::*;
    use mizzen_types::fact::{
        DnsRecordFact, Health, NodeFact, PortFact, Reach, TaskFact, TaskPhase,
    };
    use mizzen_types::time::Wall;
    use std::collections::BTreeMap;

    fn task() -> (Key, Fact) {
        let master = "6e1f0b8a-3a52-4a8e-9a10-0123456789ab";
        let framework = format!("{master}-0000");
        let task = format!("web.instance-{}._app.1", "0b8a6e1f-3a52-4a8e-9a10-0123456789ab");
        let fact = TaskFact {
            task_id: task.clone().into(),
            framework_id: framework.clone().into(),
            framework_name: "marathon".to_owned(),
            agent_id: format!("{master}-S17").into(),
            container_id: "1f6e0b8a-3a52-4a8e-9a10-0123456789ab".into(),
            name: "web".to_owned(),
            discovery_name: None,
            phase: TaskPhase::Running,
            health: Health::Healthy,
            host_address: [10, 0, 3, 17].into(),
            container_addresses: vec![[9, 0, 17, 4].into()],
            container_reach: Reach::Cluster,
            host_ports: vec![31_044],
            ports: vec![PortFact {
                number: 80,
                host_port: Some(31_044),
                name: Some("http".to_owned()),
                protocol: "tcp".to_owned(),
                labels: BTreeMap::from([("VIP_0".to_owned(), "/web:80".to_owned())]),
            }],
            labels: BTreeMap::new(),
            launched: Wall(1_795_286_400_123_456_789),
        };
        (Key::Task(framework.into(), task.into()), Fact::Task(Box::new(fact)))
    }

    #[test]
    fn facts_come_back() {
        let node = serde_json::json!({
            "hostname": "node-3.example", "address": "fd00::3", "agent_id": null, "zone": "r1",
        });
        let node: NodeFact = serde_json::from_value(node).unwrap();
        let record = DnsRecordFact { values: vec!["10.0.0.01".to_owned()], ttl: Some(70_000) };
        let record_key = Key::DnsRecord("Ä.example".to_owned(), "A".to_owned());
        let claim = Key::VipClaim("x".repeat(40));
        for (key, fact) in [
            task(),
            (Key::Node, Fact::Node(node)),
            (claim, Fact::VipClaim([11, 0, 0, 1].into())),
            (record_key, Fact::DnsRecord(record)),
        ] {
            let bytes = write_entry(&key, &fact).unwrap();
            assert_eq!(read_key(&bytes), Ok(key.clone()));
            assert_eq!(read_entry(&bytes), Ok((key, fact)));
        }
    }

    #[test]
    fn a_task_takes_less_than_half_of_its_json() {
        let (key, fact) = task();
        let json = serde_json::to_vec(&(&key, &fact)).unwrap().len();
        let bytes = write_entry(&key, &fact).unwrap().len();
        assert!(bytes * 2 < json && bytes < 330, "{bytes} bytes, as JSON {json}");
    }

    #[test]
    fn cut_short_or_nested_too_deep_is_garbage() {
        let (key, fact) = task();
        let bytes = write_entry(&key, &fact).unwrap();
        for length in 0..bytes.len() {
            assert!(read_entry(&bytes[..length]).is_err(), "{length} bytes");
        }
        assert!(read_entry(&[(LIST << 5) | 1; 100_000]).is_err());
        assert_eq!(read_entry(&[(TEXT << 5) | FOLLOWS, 0xff, 0xff, 3]), Err(Garbage::Short));
    }
}
