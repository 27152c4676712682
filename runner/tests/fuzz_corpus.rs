//! Every input that fuzzing has found worth keeping, run through its target once more.

use std::path::Path;

#[path = "../../tests/fuzz/src/lib.rs"]
#[expect(unreachable_pub, reason = "there it is a library")]
mod fuzz;

#[test]
fn every_target_passes_its_corpus() {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fuzz/corpus");
    for (name, run) in fuzz::TARGETS {
        let directory = corpus.join(name);
        let mut inputs: Vec<_> = std::fs::read_dir(&directory)
            .unwrap_or_else(|error| panic!("{}: {error}", directory.display()))
            .map(|entry| entry.unwrap().path())
            .collect();
        inputs.sort();
        assert!(!inputs.is_empty(), "{} has no inputs", directory.display());
        for input in inputs {
            // Shown when the test fails: the panic itself does not know the file.
            println!("{}", input.display());
            run(&std::fs::read(&input).unwrap());
        }
    }
}

#[test]
fn every_corpus_has_a_target() {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fuzz/corpus");
    for entry in std::fs::read_dir(corpus).unwrap() {
        let name = entry.unwrap().file_name();
        assert!(fuzz::TARGETS.iter().any(|(target, _)| *target == name), "{name:?} has no target");
    }
}
