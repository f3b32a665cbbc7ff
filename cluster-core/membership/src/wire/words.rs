//! Words that stand in facts as numbers.

/// A word's place is its number on the wire: words are added at the end, and none is ever
/// moved or taken away.
const WORDS: &[&str] = &[
    "task",
    "task_id",
    "framework_id",
    "framework_name",
    "agent_id",
    "container_id",
    "name",
    "discovery_name",
    "phase",
    "health",
    "host_address",
    "container_addresses",
    "host_ports",
    "ports",
    "labels",
    "launched",
    "number",
    "host_port",
    "protocol",
    "tcp",
    "running",
    "unchecked",
    "healthy",
    "VIP_0",
    "node",
    "hostname",
    "address",
    "zone",
    "udp",
    "marathon",
    "http",
    // From here on a word takes two bytes.
    "unknown",
    "unhealthy",
    "staging",
    "starting",
    "draining",
    "killing",
    "leader",
    "framework",
    "vip_claim",
    "vip_service",
    "dns_record",
    "port",
    "values",
    "ttl",
    "network-scope",
    "container",
    "host",
    "VIP_1",
    "services",
    "weight",
    "backends",
];

/// The number of a word, if it has one.
pub(super) fn number_of(text: &str) -> Option<u32> {
    let place = WORDS.iter().position(|word| *word == text)?;
    u32::try_from(place).ok()
}

/// The word of a number.
pub(super) fn word(number: u64) -> Option<&'static str> {
    WORDS.get(usize::try_from(number).ok()?).copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_word_has_two_numbers() {
        for (place, word) in WORDS.iter().enumerate() {
            assert_eq!(number_of(word), u32::try_from(place).ok(), "{word}");
        }
    }

    #[test]
    fn words_that_are_in_use_stay_where_they_are() {
        assert_eq!((word(0), word(30), word(51)), (Some("task"), Some("http"), Some("backends")));
    }
}
