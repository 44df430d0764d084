//! `docs/http.md` names tests: each of them is there.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a panic is how a test fails")]

use std::fs;
use std::path::Path;

/// The source of all tests of `module`: a test file, a file of the data plane, or a module of the codec or of the shared
/// state with what lies in its folder.
fn source(module: &str) -> String {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let modules = ["src/http1", "src/state", "src/state/route"].map(|folder| root.join(folder).join(module));
    let folder = modules.iter().filter_map(|module| fs::read_dir(module).ok()).flatten();
    let folder = folder.map(|entry| entry.expect("an entry").path());
    let files = [format!("tests/{module}.rs"), format!("src/data/{module}.rs")].map(|file| root.join(file));
    let files = files.into_iter().chain(modules.iter().map(|module| module.with_extension("rs")));
    files.chain(folder).filter_map(|path| fs::read_to_string(path).ok()).collect()
}

/// The line after `#[test]` begins the function.
fn has_test(source: &str, test: &str) -> bool {
    source.split("#[test]").skip(1).any(|after| {
        let rest = after.trim_start().strip_prefix("fn ").and_then(|after| after.strip_prefix(test));
        rest.is_some_and(|rest| rest.starts_with('('))
    })
}

#[test]
fn every_test_that_the_page_names_is_there() {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/http.md");
    let page = fs::read_to_string(page).expect("the page is there");
    let mut count = 0;
    for name in page.split('`').skip(1).step_by(2).filter(|name| !name.contains(' ')) {
        let Some((module, test)) = name.split_once("::") else {
            continue;
        };
        assert!(has_test(&source(module), test), "{name}");
        count += 1;
    }
    assert!(count > 80, "only {count}");
}
