//! Every case of `names/*.txt`, in the mode or the modes that it is for.

use mizzen_conformance::cases::{self, File};
use mizzen_conformance::cluster::Cluster;
use mizzen_conformance::resolver::Resolver;
use mizzen_dns_core::Mode;
use std::path::Path;

#[test]
fn answers_are_the_recorded_ones() {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("names");
    let facts = std::fs::read_to_string(directory.join("facts.json")).expect("facts");
    let cluster = Cluster::read(&facts).expect("facts");
    let files = cases::read_all(&directory).expect("cases");
    assert!(!files.is_empty());
    let differences = |file| differences(&cluster, file).expect("answers");
    let wrong: Vec<String> = files.iter().flat_map(differences).collect();
    assert!(wrong.is_empty(), "{} answers differ\n\n{}", wrong.len(), wrong.join("\n"));
}

fn differences(cluster: &Cluster, file: &File) -> anyhow::Result<Vec<String>> {
    let mut wrong = Vec::new();
    for mode in [Mode::Strict, Mode::Legacy] {
        let zones = cluster.zones(mode, &file.options)?;
        let resolver = Resolver::start(zones)?;
        for case in file.cases.iter().filter(|case| case.mode.is_none_or(|only| only == mode)) {
            let got = resolver.ask(&case.name, &case.kind)?;
            if got != case.answer {
                let (name, line, asked, kind) = (&file.name, case.line, &case.name, &case.kind);
                let want = &case.answer;
                wrong.push(format!(
                    "{name}:{line} ({mode:?})\n? {asked} {kind}\n{got}--- recorded:\n{want}"
                ));
            }
        }
    }
    Ok(wrong)
}
