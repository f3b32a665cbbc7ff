//! Several names in one sentence.

/// Names that are shown of many.
const MOST: usize = 6;

/// Names as people say them: `a`, `a and b`, `a, b, c, d, e, f and 14 more`.
pub(crate) fn several(names: &[&str]) -> String {
    match names {
        [] => String::new(),
        [one] => (*one).to_owned(),
        [most @ .., last] if names.len() <= MOST => format!("{} and {last}", most.join(", ")),
        _ => {
            let (shown, rest) = names.split_at(MOST);
            format!("{} and {} more", shown.join(", "), rest.len())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn some_names_and_a_number() {
        let all: Vec<String> = (1..=9).map(|number| format!("n{number}")).collect();
        let all: Vec<&str> = all.iter().map(String::as_str).collect();
        #[rustfmt::skip]
        let table = [
            (0, ""),
            (1, "n1"),
            (2, "n1 and n2"),
            (6, "n1, n2, n3, n4, n5 and n6"),
            (9, "n1, n2, n3, n4, n5, n6 and 3 more"),
        ];
        for (count, want) in table {
            assert_eq!(several(&all[..count]), want);
        }
    }
}
