//! The floors of the house: reads the imports of every file of `src` and fails when one points up, or sideways
//! where it must not. Rules that a reader can check by eye are checked here as well.

#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

/// What each room may name besides itself. `main -> cli -> app -> {data | control} -> state -> {policy | http1} ->
/// base`; `sample` and `loadtest` stand beside the balancer.
const MAY_NAME: &[(&str, &[&str])] = &[
    ("main", &["cli"]),
    ("cli", &["app", "sample", "loadtest", "data", "control", "state", "policy", "http1", "base"]),
    ("app", &["data", "control", "state", "policy", "http1", "base", "sample"]),
    ("data", &["state", "policy", "http1", "base"]),
    ("control", &["front", "state", "policy", "http1", "base"]),
    ("front", &["http1", "base"]),
    ("state", &["policy", "http1", "base"]),
    ("sim", &["state", "policy", "http1", "base"]),
    ("policy", &["base"]),
    ("http1", &["base"]),
    ("base", &[]),
    ("sample", &["front", "http1", "base"]),
    ("loadtest", &["base"]),
];

/// Files that are longer than 400 lines before their tests, and why they are not two.
const LONG: &[(&str, &str)] = &[
    (
        "src/control/health.rs",
        "one agent: what is due, what is found and what follows from it share one state",
    ),
    ("src/data/park.rs", "a connection and where it is parked share their atomics; about to be rebuilt"),
    ("src/data/accept.rs", "one thread: what it waits for, accepts and ends share one state"),
    ("src/http1/head.rs", "the heads of requests and of answers share their scan and their limits"),
];

/// The longest that a file of that list may become.
const LONGEST: usize = 560;

/// Every `.rs` file of `src`, with its text.
fn files() -> BTreeMap<PathBuf, String> {
    fn walk(folder: &Path, into: &mut BTreeMap<PathBuf, String>) {
        for entry in fs::read_dir(folder).unwrap().flatten() {
            let path = entry.path();
            if path.is_dir() {
                walk(&path, into);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let text = fs::read_to_string(&path).unwrap();
                into.insert(path, text);
            }
        }
    }
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut all = BTreeMap::new();
    walk(&root.join("src"), &mut all);
    assert!(all.len() > 50, "the sources are found");
    all.into_iter().map(|(path, text)| (path.strip_prefix(root).unwrap().to_owned(), text)).collect()
}

/// The module path of a file: `src/data/park.rs` is `data::park`, `src/lib.rs` is the root.
fn module(path: &Path) -> Vec<String> {
    let inner = path.strip_prefix("src").unwrap().with_extension("");
    let parts: Vec<_> = inner.iter().map(|part| part.to_string_lossy().into_owned()).collect();
    if parts == ["lib"] { Vec::new() } else { parts }
}

/// The text without comments and without what is in quotes, in which paths are only words.
fn code(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for line in text.lines() {
        let mut quoted = false;
        let mut bytes = line.char_indices().peekable();
        let mut kept = String::new();
        while let Some((at, byte)) = bytes.next() {
            match byte {
                '\\' if quoted => _ = bytes.next(),
                '\'' if !quoted && line[at..].starts_with("'\"'") => {
                    bytes.next();
                    bytes.next();
                }
                '"' => quoted = !quoted,
                '/' if !quoted && line[at..].starts_with("//") => break,
                _ if quoted => {}
                other => kept.push(other),
            }
        }
        out.push_str(&kept);
        out.push('\n');
    }
    out
}

/// Every module that the code names by `crate::…` or a chain of `super::`, as paths from the root. Braces are
/// opened: `crate::{a::b, c}` names `a` and `c`.
fn named(module: &[String], code: &str) -> Vec<Vec<String>> {
    let mut found = Vec::new();
    let depth_of_tests = inner_modules(code);
    for (at, _) in code.match_indices("crate::") {
        if !preceded_by_word(code, at) {
            open(&[], &code[at + "crate::".len()..], &mut found);
        }
    }
    for (at, _) in code.match_indices("super::") {
        if preceded_by_word(code, at) || code[..at].ends_with("super::") {
            continue;
        }
        let mut rest = &code[at..];
        let mut base = module.to_vec();
        // In a module within the file (its tests) the first `super` is the file itself.
        let mut inner = depth_of_tests.iter().filter(|span| span.contains(&at)).count();
        while let Some(after) = rest.strip_prefix("super::") {
            match inner {
                0 => _ = base.pop(),
                _ => inner -= 1,
            }
            rest = after;
        }
        open(&base, rest, &mut found);
    }
    found
}

/// The spans of `mod name { … }` in a file.
fn inner_modules(code: &str) -> Vec<std::ops::Range<usize>> {
    let mut spans = Vec::new();
    for (at, _) in code.match_indices("mod ") {
        let rest = &code[at..];
        let Some(brace) = rest.find(['{', ';']).filter(|brace| rest.as_bytes()[*brace] == b'{') else {
            continue;
        };
        if preceded_by_word(code, at) || rest[4..brace].trim().contains(char::is_whitespace) {
            continue;
        }
        let mut depth = 0;
        let end = rest[brace..].char_indices().find_map(|(end, byte)| {
            depth += i32::from(byte == '{') - i32::from(byte == '}');
            (depth == 0).then_some(end)
        });
        spans.push(at..at + brace + end.unwrap_or(rest.len() - brace));
    }
    spans
}

fn preceded_by_word(code: &str, at: usize) -> bool {
    code[..at].ends_with(|before: char| before.is_alphanumeric() || before == '_' || before == '$')
}

/// The paths that begin here.
fn open(base: &[String], rest: &str, found: &mut Vec<Vec<String>>) {
    let Some(inside) = rest.strip_prefix('{') else {
        let word: String = rest.chars().take_while(|byte| byte.is_alphanumeric() || *byte == '_').collect();
        found.push([base, &[word]].concat());
        return;
    };
    let (mut depth, mut start) = (0, 0);
    for (at, byte) in inside.char_indices() {
        match byte {
            '{' => depth += 1,
            '}' if depth > 0 => depth -= 1,
            ',' | '}' if depth == 0 => {
                let item = inside[start..at].trim();
                if !item.is_empty() {
                    open(base, item, found);
                }
                start = at + 1;
                if byte == '}' {
                    return;
                }
            }
            _ => {}
        }
    }
}

/// The faults of a file of this module: what it names above or beside itself.
fn faults(module: &[String], text: &str) -> Vec<String> {
    let Some(room) = module.first() else { return Vec::new() };
    let Some((_, allowed)) = MAY_NAME.iter().find(|(name, _)| name == room) else {
        return vec![format!("the room {room} is on no floor")];
    };
    let rooms = |name: &str| MAY_NAME.iter().any(|(room, _)| *room == name);
    let code = code(text);
    // The binary names the library by its name.
    let code = if room == "main" { code.replace("evenkeel::", "crate::") } else { code };
    let mut wrong: Vec<_> = named(module, &code)
        .into_iter()
        .filter_map(|path| path.into_iter().next())
        .filter(|name| rooms(name) && name != room && !allowed.contains(&name.as_str()))
        .map(|name| format!("{} names {name}", module.join("::")))
        .collect();
    wrong.dedup();
    wrong
}

#[test]
fn no_import_points_up_or_to_the_other_plane() {
    let all = files();
    let wrong: Vec<_> = all.iter().flat_map(|(path, text)| faults(&module(path), text)).collect();
    assert!(wrong.is_empty(), "floors are broken:\n{}", wrong.join("\n"));
}

#[test]
fn a_broken_floor_would_be_found() {
    let check = |module: &[&str], text: &str, expected: &[&str]| {
        let module: Vec<_> = module.iter().map(|part| part.to_string()).collect();
        assert_eq!(faults(&module, text), expected, "{text}");
    };
    check(&["data", "park"], "use crate::control::health;", &["data::park names control"]);
    check(&["control", "health"], "use crate::{base::time, data::Plane};", &["control::health names data"]);
    check(
        &["policy", "pick", "lot"],
        "let x = super::super::super::http1::head::Limits;",
        &["policy::pick::lot names http1"],
    );
    check(&["http1", "head"], "use super::super::policy::pick;", &["http1::head names policy"]);
    check(&["state"], "use crate::app;", &["state names app"]);
    check(&["sample"], "use crate::state::config;", &["sample names state"]);
    check(&["base", "time"], "fn f() { crate::state::stats::count() }", &["base::time names state"]);
    check(&["attic"], "", &["the room attic is on no floor"]);
    check(&["main"], "fn main() { evenkeel::data::run() }", &["main names data"]);
    check(&["data", "park"], "mod tests { use super::*; use super::super::control; }", &[]);
    check(&["data"], "mod tests { use super::super::control; }", &["data names control"]);
    for fine in [
        "use crate::state::table; use super::socket; use super::super::base;",
        "// use crate::control;\n/// [`crate::app`]\nlet s = \"crate::control::x\";",
        "use crate::{state::{a, b}, policy::pick::{self, Pick}};",
        "use mycrate::control::x; use supercrate::app;",
    ] {
        check(&["data", "park"], fine, &[]);
    }
}

#[test]
fn unsafe_code_lives_in_one_room() {
    let is_word = |text: &str| {
        let code = code(text);
        code.match_indices("unsafe").any(|(at, word)| {
            let after = code[at + word.len()..].chars().next().unwrap_or(' ');
            !preceded_by_word(&code, at) && !after.is_alphanumeric() && after != '_'
        })
    };
    assert!(is_word("let x = unsafe { y };") && !is_word("// unsafe\n#![deny(unsafe_code)]"));
    let wrong: Vec<_> = files()
        .into_iter()
        .filter(|(path, text)| is_word(text) && path != Path::new("src/base/sys.rs"))
        .map(|(path, _)| path)
        .collect();
    assert!(wrong.is_empty(), "unsafe outside of base/sys.rs: {wrong:?}");
}

#[test]
fn every_file_says_first_what_it_is_for() {
    let wrong: Vec<_> =
        files().into_iter().filter(|(_, text)| !text.starts_with("//! ")).map(|(path, _)| path).collect();
    assert!(wrong.is_empty(), "these do not begin with a //! line: {wrong:?}");
}

#[test]
fn no_file_is_long_without_a_reason() {
    let mut wrong = Vec::new();
    for (path, text) in files() {
        let is_tests = path.file_stem().is_some_and(|stem| stem == "tests");
        let lines = text
            .lines()
            .take_while(|line| !line.starts_with("#[cfg(test)]") && !line.starts_with("#[cfg(all(test"))
            .count();
        let reason = LONG.iter().find(|(name, _)| Path::new(name) == path);
        match reason {
            _ if is_tests => {}
            None if lines > 400 => wrong.push(format!("{}: {lines} lines before its tests", path.display())),
            Some((name, _)) if lines <= 400 => {
                wrong.push(format!("{name} is short now: take it off the list"))
            }
            Some(_) if lines > LONGEST => {
                wrong.push(format!("{}: {lines} lines, with a reason or not", path.display()))
            }
            _ => {}
        }
    }
    assert!(wrong.is_empty(), "these want to be two, or a reason in this file:\n{}", wrong.join("\n"));
}

#[test]
fn no_module_is_called_mod() {
    assert!(files().keys().all(|path| path.file_name().is_some_and(|name| name != "mod.rs")));
}
