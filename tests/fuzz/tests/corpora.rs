//! What fuzzing found once must not fail again.

use mizzen_tests_fuzz::TARGETS;
use std::path::Path;

#[test]
fn every_file_of_every_corpus_passes() {
    let corpora = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/corpus");
    for (name, target) in TARGETS {
        let files = std::fs::read_dir(corpora.join(name)).expect("a corpus");
        let mut files: Vec<_> = files.map(|file| file.expect("a file").path()).collect();
        assert!(!files.is_empty(), "{name} has a corpus");
        files.sort();
        for file in files {
            let bytes = std::fs::read(&file).expect("its bytes");
            // Printed with the panic that comes, if one comes.
            println!("{}", file.display());
            target(&bytes);
        }
    }
}
