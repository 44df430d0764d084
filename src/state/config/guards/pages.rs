//! `error_pages`: what clients get to see of rejections, and of servers' errors.

use super::super::reader::Section;
use super::super::rules;
use super::super::tree::Node;
use super::files::read_file;
use crate::http1::page::Page;
use crate::http1::reason::Reason;
use crate::policy::statuses::Statuses;
use crate::state::stamp::Stamped;
use std::cell::RefCell;
use std::path::Path;

/// The largest page, in bytes: every client that is rejected gets it, and there may be many at once.
const PAGE_MAX: u64 = 1024 * 1024;

/// `error_pages`: what clients get to see of rejections.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ErrorPages {
    /// Inclusive ranges of statuses, and their page.
    pub pages: Vec<(Vec<(u16, u16)>, Page)>,
    /// The page while no server of the pool may get requests, or there is none.
    pub maintenance: Option<Page>,
    /// Sentences may tell what is behind the balancer.
    pub details: bool,
    /// Statuses of servers' responses whose body a page takes the place of.
    pub intercept: Option<Statuses>,
}

impl ErrorPages {
    /// The page for a reason, where the pool has servers or is empty.
    pub fn page(&self, reason: Reason, is_empty: bool) -> Option<&Page> {
        let is_maintenance = reason == Reason::Maintenance || reason == Reason::NoServer && is_empty;
        self.maintenance.as_ref().filter(|_| is_maintenance).or_else(|| self.of_status(reason.status()))
    }

    /// The page that takes the place of the body of a server's response with this status, if one does.
    pub fn instead_of(&self, status: u16) -> Option<&Page> {
        self.intercept.filter(|statuses| statuses.has(status)).and_then(|_| self.of_status(status))
    }

    fn of_status(&self, status: u16) -> Option<&Page> {
        let has = |(low, high): &(u16, u16)| (*low..=*high).contains(&status);
        self.pages.iter().find(|(ranges, _)| ranges.iter().any(has)).map(|(_, page)| page)
    }
}

/// Reads the section.
pub(super) fn read(s: &mut Section<'_, '_>, folder: &Path) -> ErrorPages {
    let named = RefCell::new(Vec::new());
    let pages = ErrorPages {
        pages: s.objects("pages", |s| {
            let statuses = s.required("status", page_statuses);
            let page = s.required("file", page(folder, &named));
            statuses.zip(page)
        }),
        maintenance: s.maybe("maintenance", None, page(folder, &named)),
        details: s.get("details", false, rules::flag),
        intercept: s.maybe("intercept", None, rules::error_statuses),
    };
    s.has_contents(named.take());
    warn_of_unused(s, &pages.pages);
    let has_page = |intercept: &Statuses| {
        (400..=599).any(|status| intercept.has(status) && pages.of_status(status).is_some())
    };
    if pages.intercept.is_some_and(|intercept| !has_page(&intercept)) {
        s.warn(
            "intercept",
            "has no effect: \"pages\" has no page for any of these statuses; add one".to_owned(),
        );
    }
    pages
}

/// The first page for a status is used.
fn warn_of_unused(s: &mut Section<'_, '_>, pages: &[(Vec<(u16, u16)>, Page)]) {
    let has = |ranges: &[(u16, u16)], status: u16| {
        ranges.iter().any(|(low, high)| (*low..=*high).contains(&status))
    };
    for (at, (ranges, _)) in pages.iter().enumerate() {
        let before = pages.get(..at).unwrap_or_default();
        let is_taken = |status: u16| before.iter().any(|(ranges, _)| has(ranges, status));
        if (400..=599).filter(|status| has(ranges, *status)).all(is_taken) {
            let advice = format!(
                "the entry {} is never used: those before it are for all of its statuses; write it before them",
                at + 1
            );
            s.warn("pages", advice);
        }
    }
}

/// Rejections, and responses that pages take the place of, have a status of 400 or more.
fn page_statuses(node: &Node) -> Result<Vec<(u16, u16)>, String> {
    let statuses = rules::statuses(node)?;
    match statuses.iter().all(|(low, _)| *low >= 400) {
        true => Ok(statuses),
        false => Err(format!("{node} is not a status of an error; write 400 to 599, as in \"500-599\"")),
    }
}

/// A page from a file.
fn page(folder: &Path, named: &RefCell<Vec<Stamped>>) -> impl Fn(&Node) -> Result<Page, String> {
    move |node| {
        let file = rules::path(folder)(node)?;
        named.borrow_mut().push(Stamped::now(&file));
        let text = read_file(&file, PAGE_MAX)?;
        let extension = file.extension().and_then(|extension| extension.to_str()).unwrap_or_default();
        // A byte order mark of an editor is no part of the page, and would make JSON invalid.
        let text = text.trim_start_matches('\u{feff}');
        Page::parse(text, &extension.to_ascii_lowercase()).ok_or_else(|| {
            format!("{node} is not a page; write a file whose name ends in .html, .json or .txt")
        })
    }
}
