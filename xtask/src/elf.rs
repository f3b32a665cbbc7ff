//! The sections of a 64-bit little-endian ELF file that hold instructions, and the functions in
//! them.

use std::collections::BTreeMap;

use anyhow::{Context, Result, bail};

/// Bytes of each section with instructions, by name.
///
/// Nothing but the code: two compilers that agree on it made the same programs, whatever their
/// debug information says.
pub fn code_sections(file: &[u8]) -> Result<BTreeMap<String, &[u8]>> {
    if bytes(file, 0, 6)? != b"\x7fELF\x02\x01" {
        bail!("not a 64-bit little-endian ELF file");
    }
    let table = number(file, 0x28, 8)?;
    let entry_size = number(file, 0x3a, 2)?;
    let count = number(file, 0x3c, 2)?;
    let header = |index: usize| bytes(file, table + index * entry_size, entry_size);
    let names = content(file, header(number(file, 0x3e, 2)?)?)?;

    let mut sections = BTreeMap::new();
    for index in 0..count {
        let header = header(index)?;
        if number(header, 0x08, 8)? & EXECUTABLE != 0 && number(header, 0x20, 8)? > 0 {
            let name = text(names, number(header, 0, 4)?)?;
            sections.insert(name, content(file, header)?);
        }
    }
    Ok(sections)
}

/// The code of each function, with its name.
pub fn functions(file: &[u8]) -> Result<Vec<(String, &[u8])>> {
    let table = number(file, 0x28, 8)?;
    let entry_size = number(file, 0x3a, 2)?;
    let header = |index: usize| bytes(file, table + index * entry_size, entry_size);
    let mut functions = Vec::new();
    for index in 0..number(file, 0x3c, 2)? {
        let symbols = header(index)?;
        if number(symbols, 0x04, 4)? != SYMBOLS {
            continue;
        }
        let names = content(file, header(number(symbols, 0x28, 4)?)?)?;
        for symbol in content(file, symbols)?.chunks_exact(SYMBOL) {
            if symbol[4] & 0xf == FUNCTION {
                let code = content(file, header(number(symbol, 0x06, 2)?)?)?;
                let code = bytes(code, number(symbol, 0x08, 8)?, number(symbol, 0x10, 8)?)?;
                functions.push((text(names, number(symbol, 0, 4)?)?, code));
            }
        }
    }
    Ok(functions)
}

/// `SHF_EXECINSTR`.
const EXECUTABLE: usize = 4;
/// `SHT_SYMTAB`.
const SYMBOLS: usize = 2;
/// Bytes of a symbol.
const SYMBOL: usize = 24;
/// `STT_FUNC`.
const FUNCTION: u8 = 2;

fn content<'a>(file: &'a [u8], header: &[u8]) -> Result<&'a [u8]> {
    bytes(file, number(header, 0x18, 8)?, number(header, 0x20, 8)?)
}

fn text(names: &[u8], start: usize) -> Result<String> {
    let rest = names.get(start..).context("a section's name lies outside the name table")?;
    let name = rest.split(|byte| *byte == 0).next().unwrap_or_default();
    Ok(String::from_utf8(name.to_vec())?)
}

fn number(data: &[u8], start: usize, length: usize) -> Result<usize> {
    let mut wide = [0; 8];
    wide.iter_mut().zip(bytes(data, start, length)?).for_each(|(to, from)| *to = *from);
    Ok(usize::try_from(u64::from_le_bytes(wide))?)
}

fn bytes(data: &[u8], start: usize, length: usize) -> Result<&[u8]> {
    start.checked_add(length).and_then(|end| data.get(start..end)).context("the file is cut off")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_the_programs_of_the_committed_object() {
        let path = crate::ebpf::OBJECTS[0].path().expect("a repository");
        let object = std::fs::read(path).expect("the committed object");
        let sections = code_sections(&object).expect("an ELF file");
        for name in ["cgroup/connect4", "cgroup/connect6", "sockops"] {
            let code = sections.get(name).unwrap_or_else(|| panic!("{name} in {sections:?}"));
            assert!(code.len() > 80 && code.len().is_multiple_of(8), "{name}");
        }
        assert!(!sections.contains_key(".BTF"));
    }

    #[test]
    fn refuses_what_is_no_object() {
        for file in [&b""[..], b"\x7fELF", &[0; 100], b"\x7fELF\x02\x01 and then nothing"] {
            code_sections(file).expect_err("no object");
        }
    }
}
