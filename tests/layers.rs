//! The layers: reads the imports of every file of `src` and fails when one points up, or sideways where it must not, or
//! when files below `src/data` form a cycle. Rules that a reader can check by eye are checked here as well.

#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// What each top-level module may name besides itself. `main -> cli -> app -> {data | control} -> state -> {policy | http1} ->
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

/// Files that are longer than [`LONG_LINES`] before their tests: how long they may become, and why they are not two.
const LONG: &[(&str, usize, &str)] = &[
    ("src/http1/forward.rs", 430, "what a hop leaves out of a head and what it adds to it belong together"),
    ("src/state/config/hints.rs", 540, "one table: what other programs call a key, and what to write"),
    (
        "src/state/config/elsewhere.rs",
        450,
        "tables: what other programs call a key, with examples of two lines",
    ),
    ("src/state/config/rules.rs", 455, "what a single value may be: short functions of one kind"),
    ("src/data/worker.rs", 440, "a turn, and what becomes of a connection in it, are in one file"),
    ("src/http1/head.rs", 560, "the heads of requests and of responses share their scan and their limits"),
    ("src/state/server.rs", 600, "what a server is, and what is recorded of it, share their atomics"),
];

/// A file that is longer before its tests needs a reason.
const LONG_LINES: usize = 400;

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

/// The module path of a file: `src/data/h1.rs` is `data::h1`, `src/lib.rs` is the root.
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
        let path = [base, std::slice::from_ref(&word)].concat();
        match rest[word.len()..].strip_prefix("::") {
            Some(further) if !word.is_empty() => open(&path, further, found),
            _ => found.push(path),
        }
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

/// What a file of this module names above or beside itself.
fn violations(module: &[String], text: &str) -> Vec<String> {
    let Some(top) = module.first() else { return Vec::new() };
    let Some((_, allowed)) = MAY_NAME.iter().find(|(name, _)| name == top) else {
        return vec![format!("{top} is in no layer")];
    };
    let is_top = |name: &str| MAY_NAME.iter().any(|(top, _)| *top == name);
    let code = code(text);
    // The binary names the library by its name.
    let code = if top == "main" { code.replace("evenkeel::", "crate::") } else { code };
    let mut wrong: Vec<_> = named(module, &code)
        .into_iter()
        .filter_map(|path| path.into_iter().next())
        .filter(|name| is_top(name) && name != top && !allowed.contains(&name.as_str()))
        .map(|name| format!("{} names {name}", module.join("::")))
        .collect();
    wrong.dedup();
    wrong
}

#[test]
fn no_import_points_up_or_to_the_other_plane() {
    let all = files();
    let wrong: Vec<_> = all.iter().flat_map(|(path, text)| violations(&module(path), text)).collect();
    assert!(wrong.is_empty(), "imports that the layers do not allow:\n{}", wrong.join("\n"));
}

#[test]
fn an_import_that_points_up_would_be_found() {
    let check = |module: &[&str], text: &str, expected: &[&str]| {
        let module: Vec<_> = module.iter().map(|part| part.to_string()).collect();
        assert_eq!(violations(&module, text), expected, "{text}");
    };
    check(&["data", "h1"], "use crate::control::health;", &["data::h1 names control"]);
    check(&["control", "health"], "use crate::{base::time, data::Proxy};", &["control::health names data"]);
    check(
        &["policy", "pick", "weighted"],
        "let x = super::super::super::http1::head::Limits;",
        &["policy::pick::weighted names http1"],
    );
    check(&["http1", "head"], "use super::super::policy::pick;", &["http1::head names policy"]);
    check(&["state"], "use crate::app;", &["state names app"]);
    check(&["sample"], "use crate::state::config;", &["sample names state"]);
    check(&["base", "time"], "fn f() { crate::state::stats::count() }", &["base::time names state"]);
    check(&["attic"], "", &["attic is in no layer"]);
    check(&["main"], "fn main() { evenkeel::data::run() }", &["main names data"]);
    check(&["data", "h1"], "mod tests { use super::*; use super::super::control; }", &[]);
    check(&["data"], "mod tests { use super::super::control; }", &["data names control"]);
    for fine in [
        "use crate::state::table; use super::socket; use super::super::base;",
        "// use crate::control;\n/// [`crate::app`]\nlet s = \"crate::control::x\";",
        "use crate::{state::{a, b}, policy::pick::{self, Pick}};",
        "use mycrate::control::x; use supercrate::app;",
    ] {
        check(&["data", "h1"], fine, &[]);
    }
}

/// The layer of each file of the data plane, as the table in `src/data.rs` has it: rows of `| 2 | [`name`], … |`.
fn data_layers(text: &str) -> BTreeMap<String, usize> {
    let rows = text.lines().filter_map(|line| {
        let (number, files) = line.strip_prefix("//! | ")?.split_once(" | ")?;
        Some((number.trim().parse::<usize>().ok()?, files))
    });
    rows.flat_map(|(layer, files)| {
        let names = files.split("[`").skip(1).filter_map(|rest| rest.split_once("`]"));
        names.map(move |(name, _)| (name.to_owned(), layer))
    })
    .collect()
}

/// The files of the data plane that this one imports outside its tests; the simulation is a test.
fn data_imports(name: &str, text: &str) -> Vec<String> {
    let text = text.split("#[cfg(test)]\nmod tests").next().unwrap();
    let own = ["data".to_owned(), name.to_owned()];
    let paths = named(&own, &code(text)).into_iter().filter(|path| path[0] == "data");
    // `data::Proxy` is above all of its files.
    let mut all: Vec<_> = paths.map(|path| path.get(1).cloned().unwrap_or_default()).collect();
    all.retain(|other| other != name && other != "simulation");
    all.sort();
    all.dedup();
    all
}

/// Imports that point up the table, and cycles. `files` are names and texts.
fn data_violations(table: &str, files: &[(&str, &str)]) -> Vec<String> {
    let layers = data_layers(table);
    let imports: BTreeMap<_, _> =
        files.iter().map(|(name, text)| (name.to_string(), data_imports(name, text))).collect();
    let mut wrong = Vec::new();
    for (name, imported) in &imports {
        let Some(own) = layers.get(name) else {
            wrong.push(format!("{name} is in no layer"));
            continue;
        };
        for other in imported {
            match layers.get(other) {
                Some(layer) if layer <= own => {}
                Some(layer) => wrong.push(format!("{name} ({own}) imports {other} ({layer})")),
                None => wrong.push(format!("{name} imports data::{other}, which is above the files")),
            }
        }
    }
    for name in layers.keys().filter(|name| !imports.contains_key(*name)) {
        wrong.push(format!("there is no {name}"));
    }
    wrong.extend(cycle(&imports).map(|names| format!("a cycle: {}", names.join(" -> "))));
    wrong
}

/// A way from a name back to itself.
fn cycle(imports: &BTreeMap<String, Vec<String>>) -> Option<Vec<String>> {
    fn visit(
        name: &str,
        imports: &BTreeMap<String, Vec<String>>,
        way: &mut Vec<String>,
        done: &mut BTreeSet<String>,
    ) -> Option<Vec<String>> {
        if let Some(at) = way.iter().position(|before| before == name) {
            return Some([&way[at..], &[name.to_owned()]].concat());
        }
        if done.contains(name) {
            return None;
        }
        way.push(name.to_owned());
        let found = imports.get(name).into_iter().flatten().find_map(|next| visit(next, imports, way, done));
        way.pop();
        done.insert(name.to_owned());
        found
    }
    let (mut way, mut done) = (Vec::new(), BTreeSet::new());
    imports.keys().find_map(|name| visit(name, imports, &mut way, &mut done))
}

#[test]
fn files_of_the_data_plane_import_downwards_and_form_no_cycle() {
    let all = files();
    let table = &all[Path::new("src/data.rs")];
    let of_data = all.iter().filter_map(|(path, text)| {
        let module = module(path);
        let is_file = module.len() == 2 && module[0] == "data" && module[1] != "simulation";
        is_file.then(|| (module[1].clone(), text))
    });
    let of_data: Vec<_> = of_data.collect();
    assert!(of_data.len() > 15, "the files are found");
    let of_data: Vec<_> = of_data.iter().map(|(name, text)| (name.as_str(), text.as_str())).collect();
    let wrong = data_violations(table, &of_data);
    assert!(wrong.is_empty(), "src/data does not keep the table in src/data.rs:\n{}", wrong.join("\n"));
}

#[test]
fn a_cycle_or_an_import_upwards_in_the_data_plane_would_be_found() {
    let table =
        "//! | layer | files |\n//! |---|---|\n//! | 0 | [`a`], [`b`] |\n//! | 1 | [`c`] (what it is) |";
    let check = |a: &str, b: &str, c: &str, expected: &[&str]| {
        assert_eq!(data_violations(table, &[("a", a), ("b", b), ("c", c)]), expected, "{a} {b} {c}");
    };
    check("use super::b::X;", "", "use super::{a, b::Y};", &[]);
    check("use crate::data::b;", "use super::a::Z;", "", &["a cycle: a -> b -> a"]);
    check("", "fn f() { super::c::g() }", "", &["b (0) imports c (1)"]);
    check("", "use crate::data::{a, c};", "", &["b (0) imports c (1)"]);
    check(
        "use super::b;",
        "use super::c;",
        "use super::a;",
        &["b (0) imports c (1)", "a cycle: a -> b -> c -> a"],
    );
    check("", "", "use super::Proxy;", &["c imports data::Proxy, which is above the files"]);
    check("", "#[cfg(test)]\nmod tests {\n    use super::super::c;\n}", "use super::b;", &[]);
    assert_eq!(
        data_violations(table, &[("a", ""), ("b", ""), ("d", "")]),
        ["d is in no layer", "there is no c"]
    );
}

#[test]
fn unsafe_code_lives_in_one_file() {
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
        // The simulation is compiled for tests alone.
        let is_test = path.file_stem().is_some_and(|stem| stem == "tests")
            || path.starts_with("src/data/simulation")
            || path == Path::new("src/data/simulation.rs");
        let lines = text
            .lines()
            .take_while(|line| !line.starts_with("#[cfg(test)]") && !line.starts_with("#[cfg(all(test"))
            .count();
        let reason = LONG.iter().find(|(name, ..)| Path::new(name) == path);
        match reason {
            _ if is_test => {}
            None if lines > LONG_LINES => {
                wrong.push(format!("{}: {lines} lines before its tests", path.display()))
            }
            Some((name, ..)) if lines <= LONG_LINES => {
                wrong.push(format!("{name} is short now: take it off the list"))
            }
            Some((_, most, _)) if lines > *most => {
                wrong.push(format!("{}: {lines} lines, with a reason for {most}", path.display()))
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
