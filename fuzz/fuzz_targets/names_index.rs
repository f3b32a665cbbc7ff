#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| mizzen_tests_fuzz::run("names_index", data));
