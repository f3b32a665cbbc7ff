//! What the generated JSON stands on: Mesos' mapping of protobuf to JSON.
//!
//! | protobuf | written as | also read |
//! |---|---|---|
//! | integers of 32 and 64 bits | number | the number as a string |
//! | double | number, or `"Infinity"`, `"-Infinity"`, `"NaN"` | the number as a string |
//! | bool | `true`, `false` | `"true"`, `"false"` |
//! | enum | its name (a number without a name: that number) | only names |
//! | bytes | base64, standard alphabet | without padding too |
//! | map | object | |
//! | unset, with a declared default | the default | |
//! | unset; empty list or map | left out | `null` |
//!
//! Reading ignores unknown fields and, in an optional field, an unknown enum
//! name. A missing required field is an error. Errors name the path of the field
//! (`framework_info.roles[2]`), so each reader is told where it stands.

use serde::Deserializer;
use serde::de::MapAccess;
use std::fmt;

pub mod read;
mod scalar;
pub mod write;

/// Where a reader stands in a message; lives on the stack of the readers.
#[derive(Debug, Clone, Copy)]
pub struct Path<'a> {
    parent: Option<&'a Path<'a>>,
    step: Step<'a>,
}

#[derive(Debug, Clone, Copy)]
enum Step<'a> {
    Root,
    Field(&'static str),
    Index(usize),
    Key(&'a str),
}

impl Path<'static> {
    /// The message itself.
    pub const ROOT: Self = Self { parent: None, step: Step::Root };
}

impl<'a> Path<'a> {
    /// A field of the message here.
    #[must_use]
    pub const fn field(&'a self, name: &'static str) -> Path<'a> {
        Path { parent: Some(self), step: Step::Field(name) }
    }

    /// An element of the list here.
    #[must_use]
    pub const fn index(&'a self, index: usize) -> Path<'a> {
        Path { parent: Some(self), step: Step::Index(index) }
    }

    /// A value of the map here.
    #[must_use]
    pub const fn key(&'a self, key: &'a str) -> Path<'a> {
        Path { parent: Some(self), step: Step::Key(key) }
    }

    fn is_root(&self) -> bool {
        matches!(self.step, Step::Root)
    }
}

impl fmt::Display for Path<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(parent) = self.parent.filter(|parent| !parent.is_root()) {
            parent.fmt(f)?;
            if matches!(self.step, Step::Field(_)) {
                f.write_str(".")?;
            }
        }
        match self.step {
            Step::Root => f.write_str("the message"),
            Step::Field(name) => f.write_str(name),
            Step::Index(index) => write!(f, "[{index}]"),
            Step::Key(key) => write!(f, "[{key:?}]"),
        }
    }
}

/// A value that can be read from JSON, knowing where it stands.
pub trait Read: Sized {
    /// Reads the value that stands `at` a path.
    ///
    /// # Errors
    ///
    /// The deserializer's own, or ours, which name the path.
    fn read<'de, D: Deserializer<'de>>(from: D, at: &Path<'_>) -> Result<Self, D::Error>;
}

/// What the generator says about a message.
pub trait Message: Default {
    /// Names of the fields in the order of their declaration.
    const FIELDS: &'static [&'static str];
    /// Bit `i` is set if field `i` is required.
    const REQUIRED: u64;

    /// The position of a name in [`Self::FIELDS`].
    fn index(name: &str) -> Option<usize>;

    /// Reads the value of one field, which stands `at` a path; `false` if it was `null`.
    ///
    /// # Errors
    ///
    /// As [`Read::read`].
    fn read_field<'de, A: MapAccess<'de>>(
        &mut self,
        index: usize,
        map: &mut A,
        at: &Path<'_>,
    ) -> Result<bool, A::Error>;
}

/// Names and numbers of an enum.
pub trait EnumNames {
    /// The name of a number.
    fn name(number: i32) -> Option<&'static str>;
    /// The number of a name.
    fn number(name: &str) -> Option<i32>;
}

#[cfg(test)]
mod oracle;

#[cfg(test)]
mod tests {
    use crate::codec::from_json;
    use crate::v1::scheduler::{Call, call};
    use crate::v1::{
        ContainerId, ContainerInfo, Filters, FrameworkInfo, Offer, Resource, TaskInfo, TaskState,
        TaskStatus, framework_info,
    };
    use serde_json::{Value, json, to_value};

    /// What is written, by the kind of field.
    #[test]
    fn writing() {
        let status = TaskStatus {
            state: TaskState::TaskRunning as i32,
            uuid: Some(vec![0xfb, 0xff, 0]),
            timestamp: Some(f64::INFINITY),
            reason: Some(99),
            ..Default::default()
        };
        #[rustfmt::skip]
        let table: &[(&str, Value, Value)] = &[
            ("declared default, unset", to_value(Filters::default()).unwrap(), json!({"refuse_seconds": 5.0})),
            ("declared default of an enum", to_value(ContainerInfo { docker: Some(Default::default()), r#type: 1, ..Default::default() }).unwrap(),
                json!({"type": "DOCKER", "docker": {"image": "", "network": "HOST", "privileged": false}})),
            ("bytes, infinity, enum without a name", to_value(status).unwrap(),
                json!({"task_id": {"value": ""}, "state": "TASK_RUNNING", "reason": 99, "uuid": "+/8A", "timestamp": "Infinity"})),
            ("64 bits as numbers", to_value(crate::v1::DurationInfo { nanoseconds: i64::MAX }).unwrap(), json!({"nanoseconds": i64::MAX})),
            ("empty lists and maps are left out", to_value(Offer { allocation_info: Some(Default::default()), ..Default::default() }).unwrap(),
                json!({"id": {"value": ""}, "framework_id": {"value": ""}, "agent_id": {"value": ""}, "hostname": "", "allocation_info": {}})),
        ];
        for (name, got, want) in table {
            assert_eq!(got, want, "{name}");
        }
    }

    type Right = fn(&FrameworkInfo) -> bool;

    /// What is read as what, seen through the JSON that we write.
    #[test]
    fn reading() {
        #[rustfmt::skip]
        let table: &[(&str, Value, Right)] = &[
            ("null is absent", json!({"user": "u", "name": "n", "id": null, "roles": null, "capabilities": null, "offer_filters": null, "checkpoint": null}),
                |f| f.id.is_none() && f.roles.is_empty() && f.checkpoint.is_none()),
            ("unknown fields are ignored", json!({"user": "u", "name": "n", "slave_id": {"value": [1, {"a": null}]}}), |f| f.user == "u"),
            ("numbers as strings", json!({"user": "u", "name": "n", "failover_timeout": "1.5"}), |f| f.failover_timeout == Some(1.5)),
            ("whole numbers for doubles", json!({"user": "u", "name": "n", "failover_timeout": 7}), |f| f.failover_timeout == Some(7.0)),
            ("infinity", json!({"user": "u", "name": "n", "failover_timeout": "-Infinity"}), |f| f.failover_timeout == Some(f64::NEG_INFINITY)),
            ("NaN", json!({"user": "u", "name": "n", "failover_timeout": "NaN"}), |f| f.failover_timeout.is_some_and(f64::is_nan)),
            ("booleans as strings", json!({"user": "u", "name": "n", "checkpoint": "true"}), |f| f.checkpoint == Some(true)),
            ("unknown name of an optional enum", json!({"user": "u", "name": "n", "capabilities": [{"type": "FLYING"}, {"type": "MULTI_ROLE"}]}),
                |f| f.capabilities.iter().map(|c| c.r#type).collect::<Vec<_>>() == [None, Some(framework_info::capability::Type::MultiRole as i32)]),
            ("null in a list", json!({"user": "u", "name": "n", "roles": ["a", null, "b"]}), |f| f.roles == ["a", "b"]),
            ("a name with escapes", json!({"us\u{65}r": "u", "name": "n\"\\ü\u{0}"}), |f| f.name == "n\"\\ü\0"),
        ];
        for (name, input, right) in table {
            let text = input.to_string();
            let parsed: FrameworkInfo = from_json(text.as_bytes()).expect(name);
            assert!(right(&parsed), "{name}: {parsed:?}");
            let from_value: FrameworkInfo = serde_json::from_value(input.clone()).expect(name);
            assert!(right(&from_value), "{name}: {from_value:?}");
        }
    }

    #[test]
    fn integers_come_as_strings_and_as_whole_doubles_and_bytes_without_padding() {
        let range = |begin: &str| {
            let text = format!(
                r#"{{"name":"ports","type":"RANGES","ranges":{{"range":[{{"begin":{begin},"end":2}}]}}}}"#
            );
            from_json::<Resource>(text.as_bytes())
                .map(|r| r.ranges.unwrap().range[0].begin)
                .map_err(|e| e.to_string())
        };
        assert_eq!(range("18446744073709551615"), Ok(u64::MAX));
        assert_eq!(range("\"18446744073709551615\""), Ok(u64::MAX));
        assert_eq!(range("31000.0"), Ok(31_000));
        assert_eq!(range("1e3"), Ok(1000));
        for wrong in ["-1", "1.5", "\"1x\"", "18446744073709551616", "true", "[1]"] {
            let error = range(wrong).expect_err(wrong);
            assert!(error.contains("ranges.range[0].begin"), "{wrong}: {error}");
        }
        let task = |data: &str| {
            let text = format!(
                r#"{{"name":"t","task_id":{{"value":"t"}},"agent_id":{{"value":"a"}},"data":"{data}"}}"#
            );
            from_json::<TaskInfo>(text.as_bytes()).map(|task| task.data.unwrap()).ok()
        };
        assert_eq!(task("+/8A"), Some(vec![0xfb, 0xff, 0]));
        assert_eq!(task("aGk="), Some(b"hi".to_vec()));
        assert_eq!(task("aGk"), Some(b"hi".to_vec()));
        assert_eq!(task("-_8A"), None);
    }

    #[test]
    fn errors_name_the_field() {
        let subscribe =
            |info: Value| json!({"type": "SUBSCRIBE", "subscribe": {"framework_info": info}});
        #[rustfmt::skip]
        let table: &[(Value, &str)] = &[
            (subscribe(json!({"name": "n"})), "missing required field subscribe.framework_info.user"),
            (subscribe(json!({"name": null, "user": "u"})), "missing required field subscribe.framework_info.name"),
            (subscribe(json!({"name": 5, "user": "u"})), "expected a string for subscribe.framework_info.name"),
            (subscribe(json!({"name": "n", "user": "u", "roles": "a"})), "expected a list for subscribe.framework_info.roles"),
            (subscribe(json!({"name": "n", "user": "u", "roles": ["a", 1]})), "expected a string for subscribe.framework_info.roles[1]"),
            (subscribe(json!({"name": "n", "user": "u", "capabilities": [{"type": 6}]})), "for subscribe.framework_info.capabilities[0].type"),
            (subscribe(json!({"name": "n", "user": "u", "failover_timeout": "soon"})), "expected a number for subscribe.framework_info.failover_timeout"),
            (subscribe(json!({"name": "n", "user": "u", "offer_filters": {"a": {"min_allocatable_resources": {"quantities": [{"quantities": {"cpus": {}}}]}}}})),
                "missing required field subscribe.framework_info.offer_filters[\"a\"].min_allocatable_resources.quantities[0].quantities[\"cpus\"].value"),
            (json!({"type": "ACKNOWLEDGE", "acknowledge": {"uuid": "%"}}), "cannot decode the base64 of acknowledge.uuid"),
            (json!({"framework_id": "fw"}), "expected an object for framework_id"),
            (json!([]), "expected an object for the message"),
        ];
        for (input, want) in table {
            let error =
                from_json::<Call>(input.to_string().as_bytes()).expect_err(want).to_string();
            assert!(error.starts_with("cannot convert the JSON: "), "{error}");
            assert!(error.contains(want), "{error} does not contain {want}");
        }
        let status = r#"{"task_id":{"value":"t"},"state":"TASK_DREAMING"}"#;
        let error = from_json::<TaskStatus>(status.as_bytes()).expect_err("required").to_string();
        assert!(error.contains("unknown value \"TASK_DREAMING\" for state"), "{error}");
    }

    #[test]
    fn garbage_is_refused_without_harm() {
        let deep =
            |open: &str, close: &str| format!("{}1{}", open.repeat(5000), close.repeat(5000));
        for text in ["", "{", "nul", "{\"type\":}", "{} {}", "\u{0}", &deep("[", "]")] {
            let error = from_json::<Call>(text.as_bytes()).expect_err(text).to_string();
            assert!(error.starts_with("cannot "), "{error}");
        }
        let nested = deep(r#"{"unknown":"#, "}");
        assert_eq!(from_json::<Call>(nested.as_bytes()).unwrap(), Call::default());
        let parents = deep(r#"{"value":"x","parent":"#, "}");
        assert!(from_json::<ContainerId>(parents.as_bytes()).is_err());
        assert!(from_json::<Call>(b"{\"type\":\"\xff\"}").is_err());
    }

    #[test]
    fn unknown_type_leaves_the_call_without_type() {
        let call: Call = from_json(br#"{"type":"FLY"}"#).unwrap();
        assert_eq!(call.r#type, None);
        let call: Call = from_json(br#"{"type":"REVIVE"}"#).unwrap();
        assert_eq!(call.r#type(), call::Type::Revive);
    }
}
