//! What the documents show works: command lines parse, links lead to files, tests that are named exist, whole
//! configurations are accepted, every reason is explained.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test may panic, and so may its helpers")]

mod schema;

use evenkeel::http1::reason::Reason;
use evenkeel::state::config;
use serde_json::Value;
use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Files of tests that documents name and that may not have landed yet. Once there, their tests are looked up.
const COMING: &[&str] = &[];

#[test]
fn every_command_line_parses() {
    let mut count = 0;
    for (document, text) in documents() {
        for line in blocks(&text, "sh").flat_map(|block| block.lines().map(str::to_owned).collect::<Vec<_>>())
        {
            let line = line.split(" # ").next().unwrap_or_default().trim().to_owned();
            let Some(arguments) = arguments(&line) else { continue };
            count += 1;
            let output = Command::new(env!("CARGO_BIN_EXE_evenkeel"))
                .args(&arguments)
                .current_dir(env!("CARGO_MANIFEST_DIR"))
                .output()
                .unwrap();
            assert!(
                output.status.success(),
                "{}: {line}\n{}",
                document.display(),
                String::from_utf8_lossy(&output.stderr)
            );
        }
    }
    assert!(count >= 10, "only {count} command lines were found");
}

#[test]
fn every_link_leads_to_a_file_and_a_heading() {
    for (document, text) in documents() {
        for link in links(&text) {
            if link.contains("://") {
                continue;
            }
            let (path, heading) = link.split_once('#').unwrap_or((&link, ""));
            let target =
                if path.is_empty() { document.clone() } else { document.parent().unwrap().join(path) };
            assert!(target.exists(), "{}: {link} leads nowhere", document.display());
            if !heading.is_empty() {
                let headings = headings(&fs::read_to_string(&target).unwrap());
                assert!(
                    headings.iter().any(|one| one == heading),
                    "{}: {link} names no heading of {headings:?}",
                    document.display()
                );
            }
        }
    }
}

/// The Debian package has the documents, and so what they lead to.
#[test]
fn every_file_that_a_document_leads_to_is_in_the_package() {
    let manifest = fs::read_to_string(root().join("Cargo.toml")).unwrap();
    let assets = manifest.split_once("\nassets = [").unwrap().1.split_once("\n]").unwrap().0;
    let patterns: Vec<&str> =
        assets.lines().filter_map(|line| line.trim().strip_prefix("[\"")?.split('"').next()).collect();
    let is_packed = |file: &str| {
        patterns.iter().any(|pattern| match pattern.split_once('*') {
            Some((begin, end)) => {
                let middle = file.strip_prefix(begin).and_then(|rest| rest.strip_suffix(end));
                middle.is_some_and(|middle| !middle.contains('/'))
            }
            None => *pattern == file,
        })
    };
    for (document, text) in documents() {
        for link in links(&text).into_iter().filter(|link| !link.contains("://")) {
            let path = link.split('#').next().unwrap_or_default();
            let target = document.parent().unwrap().join(path).canonicalize().unwrap();
            let Ok(file) = target.strip_prefix(root().canonicalize().unwrap()) else { continue };
            let file = file.to_str().unwrap();
            assert!(
                path.is_empty() || is_packed(file),
                "{}: {file} is not in the package",
                document.display()
            );
        }
    }
}

#[test]
fn every_test_that_is_named_exists() {
    let sources = sources();
    let mut count = 0;
    for name in ["docs/architecture.md", "docs/http.md"] {
        let Ok(text) = fs::read_to_string(root().join(name)) else { continue };
        for word in quoted(&text) {
            let found = match word.split_once(".rs::") {
                Some((file, test)) if is_word(test) => {
                    let file = format!("{file}.rs");
                    let Ok(source) = fs::read_to_string(root().join(&file)) else {
                        assert!(COMING.contains(&file.as_str()), "{name}: there is no {file}");
                        continue;
                    };
                    source.contains(&format!("fn {test}("))
                }
                // `head::hosts`, as docs/http.md has them.
                None if word.split_once("::").is_some_and(|(room, test)| is_word(room) && is_word(test)) => {
                    let test = word.rsplit("::").next().unwrap_or_default();
                    sources.iter().any(|text| text.contains(&format!("fn {test}(")))
                }
                // A name alone, long enough to be a test's and nothing else's.
                None if is_sentence(word) => sources.iter().any(|text| text.contains(&format!("fn {word}("))),
                _ => continue,
            };
            assert!(found, "{name}: there is no test {word}");
            count += 1;
        }
    }
    assert!(count >= 20, "only {count} names were found");
}

#[test]
fn every_file_of_the_tree_that_is_named_exists() {
    for (document, text) in documents() {
        for word in quoted(&text) {
            let tree = ["src/", "tests/", "docs/", "deploy/", ".ci/"];
            if tree.iter().any(|top| word.starts_with(top)) && !word.contains(char::is_whitespace) {
                let file = word.split("::").next().unwrap_or_default();
                let there = root().join(file).exists() || COMING.contains(&file);
                assert!(there, "{}: there is no {word}", document.display());
            }
        }
    }
}

#[test]
fn every_whole_configuration_is_accepted() {
    let mut count = 0;
    for name in ["README.md", "docs/configuration.md", "docs/operations.md", "docs/admin-api.md"] {
        let text = fs::read_to_string(root().join(name)).unwrap();
        for block in blocks(&text, "json").filter(|block| block.starts_with("{\n")) {
            count += 1;
            if let Err(faults) = config::parse(&block, Path::new("")) {
                panic!("{name}: {}\n{block}", faults[0]);
            }
        }
    }
    assert!(count >= 2, "only {count} configurations were found");
    for entry in fs::read_dir(root().join("deploy")).unwrap() {
        let path = entry.unwrap().path();
        // The dashboard is Grafana's.
        if path.extension().is_some_and(|extension| extension == "json") && !path.ends_with("grafana.json") {
            assert!(config::load(&path).is_ok(), "{}", path.display());
        }
    }
}

/// Guides have whole configurations, and rows that say in ours what another program says.
#[test]
fn every_configuration_of_the_guides_is_accepted() {
    let (mut whole, mut rows) = (0, 0);
    // Passwords are read with the configuration.
    let folder = tempfile::tempdir().unwrap();
    for users in ["users.htpasswd", "registry.htpasswd"] {
        fs::write(folder.path().join(users), format!("ann:{}\n", bcrypt::hash("open", 4).unwrap())).unwrap();
    }
    for (document, text) in documents().iter().filter(|(path, _)| path.parent().unwrap().ends_with("guides"))
    {
        for block in blocks(text, "json") {
            let faults = config::parse(&block, folder.path()).err().unwrap_or_default();
            assert!(faults.is_empty(), "{}: {}", document.display(), faults[0]);
            whole += 1;
        }
        for cell in
            text.lines().filter(|line| line.starts_with("| ")).filter_map(|line| line.split(" | ").nth(1))
        {
            for code in cell
                .split('`')
                .skip(1)
                .step_by(2)
                .filter(|code| code.starts_with('"') && code.contains("\": "))
            {
                let code = format!("{{ {} }}", code.replace('…', ""));
                serde_json::from_str::<Value>(&code).unwrap_or_else(|error| panic!("{code}: {error}"));
                rows += 1;
            }
        }
    }
    assert!(whole >= 4 && rows >= 30, "{whole} configurations, {rows} rows");
}

/// The configuration in the ConfigMap, as a pod reads it.
#[test]
fn the_configuration_for_kubernetes_is_accepted() {
    let text = fs::read_to_string(root().join("deploy/kubernetes/configmap.yaml")).unwrap();
    let lines = text.lines().skip_while(|line| line.trim() != "config.json: |").skip(1);
    let block: Vec<&str> = lines.map(|line| line.strip_prefix("    ").unwrap_or(line)).collect();
    let config = config::parse(&block.join("\n"), Path::new("/etc/evenkeel"))
        .unwrap_or_else(|faults| panic!("{}", faults[0]));
    let deployment = fs::read_to_string(root().join("deploy/kubernetes/deployment.yaml")).unwrap();
    let grace = deployment.split("terminationGracePeriodSeconds: ").nth(1).unwrap().lines().next().unwrap();
    let needed = config.timeouts.shutdown_delay + config.timeouts.drain;
    assert!(grace.parse::<u64>().unwrap() > needed.as_secs(), "{grace} s, {needed:?}");
}

#[test]
fn the_first_configuration_is_the_seeds() {
    let seed = r#"{"load_balancer": {"load_balancer_port": "8000"}, "servers": {"queue_capacity": 1000},
        "threadpool": {"min_workers": 1, "max_workers": 50, "queue_capacity": 100}}"#;
    let ours = fs::read_to_string(root().join("config.json")).unwrap();
    let read = |text: &str| serde_json::from_str::<Value>(text).unwrap();
    assert_eq!(read(&ours), read(seed));
}

#[test]
fn every_reason_is_explained() {
    let text = fs::read_to_string(root().join("docs/operations.md")).unwrap();
    for reason in Reason::ALL {
        let name = format!("`{}`", reason.name());
        let row = format!("- **{} `", reason.status());
        let is_its_row =
            |line: &str| line.contains(&name) && (reason.status() < 500 || line.starts_with(&row));
        assert!(
            text.lines().any(is_its_row),
            "docs/operations.md does not explain {name}, {}",
            reason.status()
        );
    }
}

#[test]
fn every_endpoint_of_the_admin_api_is_described() {
    let source = fs::read_to_string(root().join("src/control/admin/api.rs")).unwrap();
    let index = source.split("const INDEX").nth(1).unwrap().split("\";\n").next().unwrap();
    let text = fs::read_to_string(root().join("docs/admin-api.md")).unwrap();
    let mut count = 0;
    for line in index.lines() {
        let mut words = line.split_whitespace();
        let (Some(method), Some(path)) = (words.next(), words.next()) else { continue };
        if !["GET", "POST", "PATCH", "DELETE"].contains(&method) {
            continue;
        }
        let (method, path) = (format!("`{method}"), format!("{path}`"));
        let is_its_row =
            |line: &str| line.starts_with("- **`") && line.contains(&method) && line.contains(&path);
        assert!(text.lines().any(is_its_row), "docs/admin-api.md has no row for {method} {path}");
        count += 1;
    }
    assert!(count >= 19, "only {count} endpoints were found");
}

/// The table of alerts, the rules and their unit tests have the same alerts.
#[test]
fn every_alert_is_described_and_has_a_unit_test() {
    let names = |file: &str, before: &str| -> BTreeSet<String> {
        let text = fs::read_to_string(root().join(file)).unwrap();
        let after =
            text.split(before).skip(1).map(|rest| rest.chars().take_while(char::is_ascii_alphanumeric));
        after.map(|name| format!("Evenkeel{}", name.collect::<String>())).collect()
    };
    let rules = names("deploy/alerts.yml", "alert: Evenkeel");
    assert!(rules.len() >= 16, "{rules:?}");
    assert_eq!(names("docs/metrics.md", "- **`Evenkeel"), rules);
    assert_eq!(names("deploy/alerts.test.yml", "alertname: Evenkeel"), rules);
}

#[test]
fn the_readme_says_how_the_tests_are_run() {
    let readme = fs::read_to_string(root().join("README.md")).unwrap();
    let tests = readme.split("\n## Tests\n").nth(1).expect("the README has a heading Tests");
    assert!(tests.trim_start().starts_with("```sh\ncargo test"), ".ci/run takes the command from there");
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// README and everything in docs.
fn documents() -> Vec<(PathBuf, String)> {
    let folders = [root().join("docs"), root().join("docs/guides")];
    let docs =
        folders.iter().flat_map(|folder| fs::read_dir(folder).unwrap()).map(|entry| entry.unwrap().path());
    let is_document = |path: &PathBuf| path.extension().is_some_and(|extension| extension == "md");
    let all = docs.filter(is_document).chain([root().join("README.md")]);
    all.map(|path| (path.clone(), fs::read_to_string(path).unwrap())).collect()
}

/// All Rust sources of the library and the tests, this file left out.
fn sources() -> Vec<String> {
    let mut folders = vec![root().join("src"), root().join("tests")];
    let mut texts = Vec::new();
    while let Some(folder) = folders.pop() {
        for path in fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()) {
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                texts.push(fs::read_to_string(path).unwrap());
            }
        }
    }
    texts
}

/// The insides of fenced blocks of a language.
fn blocks(text: &str, language: &str) -> impl Iterator<Item = String> {
    let start = format!("```{language}\n");
    let insides = text.split(&start).skip(1).map(|rest| rest.split("\n```").next().unwrap_or_default());
    insides.map(str::to_owned).collect::<Vec<_>>().into_iter()
}

/// The arguments for a look whether a line parses: its own, and the request for help last, which makes every
/// command stop there. A wrong flag or value before it is still reported.
fn arguments(line: &str) -> Option<Vec<String>> {
    let mut words = shell_words(line).into_iter();
    let rest: Vec<String> = match (words.next()?.as_str(), line.strip_prefix("cargo run --release -- ")) {
        ("evenkeel", _) => words.collect(),
        (_, Some(rest)) => shell_words(rest),
        _ => return None,
    };
    Some(
        rest.into_iter()
            .take_while(|word| !["|", "&", ">"].contains(&word.as_str()))
            .chain(["--help".to_owned()])
            .collect(),
    )
}

/// Words as a shell would split them; quotes hold words together.
fn shell_words(line: &str) -> Vec<String> {
    let mut words = vec![String::new()];
    let mut quote = None;
    for character in line.chars() {
        match (quote, character) {
            (None, '\'' | '"') => quote = Some(character),
            (Some(open), _) if open == character => quote = None,
            (None, ' ') => words.push(String::new()),
            _ => words.last_mut().unwrap().push(character),
        }
    }
    words.retain(|word| !word.is_empty());
    words
}

/// Targets of `[text](target)`.
fn links(text: &str) -> Vec<String> {
    let targets = text.split("](").skip(1).filter_map(|rest| rest.split_once(')'));
    targets.map(|(target, _)| target.to_owned()).collect()
}

/// The anchors that headings have, as the usual renderers make them.
fn headings(text: &str) -> Vec<String> {
    let lines = text.lines().filter(|line| line.starts_with('#'));
    let titles = lines.map(|line| line.trim_start_matches('#').trim().to_lowercase());
    let kept = |title: String| {
        title.chars().filter(|c| c.is_alphanumeric() || " -_".contains(*c)).collect::<String>()
    };
    titles.map(kept).map(|title| title.replace(' ', "-")).collect()
}

/// What stands between backticks, outside fenced blocks.
fn quoted(text: &str) -> Vec<&str> {
    let plain = text.split("```").step_by(2);
    plain.flat_map(|part| part.lines().flat_map(|line| line.split('`').skip(1).step_by(2))).collect()
}

fn is_word(text: &str) -> bool {
    !text.is_empty() && text.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_')
}

fn is_sentence(word: &str) -> bool {
    is_word(word) && word.matches('_').count() >= 3 && !word.starts_with("evenkeel_")
}
