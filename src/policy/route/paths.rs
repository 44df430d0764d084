//! The paths of one host: a tree of segments, in which a request's path is looked up once.

use super::Map;
use super::rule::Path;
use std::cmp::Reverse;

/// Nodes by number; 0 is the root, which stands for the empty prefix.
#[derive(Debug)]
pub(super) struct Paths {
    nodes: Vec<Node>,
}

/// A prefix of whole segments.
#[derive(Debug, Default)]
struct Node {
    parent: Option<u32>,
    /// By the next segment.
    children: Map<u32>,
    /// Rules for exactly this path, in their order.
    exact: Vec<u32>,
    /// Rules for this path and what is below it, in their order: prefixes, and expressions that begin with it.
    open: Vec<Rank>,
}

/// The order of rules that are not exact: the longest text first, then expressions before prefixes, then the order of
/// the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Rank {
    length: Reverse<u32>,
    is_prefix: bool,
    rule: u32,
}

impl Rank {
    /// None for exact paths, which come before all others.
    pub(super) fn of(path: &Path, rule: u32) -> Option<Self> {
        let rank = |length: usize, is_prefix| Rank { length: Reverse(length as u32), is_prefix, rule };
        match path {
            Path::Exact(_) => None,
            Path::Prefix(prefix) => Some(rank(prefix.len(), true)),
            Path::Pattern(pattern) => Some(rank(pattern.text().len(), false)),
        }
    }
}

impl Default for Paths {
    fn default() -> Self {
        Paths { nodes: vec![Node::default()] }
    }
}

impl Paths {
    /// Adds a rule; rules come in their order.
    pub(super) fn add(&mut self, path: &Path, rule: u32) {
        let Some(rank) = Rank::of(path, rule) else {
            if let Path::Exact(exact) = path {
                self.node(exact).exact.push(rule);
            }
            return;
        };
        let open = match path {
            Path::Pattern(pattern) => {
                let start = pattern.literal_start();
                let whole = memchr::memrchr(b'/', &start).unwrap_or(0);
                &mut self.node(&start[..whole]).open
            }
            Path::Prefix(prefix) | Path::Exact(prefix) => &mut self.node(prefix).open,
        };
        let at = open.partition_point(|other| *other < rank);
        open.insert(at, rank);
    }

    /// The first rule for the path for which `holds` returns true.
    pub(super) fn find(&self, path: &[u8], holds: impl Fn(u32) -> bool) -> Option<u32> {
        let (deepest, is_whole) = self.walk(path);
        if is_whole {
            let exact = deepest.exact.iter().copied().find(|rule| holds(*rule));
            if exact.is_some() {
                return exact;
            }
        }
        let mut last = None;
        while let Some(rank) = self.next(deepest, last) {
            if holds(rank.rule) {
                return Some(rank.rule);
            }
            last = Some(rank);
        }
        None
    }

    /// The deepest node on the way of a path, and whether it stands for the whole of it.
    fn walk(&self, path: &[u8]) -> (&Node, bool) {
        let mut node = &self.nodes[0];
        let Some(mut rest) = path.strip_prefix(b"/") else { return (node, false) };
        loop {
            let end = memchr::memchr(b'/', rest);
            let segment = end.map_or(rest, |end| &rest[..end]);
            let Some(child) = node.children.get(segment).and_then(|child| self.nodes.get(*child as usize))
            else {
                return (node, false);
            };
            node = child;
            match end {
                Some(end) => rest = &rest[end + 1..],
                None => return (node, true),
            }
        }
    }

    /// The first rank behind `last` on the way from a node to the root.
    fn next<'p>(&'p self, deepest: &'p Node, last: Option<Rank>) -> Option<Rank> {
        let parent = |node: &&'p Node| node.parent.and_then(|parent| self.nodes.get(parent as usize));
        let way = std::iter::successors(Some(deepest), parent);
        let first = |node: &Node| {
            let at = last.map_or(0, |last| node.open.partition_point(|rank| *rank <= last));
            node.open.get(at).copied()
        };
        way.filter_map(first).min()
    }

    /// The node of a prefix, made when it is not there.
    fn node(&mut self, prefix: &[u8]) -> &mut Node {
        let mut at = 0;
        if let Some(inner) = prefix.strip_prefix(b"/") {
            for segment in inner.split(|byte| *byte == b'/') {
                at = self.child(at, segment);
            }
        }
        &mut self.nodes[at as usize]
    }

    fn child(&mut self, parent: u32, segment: &[u8]) -> u32 {
        let next = self.nodes.len() as u32;
        let child = *self.nodes[parent as usize].children.entry(segment.into()).or_insert(next);
        if child == next {
            self.nodes.push(Node { parent: Some(parent), ..Node::default() });
        }
        child
    }
}
