//! How prost-build spells a protobuf name in Rust.

use heck::{ToSnakeCase, ToUpperCamelCase};
use protox::prost_reflect::{DescriptorPool, MessageDescriptor};

/// Words that need `r#` in front of them as a field.
const KEYWORDS: &[&str] = &[
    "as", "async", "await", "box", "break", "const", "continue", "dyn", "else", "enum", "false",
    "fn", "for", "gen", "if", "impl", "in", "let", "loop", "match", "mod", "move", "mut", "priv",
    "pub", "ref", "return", "static", "struct", "trait", "true", "try", "type", "unsafe", "use",
    "virtual", "where", "while", "yield",
];

/// Every message that becomes a Rust type; a map's entries do not.
pub fn messages(pool: &DescriptorPool) -> impl Iterator<Item = MessageDescriptor> + '_ {
    pool.all_messages().filter(|message| !message.is_map_entry())
}

/// The path of a message or enum: `mesos.v1.Offer.Operation` is
/// `crate::v1::offer::Operation`.
pub fn type_path(package: &str, full_name: &str) -> String {
    let module = package.strip_prefix("mesos.").unwrap_or(package).replace('.', "::");
    let inside = full_name.strip_prefix(package).unwrap_or(full_name).trim_start_matches('.');
    let mut path = format!("crate::{module}");
    let mut segments = inside.split('.').peekable();
    while let Some(segment) = segments.next() {
        path.push_str("::");
        match segments.peek() {
            Some(_) => path.push_str(&segment.to_snake_case()),
            None => path.push_str(&segment.to_upper_camel_case()),
        }
    }
    path
}

/// The name of a struct's field.
pub fn field(name: &str) -> String {
    let name = name.to_snake_case();
    if KEYWORDS.contains(&name.as_str()) { format!("r#{name}") } else { name }
}
